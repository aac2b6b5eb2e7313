"""One pass over all families that have something to do: gather, plan, apply, settle.

A dry run is the same path up to the plan and stops there; it holds no journal and sends no write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfoNotFoundError

from connector.domain.bundle_order import (
    BASE_FIRST,
    is_addon_of,
    plan_in_order,
    predecessors,
    stages,
)
from connector.domain.calendar import Calendar
from connector.domain.decide import decide
from connector.domain.decision import Hold, Wait
from connector.domain.digest import Inputs, action_record, inputs_of
from connector.domain.explain import as_if_retried
from connector.domain.model import ParentLog, Snapshot, SubscriptionId
from connector.domain.plan import Plan
from connector.domain.policy import Limits, Policy
from connector.domain.rules.registry import RuleBook
from connector.domain.saved import SavedFamily, SavedPlan
from connector.errors import ConfigError, ConnectorError, Interrupted, ProtocolError, Rejected, Transient
from connector.sync.context import Observed, RunContext
from connector.sync.families import Workthrough, mistake, not_started, oldest_waiting
from connector.sync.gather import (
    Providers,
    Selection,
    has_something_due,
    read_providers,
    select,
    selection_for,
    snapshots,
)
from connector.sync.knowledge import WATCH
from connector.sync.outcome import Explanation, FamilyOutcome, FamilyState, Progress, RunResult
from connector.sync.ports import Clock, Crm, CrmSettings, Journal
from connector.sync.renewal import unkept
from connector.sync.safeguard import (
    AsReviewed,
    KillSwitch,
    Safeguards,
    WithinLimits,
    check_fresh,
    check_unmoved,
    judge,
    note_allowances,
    refuse_unsafe,
    remember_source,
    stopped_by_switch,
)
from connector.sync.stopping import StopRequest, why_stop
from connector.sync.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

LONGEST_RUN = timedelta(minutes=30)
"""How long the units of a run may wait where the caller sets no deadline."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one pass is run. ``only`` restricts it to one family (the id of its parent or of one of its children).

    From ``stop_before`` on, or once ``stop`` was asked for, no further family is started.
    """

    dry_run: bool = False
    only: SubscriptionId | None = None
    parallel: int = 4
    lease_seconds: float = 600.0
    stop_before: datetime | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    keep_inputs: bool = False
    """Keep what a plan file needs."""
    parent_log: ParentLog | None = None
    """What the organisation's CRM does with a parent's log, as declared; None: it is observed."""
    pushes: bool | None = None
    """Whether the CRM's own engine raises parents, as declared."""


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
    new_id: Callable[[], str]
    """Gives request ids: random, so that none is ever sent twice."""
    guards: Safeguards = field(default_factory=Safeguards)

    def run(self) -> RunResult:
        """One pass. Errors that end it early come back in the result, with what was done until then."""
        started = self.clock.now()
        plan, zone, outcomes = Plan(()), "UTC", list[FamilyOutcome]()
        families: tuple[Snapshot, ...] = ()
        saved: tuple[SavedFamily, ...] = ()
        error: ConnectorError | None = None
        try:
            if self.guards.saved is not None:
                check_fresh(self.guards.saved, started)
            self.progress.stage("reading Dataverse")
            settings = self.crm.settings()
            switch = KillSwitch(self.guards, self.crm, self.clock, settings)
            context = self._context(settings)
            zone = context.calendar.zone.key
            self._stop_between_stages()
            watched = self._watched()
            families = self._gather(context, {*watched, *settings.marked_parents})
            plan = make_plan(families, context, started)
            plan = judge(plan, self._limits, settings, self.journal, switch.reason())
            if self.options.keep_inputs:
                saved = self._saved(context, families, plan, started)
            if not self.options.dry_run:
                self._allow(context, families, plan, started)
                self.progress.families(len(families))
                self._apply(context, families, plan, switch, outcomes, watched)
                remember_source(self.journal, settings)
        except ConnectorError as raised:
            error = raised
        except Exception as raised:
            logger.exception("a mistake of linksub's own", extra={"event": "run.mistake"})
            error = mistake(raised)
        return RunResult(
            self.run_id,
            started,
            self.clock.now(),
            self.options.dry_run,
            plan,
            zone,
            tuple(sorted(outcomes, key=lambda outcome: (outcome.name, outcome.family))),
            error,
            oldest_waiting=None if self.options.dry_run else oldest_waiting(families, outcomes, self.clock.now()),
            saved_families=saved,
        )

    @property
    def _limits(self) -> Limits:
        return self.guards.limits or self.policy.limits

    def _saved(
        self, context: RunContext, families: Sequence[Snapshot], plan: Plan, now: datetime
    ) -> tuple[SavedFamily, ...]:
        """The families that would change, with everything that was looked at; and the add-ons for which their decreases wait."""
        actions = {family.family: tuple(map(action_record, family.actions)) for family in plan.families}
        before = predecessors(families, lambda family: context.environment(family, now))
        hold_back = {
            family.subject.id
            for family in families
            if family.parent is not None
            and (base := family.parent.bundle_parent) is not None
            and actions.get(base)
            and family.subject.id in before[base]
        }
        kept: list[SavedFamily] = []
        for family in families:
            subject, read = family.subject, selection_for(family)
            if actions[subject.id] or subject.id in hold_back:
                inputs = inputs_of(family, context.environment(family, now))
                found = SavedFamily(
                    subject.id,
                    subject.name,
                    [*read.parents, *read.singles][0],
                    bool(read.parents),
                    inputs,
                    actions[subject.id],
                )
                kept.append(found)
        return tuple(sorted(kept, key=lambda one: (one.name, one.family)))

    def _allow(self, context: RunContext, families: Sequence[Snapshot], plan: Plan, now: datetime) -> None:
        """Raises StalePlan or SafetyLimitExceeded when nothing may be written at all."""
        if self.guards.saved is not None:
            inputs = {family.subject.id: inputs_of(family, context.environment(family, now)) for family in families}
            check_unmoved(self.guards.saved, plan, inputs)
        note_allowances(self.guards, self.policy.limits, self.journal, self.run_id, self.clock.now())
        refuse_unsafe(plan.verdict)

    def explain(self) -> tuple[Explanation, ...]:
        """Why the family of ``options.only`` stands where it stands; reads only. Raises what reading raises."""
        assert self.options.only is not None, "one family is explained at a time"
        context = self._context(self.crm.settings())
        selection = self._selection_of(self.options.only)
        families = snapshots(self.crm.load_families(selection.parents, selection.singles), selection)
        found: list[Explanation] = []
        for retried in self._read_providers([as_if_retried(one) for one in families], context, always=True):
            family = replace(
                next(one for one in families if one.subject.id == retried.subject.id), provider=retried.provider
            )
            now = self.clock.now()
            env = context.environment(family, now)
            found.append(
                Explanation(
                    family,
                    decide(family, env, self.rules),
                    decide(retried, env, self.rules),
                    env.calendar,
                    now,
                    self.options.only,
                )
            )
        return tuple(found)

    def _context(self, settings: CrmSettings) -> RunContext:
        try:
            calendar = Calendar.of(self.policy, settings.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(
                f"the CRM's default time zone {settings.time_zone!r} is not an IANA zone",
                hint="set policy.time_zone, for example America/New_York",
            ) from error
        deadline = self.options.stop_before or self.clock.now() + LONGEST_RUN
        return RunContext(
            self.run_id,
            self.holder,
            self.policy,
            calendar,
            self.rules,
            self.providers,
            settings.marker_length,
            settings.message_length,
            Observed(self.options.parent_log, self.journal),
            self.options.pushes,
            self._limits,
            deadline,
            self.new_id,
            self.options.lease_seconds,
            lambda: self.options.stop.reason,
        )

    def _watched(self) -> frozenset[SubscriptionId]:
        """Families for which the journal has something open, sent something lately that was not answered, or keeps a
        scheduled change: they are looked at even if nothing is to be done."""
        found = [*self.journal.open_intents(), *self.journal.unanswered(self.clock.now() - WATCH)]
        return frozenset(intent.family for intent in found) | unkept(self.journal)

    def _gather(self, context: RunContext, besides: Collection[SubscriptionId]) -> tuple[Snapshot, ...]:
        if self.guards.saved is not None:
            selection = _selection_in(self.guards.saved)
        elif self.options.only is not None:
            selection = self._selection_of(self.options.only)
        else:
            selection = select(self.crm, self.crm.find_open_logs(), besides)
        if not selection.parents and not selection.singles:
            return ()
        families = snapshots(self.crm.load_families(selection.parents, selection.singles), selection)
        return self._read_providers(families, context)

    def _read_providers(
        self, families: Sequence[Snapshot], context: RunContext, *, always: bool = False
    ) -> tuple[Snapshot, ...]:
        self.progress.stage("reading providers")
        return read_providers(
            families,
            self.providers,
            parallel=self.options.parallel,
            needed=lambda family: always or has_something_due(family, context.calendar, self.clock.now()),
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

    def _apply(
        self,
        context: RunContext,
        families: Sequence[Snapshot],
        plan: Plan,
        switch: KillSwitch,
        outcomes: list[FamilyOutcome],
        watched: frozenset[SubscriptionId],
    ) -> None:
        """Each family is serial in itself; families run beside one another up to a bound. Raises what ended it early."""

        limits = WithinLimits(plan, self._limits)
        addons_first: dict[SubscriptionId, str] = {}
        context = replace(context, brake=lambda: self.options.stop.reason or switch.reason(), addons_first=addons_first)

        def unit(family: Snapshot) -> UnitOfWork:
            reviewed = self.guards.saved.family(family.subject.id) if self.guards.saved is not None else None
            gate = (
                limits if reviewed is None else AsReviewed(reviewed, limits, partial(self._inputs_now, family, context))
            )
            is_watched = family.subject.id in watched
            return UnitOfWork(context, self.crm, self.journal, self.clock, family, gate, watched=is_watched)

        def brake() -> str | None:
            reason = switch.reason()
            if reason is not None:
                raise stopped_by_switch(reason)
            return self._brake()

        work = Workthrough(unit, brake, self.progress)
        before = predecessors(families, lambda family: context.environment(family, self.clock.now()))
        by_id = {family.subject.id: family for family in families}
        try:
            for stage in stages(families, before):
                settled = {outcome.family: outcome for outcome in work.outcomes}
                ready: list[Snapshot] = []
                for family in stage:
                    goes_after = [by_id[each] for each in sorted(before[family.subject.id])]
                    open_ones = _not_settled(family, goes_after, settled)
                    blocker = next((each for each in open_ones if not is_addon_of(each, family)), None)
                    if open_ones and blocker is None:  # its add-ons: it may grow all the same
                        addons_first[family.subject.id] = open_ones[0].subject.name
                    if blocker is not None:
                        work.outcomes.append(_stays_behind(family, settled[blocker.subject.id]))
                    elif before[family.subject.id]:
                        ready += self._again(family, context, work.outcomes)
                    else:
                        ready.append(family)
                error = work.run(ready, self.options.parallel)
                if error is not None:
                    raise error
        finally:
            outcomes.extend(work.outcomes)
            told = {outcome.family for outcome in outcomes}
            left = [family for family in families if family.subject.id not in told]
            outcomes.extend(not_started(family, "the run ended before its turn came") for family in left)
        if self.options.stop.reason is not None:
            raise Interrupted(f"{self.options.stop.reason}: everything in hand was finished")

    def _brake(self) -> str | None:
        return why_stop(self.options.stop, self.clock, self.options.stop_before)

    def _stop_between_stages(self) -> None:
        """Before anything is in hand, a wish to stop is followed at once."""
        reason = self._brake()
        if reason is not None:
            raise Interrupted(f"{reason}: nothing was started")

    def _again(self, family: Snapshot, context: RunContext, outcomes: list[FamilyOutcome]) -> tuple[Snapshot, ...]:
        """A family whose predecessor has just changed, with the provider's word: read again before it is decided. What
        keeps it from being read is its own outcome."""
        try:
            fresh = self._reread(family)
            if fresh is not None:
                return self._read_providers([fresh], context)
            gone = not_started(family, "it disappeared while the run was under way")
            outcomes.append(replace(gone, state=FamilyState.FAILED))
        except Transient as error:
            outcomes.append(not_started(family, str(error)))
        except (Rejected, ProtocolError) as error:
            outcomes.append(replace(not_started(family, str(error)), state=FamilyState.FAILED))
        return ()

    def _inputs_now(self, family: Snapshot, context: RunContext) -> Inputs:
        """What a family is decided from, with its rows read again; empty if it is gone."""
        fresh = self._reread(family)
        return inputs_of(fresh, context.environment(fresh, self.clock.now())) if fresh is not None else {}

    def _reread(self, family: Snapshot) -> Snapshot | None:
        """The family as the CRM has it now, by the way in which it was found."""
        selection = selection_for(family)
        return next(iter(snapshots(self.crm.load_families(selection.parents, selection.singles), selection)), None)


_GOOD = (FamilyState.DONE, FamilyState.NOTHING)


def _not_settled(
    family: Snapshot, before: Sequence[Snapshot], settled: Mapping[SubscriptionId, FamilyOutcome]
) -> list[Snapshot]:
    """The predecessors that did not come to a good end, and add-ons in which a decrease still waits."""
    ends = [(each, end) for each in before if (end := settled.get(each.subject.id)) is not None]
    return [each for each, end in ends if not _is_through(family, each, end)]


def _is_through(family: Snapshot, other: Snapshot, end: FamilyOutcome) -> bool:
    """Whether a predecessor holds nothing back: of an add-on only the decreases count, and a refused one is over."""
    if is_addon_of(other, family):
        return end.state in (*_GOOD, FamilyState.REFUSED) and not _still_shrinks(other, end)
    return end.state in _GOOD


def _still_shrinks(family: Snapshot, outcome: FamilyOutcome) -> bool:
    waits = {log_id for log_id, found in outcome.decisions.items() if isinstance(found, Wait | Hold)}
    return any(log.id in waits and (log.quantity or 0) < 0 for log in family.logs)


def _stays_behind(family: Snapshot, blocker: FamilyOutcome) -> FamilyOutcome:
    subject = family.subject
    return FamilyOutcome(
        subject.id,
        subject.name,
        FamilyState.WAITING,
        reason=f"it goes after {blocker.name!r}, which is {blocker.state.value}: {blocker.reason}",
        remedy="nothing to do here: it goes once that one is settled",
        rule=BASE_FIRST,
    )


def _selection_in(saved: SavedPlan) -> Selection:
    return Selection(
        tuple(sorted(family.read_as for family in saved.families if family.read_with_parent)),
        tuple(sorted(family.read_as for family in saved.families if not family.read_with_parent)),
    )


def make_plan(families: Sequence[Snapshot], context: RunContext, now: datetime) -> Plan:
    """The plan of a pass: pure, and sorted by name and id so that it is the same on every run."""
    plans = plan_in_order(families, lambda family: context.environment(family, now), context.rules)
    return Plan(tuple(sorted(plans, key=lambda plan: (plan.name, plan.family))))
