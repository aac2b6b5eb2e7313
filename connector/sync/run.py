"""One pass over all families that have something to do: gather, plan, apply, settle.

A dry run is the same path up to the plan and stops there; it holds no journal and sends no write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfoNotFoundError

from connector.domain import marker
from connector.domain.calendar import Calendar
from connector.domain.decide import decide
from connector.domain.explain import as_if_retried
from connector.domain.model import Snapshot, SubscriptionId
from connector.domain.plan import Plan
from connector.domain.policy import Policy
from connector.domain.rounds import plan_family
from connector.domain.rules.registry import RuleBook
from connector.errors import ConfigError, ConnectorError
from connector.sync.gather import Providers, Selection, has_something_due, read_providers, select, snapshots
from connector.sync.outcome import Explanation, FamilyOutcome, Progress, RunResult
from connector.sync.ports import Clock, Crm, Journal
from connector.sync.unit_of_work import RunContext, UnitOfWork

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one pass is run. ``only`` restricts it to one family (the id of its parent or of one of its children)."""

    dry_run: bool = False
    only: SubscriptionId | None = None
    parallel: int = 4
    lease_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything that a pass works with."""

    run_id: str
    holder: str
    crm: Crm
    providers: Providers
    journal: Journal
    clock: Clock
    policy: Policy
    rules: RuleBook
    options: RunOptions
    progress: Progress

    def run(self) -> RunResult:
        """One pass. Errors that end it early come back in the result, with what was done until then."""
        started = self.clock.now()
        plan, zone, outcomes = Plan(()), "UTC", list[FamilyOutcome]()
        error: ConnectorError | None = None
        try:
            self.progress.stage("reading Dataverse")
            context = self._context()
            zone = context.calendar.zone.key
            families = self._gather(context)
            plan = make_plan(families, context, started)
            if not self.options.dry_run:
                self.progress.families(len(families))
                self._apply(context, families, outcomes)
        except ConnectorError as raised:
            error = raised
        return RunResult(
            self.run_id,
            started,
            self.clock.now(),
            self.options.dry_run,
            plan,
            zone,
            tuple(sorted(outcomes, key=lambda outcome: (outcome.name, outcome.family))),
            error,
        )

    def explain(self) -> tuple[Explanation, ...]:
        """Why the family of ``options.only`` stands where it stands; reads only. Raises what reading raises."""
        assert self.options.only is not None, "one family is explained at a time"
        context = self._context()
        selection = self._selection_of(self.options.only)
        families = snapshots(self.crm.load_families(selection.parents, selection.singles), selection)
        found: list[Explanation] = []
        for retried in self._read_providers([as_if_retried(family) for family in families], context):
            family = replace(
                next(one for one in families if subject_of(one) == subject_of(retried)), provider=retried.provider
            )
            env = context.environment(family, self.clock.now())
            found.append(Explanation(family, decide(family, env, self.rules), decide(retried, env, self.rules)))
        return tuple(found)

    def _context(self) -> RunContext:
        settings = self.crm.settings()
        try:
            calendar = Calendar.of(self.policy, settings.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(
                f"the CRM's default time zone {settings.time_zone!r} is not an IANA zone",
                hint="set policy.time_zone, for example America/New_York",
            ) from error
        return RunContext(
            self.run_id,
            self.holder,
            self.policy,
            calendar,
            self.rules,
            self.providers,
            marker.capacity(settings.order_reference_length),
            settings.message_length,
            self.options.lease_seconds,
        )

    def _gather(self, context: RunContext) -> tuple[Snapshot, ...]:
        if self.options.only is not None:
            selection = self._selection_of(self.options.only)
        else:
            selection = select(self.crm, self.crm.find_open_logs())
        if not selection.parents and not selection.singles:
            return ()
        families = snapshots(self.crm.load_families(selection.parents, selection.singles), selection)
        return self._read_providers(families, context)

    def _read_providers(self, families: Sequence[Snapshot], context: RunContext) -> tuple[Snapshot, ...]:
        self.progress.stage("reading providers")
        return read_providers(
            families,
            self.providers,
            parallel=self.options.parallel,
            needed=lambda family: has_something_due(family, context.calendar, self.clock.now()),
        )

    def _selection_of(self, only: SubscriptionId) -> Selection:
        rows = self.crm.load_families([only])
        row = rows.subscriptions.get(only)
        if row is None:
            raise ConfigError(
                f"there is no subscription {only}", hint="--only takes the id of a linked parent or of a child"
            )
        if rows.children.get(only):
            return Selection((only,), ())
        return Selection((row.linked_parent,), ()) if row.linked_parent is not None else Selection((), (only,))

    def _apply(self, context: RunContext, families: Sequence[Snapshot], outcomes: list[FamilyOutcome]) -> None:
        """Each family is serial in itself; families run beside one another up to a bound."""

        def work(family: Snapshot) -> FamilyOutcome:
            unit = UnitOfWork(context, self.crm, self.journal, self.clock, lambda: self._reread(family), family)
            outcome = unit.run()
            self.progress.family_done(outcome)
            return outcome

        if self.options.parallel <= 1 or len(families) <= 1:
            # One by one, so that what was done before an error is kept.
            outcomes.extend(map(work, families))
            return
        _run_parallel(work, families, self.options.parallel, outcomes)

    def _reread(self, family: Snapshot) -> Snapshot | None:
        """The family as the CRM has it now, by the way in which it was found."""
        selection = _selection_for(family)
        return next(iter(snapshots(self.crm.load_families(selection.parents, selection.singles), selection)), None)


def subject_of(family: Snapshot) -> SubscriptionId:
    """The id by which a family goes: its parent's, or that of a child without one."""
    return family.parent.id if family.parent is not None else family.children[0].id


def _selection_for(family: Snapshot) -> Selection:
    if family.parent is not None:
        return Selection((family.parent.id,), ())
    child = family.children[0]
    return Selection((child.linked_parent,), ()) if child.linked_parent is not None else Selection((), (child.id,))


def make_plan(families: Sequence[Snapshot], context: RunContext, now: datetime) -> Plan:
    """The plan of a pass: pure, and sorted by name and id so that it is the same on every run."""
    plans = [plan_family(family, context.environment(family, now), context.rules) for family in families]
    return Plan(tuple(sorted(plans, key=lambda plan: (plan.name, plan.family))))


def _run_parallel(
    work: Callable[[Snapshot], FamilyOutcome],
    families: Sequence[Snapshot],
    parallel: int,
    outcomes: list[FamilyOutcome],
) -> None:
    """Run the families on threads. What ends the run lets the families in hand finish and starts no other."""
    with ThreadPoolExecutor(max_workers=min(parallel, len(families)), thread_name_prefix="family") as pool:
        futures = [pool.submit(work, family) for family in families]
        first: BaseException | None = None
        for future in futures:
            if first is not None:
                future.cancel()
            if future.cancelled():
                continue
            raised = future.exception()
            if raised is None:
                outcomes.append(future.result())
            elif first is None:
                first = raised
                for other in futures:
                    other.cancel()
        if first is not None:
            raise first
