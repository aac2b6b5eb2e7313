"""What all families of a run share: policy, calendar, rules, providers, and what is known of the organisation's CRM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connector.domain.calendar import Calendar
from connector.domain.model import LicenseChangeLog, ParentLog, ProvisioningStatus, Snapshot, SubscriptionId
from connector.domain.policy import Limits, Policy
from connector.domain.rules.registry import Environment, RuleBook
from connector.sync.gather import Providers
from connector.sync.ports import Journal

_OBSERVED = "observed:parent_log"


class Observed:
    """What the organisation does with the parent's log: declared in the configuration, or observed once and kept.

    Never inferred from one family's odd row: only what the CRM does in answer to a write of ours counts, seen in the very
    request that wrote. Thread-safe, since it only ever goes from unknown to one value.
    """

    def __init__(self, declared: ParentLog | None, journal: Journal) -> None:
        self._declared = declared
        self._journal = journal
        kept = None if declared is not None else journal.recall(_OBSERVED)
        self._seen = ParentLog(kept) if kept in {each.value for each in ParentLog} else None

    @property
    def parent_log(self) -> ParentLog | None:
        """What it does; None if nobody declared it and it was not seen yet."""
        return self._declared or self._seen

    def note(self, made: Sequence[LicenseChangeLog], delta: int) -> None:
        """``made`` are the parent's logs that a raise by ``delta`` seats brought, read in the same request."""
        if self._declared is not None or self._seen is not None:
            return
        own = [log for log in made if log.quantity == delta]
        if len(own) != 1:
            return
        aside = own[0].status is ProvisioningStatus.NOT_APPLICABLE
        self._seen = ParentLog.NOT_APPLICABLE if aside else ParentLog.MAKES
        self._journal.remember(_OBSERVED, self._seen.value)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all families of a run share."""

    run_id: str
    holder: str
    policy: Policy
    calendar: Calendar
    rules: RuleBook
    providers: Providers
    marker_capacity: int
    message_length: int
    observed: Observed
    pushes: bool | None
    limits: Limits
    deadline: datetime
    """Nothing waits beyond this instant."""
    new_id: Callable[[], str]
    """Gives request ids: random, so that none is ever sent twice."""
    lease_seconds: float = 600.0
    brake: Callable[[], str | None] = field(default=lambda: None)
    """Why the run is to end; None if it may go on."""
    addons_first: Mapping[SubscriptionId, str] = field(default_factory=dict)
    """Base → the add-on of this pass that has to give seats back before it."""

    def environment(self, snapshot: Snapshot, now: datetime) -> Environment:
        """The environment of a decision about this family."""
        provider = snapshot.parent.provider if snapshot.parent is not None else None
        handle = self.providers.get(provider) if provider is not None else None
        return Environment(
            self.policy,
            self.calendar,
            now,
            handle.capabilities if handle else None,
            self.marker_capacity,
            self.observed.parent_log,
            self.pushes,
            addon_first=self.addons_first.get(snapshot.parent.id) if snapshot.parent is not None else None,
        )
