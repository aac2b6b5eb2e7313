"""A family in hand: its rows and the provider's word as they were last read, and what was done to it so far.

Whoever works on the family writes through here: each change set holds the parent's row, whose version is the family's
fence, and the family is read back in the same request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid5

from connector.domain.decide import decide
from connector.domain.model import LogId, ProvisioningStatus, Snapshot
from connector.domain.plan import FailLogs, FamilyDecision
from connector.domain.rules.registry import Environment
from connector.sync.context import RunContext
from connector.sync.knowledge import Knowledge
from connector.sync.looking import Looking
from connector.sync.outcome import Effect
from connector.sync.ports import AuditEntry, Clock, Crm, FamilyChange, FamilyRows, Journal, LogUpdate, NewLog

_NAMESPACE = UUID("4f2b8a16-70a5-4f0e-8c3b-0d5a4c1e9b77")

OLD = timedelta(seconds=2)
"""How old the provider's word may be when seats are ordered on it: longer than two requests take that go well."""
MOST_TIMES = 5
"""How often one unit of work looks again for that reason alone."""


class FamilyInHand:
    """One family while it is worked on.

    ``is_fresh``: the provider and then the CRM were read, and nothing but one raise of the parent happened since.
    ``confirmed``: quantities that the provider confirmed to this very unit of work.
    """

    def __init__(self, context: RunContext, crm: Crm, journal: Journal, clock: Clock, snapshot: Snapshot) -> None:
        self.context = context
        self.journal = journal
        self.clock = clock
        self.snapshot = snapshot
        subject = snapshot.subject
        self.family, self.name = subject.id, subject.name
        self.knowledge = Knowledge(journal, self.family)
        self.effects: list[Effect] = []
        self.log_names: dict[LogId, str] = {}
        self.confirmed: set[int] = set()
        self.is_fresh = False
        self._is_raised = False
        self._looked_again = 0
        self._crm = crm
        self._looking = Looking(crm, context.providers, clock)

    def look(self) -> None:
        """Read the provider, then the CRM."""
        self.snapshot = self._looking.look(self.snapshot)
        self.is_fresh, self._is_raised = True, False
        self.knowledge.compare(self.snapshot)

    def look_if_old(self) -> bool:
        """Look again if something may have come between; True if so, and then it is decided again.

        Fresh is what was read in this order with nothing else between. A request that had to be sent again takes seconds
        to minutes, in which a person may have changed the provider: then it is read again, a few times at most, so that
        services that are always slow still come to an end.
        """
        if self.is_fresh and (self._looking.age() <= OLD or self._looked_again >= MOST_TIMES):
            return False
        self._looked_again += self.is_fresh
        self.look()
        return True

    def environment(self) -> Environment:
        """What a decision about the family depends on now, besides its rows."""
        now = self.clock.now()
        found = self.context.environment(self.snapshot, now)
        own = self.knowledge.own_targets(now) | self.confirmed
        return replace(found, own_targets=own, mends=frozenset(self.confirmed))

    def decide(self) -> FamilyDecision:
        """What may happen next, on what was last read."""
        return decide(self.snapshot, self.environment(), self.context.rules)

    def commit(self, change: FamilyChange) -> FamilyRows | None:
        """Write one atomic change set and read the family back in the same request; None: it was read anew instead."""
        if change.marker is not None:
            self.journal.note_marker(self.family, change.marker, self.clock.now())
        rows = self._crm.commit(change, then_read=self.snapshot)
        was_fresh, self.is_fresh = self.is_fresh, False
        if rows is None:
            self.look()
            return None
        self.snapshot = self._looking.assembled(rows, self.snapshot, self.snapshot.provider)
        # The provider was read before this, and the CRM after it: one raise leaves that as good as a look, a second one does
        # not, because then the provider's word is three requests old.
        self.is_fresh = was_fresh and change.quantity is not None and not self._is_raised
        self._is_raised = True
        self.knowledge.compare(self.snapshot)
        return rows

    def fail_logs(self, actions: Sequence[FailLogs]) -> None:
        """Set logs to Failed, each with its own reason, in one change set."""
        failed = [(log, each.message[: self.context.message_length]) for each in actions for log in each.logs]
        updates = tuple(LogUpdate(log.id, log.etag, ProvisioningStatus.FAILED, message) for log, message in failed)
        self.commit(FamilyChange(self.snapshot.parent, updates=updates))
        for log, message in failed:
            self.effect("log.failed", f"{self.log_names.get(log.id, log.id)} → Failed: {message}", log_id=log.id)

    def new_log(self, quantity: int, group: str, *, raised_now: bool) -> NewLog:
        """The parent's own log of a raise, to be made by us, with an id that follows from it. One that is made in the very
        change set of the raise is tied to the row that it replaces: a change that is taken back and raised again has a log
        of its own. One that is made up for later has the same id whoever makes it."""
        parent = self.snapshot.parent
        assert parent is not None
        seed = f"{parent.id}|{group}" + (f"|{parent.etag}" if raised_now else "")
        made = LogId(str(uuid5(_NAMESPACE, seed)))
        return NewLog(made, parent.id, parent.customer_id, quantity, parent.name, None)

    def effect(self, kind: str, text: str, **detail: object) -> None:
        """Note a write that was confirmed by the service it went to."""
        self.effects.append(Effect(kind, text, detail))
        self.journal.append(
            AuditEntry(self.clock.now(), self.context.run_id, kind, self.family, detail={"text": text, **detail})
        )

    def note_names(self) -> None:
        """Remember how people call the open logs: once they are closed they are no longer read."""
        rows = [*((self.snapshot.parent,) if self.snapshot.parent else ()), *self.snapshot.children]
        names = {row.id: row.name for row in rows}
        for log in self.snapshot.logs:
            if log.is_open and log.quantity is not None:
                self.log_names.setdefault(log.id, f"{names.get(log.subscription_id, '?')} {log.quantity:+d}")
