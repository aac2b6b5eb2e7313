"""What became of the families of one pass, and of the pass: values that reports show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from connector.domain.calendar import Calendar
from connector.domain.decision import Decision, Objection
from connector.domain.model import LogId, Snapshot, SubscriptionId
from connector.domain.plan import FamilyDecision, Plan
from connector.domain.saved import SavedFamily
from connector.errors import ConnectorError, ExitCode


class FamilyState(StrEnum):
    """How a family ended. ``DEFERRED`` and ``BUSY`` go by themselves later; the last six need somebody to look."""

    DONE = "done"
    NOTHING = "nothing to do"
    WAITING = "waiting"
    DEFERRED = "deferred"
    BUSY = "busy"
    NOT_STARTED = "not started"
    REFUSED = "refused"
    HELD = "held"
    FAILED = "failed"
    UNKNOWN = "unknown"
    STOPPED = "stopped by a safety limit"
    STALE = "stale"


NEEDS_ATTENTION = frozenset(
    {
        FamilyState.REFUSED,
        FamilyState.HELD,
        FamilyState.FAILED,
        FamilyState.UNKNOWN,
        FamilyState.STOPPED,
        FamilyState.STALE,
    }
)
TRY_LATER = frozenset({FamilyState.DEFERRED, FamilyState.BUSY, FamilyState.NOT_STARTED})


@dataclass(frozen=True, slots=True)
class Effect:
    """One write that was confirmed by the service it went to."""

    kind: str
    text: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FamilyOutcome:
    """The end of one family's unit of work. ``effects`` are confirmed writes only, in order."""

    family: SubscriptionId
    name: str
    state: FamilyState
    effects: tuple[Effect, ...] = ()
    decisions: Mapping[LogId, Decision] = field(default_factory=dict)
    log_names: Mapping[LogId, str] = field(default_factory=dict)
    reason: str = ""
    remedy: str = ""
    rule: str = ""
    until: datetime | None = None
    notices: tuple[Objection, ...] = ()


class Progress:
    """Told what a pass is doing; the command line shows it, everything else ignores it."""

    def stage(self, text: str) -> None:
        """A new stage began."""

    def families(self, total: int) -> None:
        """So many families will be worked on."""

    def family_done(self, outcome: FamilyOutcome) -> None:
        """One family ended."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a pass planned and what became of it. ``error`` is what ended it early, if anything did."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    dry_run: bool
    plan: Plan
    time_zone: str
    outcomes: tuple[FamilyOutcome, ...] = ()
    error: ConnectorError | None = None
    requests: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    oldest_waiting: tuple[LogId, datetime] | None = None
    """The child log that has waited longest when the pass ended, and since when; dated changes do not wait yet."""
    saved_families: tuple[SavedFamily, ...] = ()
    """What a plan file keeps of the families that would change; only of a pass that was asked for it."""

    @classmethod
    def ended_early(
        cls,
        run_id: str,
        started_at: datetime,
        finished_at: datetime,
        error: ConnectorError,
        dry_run: bool,
        requests: Mapping[str, Mapping[str, int]],
    ) -> RunResult:
        """A run that ended before it could plan anything."""
        return cls(run_id, started_at, finished_at, dry_run, Plan(()), "UTC", (), error, requests)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of design §8."""
        if self.error is not None:
            return self.error.exit_code
        if self.dry_run:
            return _plan_code(self.plan)
        states = {outcome.state for outcome in self.outcomes}
        if FamilyState.STOPPED in states:
            return ExitCode.SAFETY_LIMIT
        if FamilyState.STALE in states:
            return ExitCode.STALE_PLAN
        if states & NEEDS_ATTENTION:
            return ExitCode.FAMILIES_NEED_ATTENTION
        return ExitCode.TRY_LATER if states & TRY_LATER else ExitCode.DONE


def _plan_code(plan: Plan) -> ExitCode:
    troubled = [family for family in plan.families if family.needs_attention]
    if any(not family.is_retryable for family in troubled):
        return ExitCode.FAMILIES_NEED_ATTENTION
    return ExitCode.TRY_LATER if troubled else ExitCode.DONE


@dataclass(frozen=True, slots=True)
class Explanation:
    """One family as it is now, what is decided about it, and what would be if its failed child logs were retried."""

    family: Snapshot
    decision: FamilyDecision
    retried: FamilyDecision
    calendar: Calendar
    now: datetime
    asked: SubscriptionId
    asked_log: LogId | None = None

    def decision_on(self, log_id: LogId) -> Decision | None:
        """The decision on one open log; for a failed one, what a retry would meet."""
        return self.decision.decisions.get(log_id) or self.retried.decisions.get(log_id)
