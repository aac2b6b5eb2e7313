"""One family read again: the provider first, the CRM second, so that what is decided rests on the newer of the two.

A decision that spends money looks at the CRM as it was after the provider was read; the parent's version then fences
what is written (design §5).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from connector.domain.model import NotReported, ProviderView, Snapshot
from connector.errors import ProtocolError
from connector.sync.gather import Providers, fulfilment_of, read_one, selection_for, snapshots, tenant_of
from connector.sync.ports import Clock, Crm, FamilyRows

_MOST_LOOKS = 3
"""How often a family may turn out to be another one than was known, or to be tied to another subscription, in one look."""


class Looking:
    """Reads one family again and again."""

    def __init__(self, crm: Crm, providers: Providers, clock: Clock) -> None:
        self._crm = crm
        self._providers = providers
        self._clock = clock
        self._answered_at = clock.now()

    def age(self) -> timedelta:
        """How long ago the provider answered the last look."""
        return self._clock.now() - self._answered_at

    def look(self, known: Snapshot) -> Snapshot:
        """The family as it is now. Raises ProtocolError if it is gone, and what reading raises."""
        found = known
        for _ in range(_MOST_LOOKS):
            asked = self._whom_to_ask(found)
            view = self._ask(found)
            self._answered_at = self._clock.now()
            rows = self._crm.read_again(found)
            found = self.assembled(rows, found, view)
            # A read that took several requests leaves the provider's word old: somebody may have been there meanwhile.
            if self._whom_to_ask(found) == asked and not rows.in_rounds:
                break
        return found

    def assembled(self, rows: FamilyRows, known: Snapshot, view: ProviderView) -> Snapshot:
        """The snapshot of rows that were just read, with the provider's word. Raises ProtocolError if it is gone."""
        fresh = next(iter(snapshots(rows, selection_for(known))), None)
        if fresh is None:
            subject = known.subject
            raise ProtocolError(
                f"family {subject.id} disappeared while it was worked on",
                service="dataverse",
                operation="read family",
                hint="look at the parent subscription in Work 365",
            )
        return replace(fresh, provider=view, at_customer=known.at_customer)

    def _whom_to_ask(self, family: Snapshot) -> tuple[object, ...]:
        parent = family.parent
        if parent is None:
            return ()
        return (parent.provider, parent.provider_subscription, tenant_of(family))

    def _ask(self, family: Snapshot) -> ProviderView:
        fulfilment, tenant, parent = fulfilment_of(family, self._providers), tenant_of(family), family.parent
        if fulfilment is None or tenant is None or parent is None:
            return NotReported()
        if parent.provider_subscription is None:
            return family.provider
        return read_one(fulfilment, tenant, parent.provider_subscription)
