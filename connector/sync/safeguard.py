"""What stands between a plan and its first write: limits, kill switches, and a saved plan that must still hold.

A run is held against the limits as a whole before anything is sent, and each family once more while it is worked on:
what it wants to do may have grown since the plan was made. An applied plan is held against what was reviewed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol

from connector.domain.digest import Inputs
from connector.domain.model import SubscriptionId
from connector.domain.plan import (
    FamilyDecision,
    Plan,
    SafetyVerdict,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.policy import Limits
from connector.domain.safety import FamilyChange, Source, assess, assess_changes, change_of, in_words, switched_on
from connector.domain.saved import SavedFamily, SavedPlan
from connector.errors import SafetyLimitExceeded, StalePlan
from connector.sync.outcome import Effect, FamilyState
from connector.sync.ports import AuditEntry, Clock, Crm, CrmSettings, Journal

BASELINE = "baseline:linked_subscriptions"
"""Where the number of linked subscriptions is kept that the last finished run saw."""
LOOK_AGAIN = timedelta(seconds=10)
"""How old the CRM's kill switch may be before a family is started; the one in the state directory is never old."""


@dataclass(frozen=True, slots=True)
class Safeguards:
    """How a pass is held back. ``limits`` None means those of the policy.

    ``stop_here`` says which local kill switch is on (None: none); ``switch_name`` is the name of the CRM's.
    ``allowed`` are the limits that a person let this run go beyond: name → what is allowed.
    """

    limits: Limits | None = None
    stop_here: Callable[[], str | None] = field(default=lambda: None)
    switch_name: str = "kill switch"
    allowed: Mapping[str, str] = field(default_factory=dict)
    saved: SavedPlan | None = None


class KillSwitch:
    """Two switches that a person can throw at any time: one in the CRM, one on this host. Either stops."""

    def __init__(self, guards: Safeguards, crm: Crm, clock: Clock, settings: CrmSettings) -> None:
        self._guards = guards
        self._crm = crm
        self._clock = clock
        self._value = settings.kill_switch
        self._seen_at = clock.now()
        self._guard = Lock()

    def reason(self) -> str | None:
        """Which switch is on, None if neither is; reads the CRM's again if the last look is no longer fresh."""
        here = self._guards.stop_here()
        if here is not None:
            return here
        with self._guard:
            if self._clock.now() - self._seen_at >= LOOK_AGAIN:
                self._value, self._seen_at = self._crm.settings().kill_switch, self._clock.now()
            return f"{self._guards.switch_name} = {self._value} in the CRM" if switched_on(self._value) else None


def stopped_by_switch(reason: str) -> SafetyLimitExceeded:
    """The error of a run that a kill switch stops."""
    return SafetyLimitExceeded(
        f"the kill switch is on: {reason}; no family is started",
        hint="whoever may edit that configuration row empties it, or whoever may write to the state directory removes"
        " the file; dry runs and plans go on",
    )


def judge(plan: Plan, limits: Limits, settings: CrmSettings, journal: Journal, kill_switch: str | None) -> Plan:
    """The plan with its verdict."""
    kept = journal.recall(BASELINE)
    before = int(kept) if kept is not None and kept.isascii() and kept.isdigit() else None
    return replace(plan, verdict=assess(plan, limits, Source(settings.linked_subscriptions, before), kill_switch))


def remember_source(journal: Journal, settings: CrmSettings) -> None:
    """Keep how many linked subscriptions this run saw, for the next one to compare. Only written when it changed."""
    if settings.linked_subscriptions is not None and journal.recall(BASELINE) != str(settings.linked_subscriptions):
        journal.remember(BASELINE, str(settings.linked_subscriptions))


def refuse_unsafe(verdict: SafetyVerdict) -> None:
    """Raises SafetyLimitExceeded if a real run must not start."""
    if verdict.kill_switch is not None:
        raise stopped_by_switch(verdict.kill_switch)
    if verdict.violations:
        names = ", ".join(dict.fromkeys(check.limit for check in verdict.violations))
        first = next((check for check in verdict.violations if check.found is not None), None)
        share = "%" if first is not None and first.unit == "%" else ""
        how = f" --allow {first.limit}={first.found}{share}" if first is not None else ""
        raise SafetyLimitExceeded(
            f"the plan goes beyond {names}; nothing was sent",
            problems=[in_words(check) for check in verdict.violations],
            hint=f"look at it: linksub plan --out plan.json. If it is right: linksub apply plan.json{how}",
        )


@dataclass(frozen=True, slots=True)
class Halt:
    """A family goes no further in this run. ``state`` None: all that was to be done is done."""

    state: FamilyState | None
    reason: str = ""
    remedy: str = ""
    rule: str = ""


class Gate(Protocol):
    """Asked before each step of a family."""

    def admit(self, decision: FamilyDecision, effects: Sequence[Effect]) -> Halt | None:
        """Why the decision's first action must not be taken, None if it may. ``effects``: this family's writes so far."""


class WithinLimits:
    """The limits while a run is under way: no family may grow beyond what the whole run may do. Thread-safe."""

    def __init__(self, plan: Plan, limits: Limits) -> None:
        self._limits = limits
        self._changes = {family.family: change_of(family) for family in plan.families}
        self._guard = Lock()

    def admit(self, decision: FamilyDecision, effects: Sequence[Effect]) -> Halt | None:
        """Quantities only; logs may be told what became of them at any time."""
        if not isinstance(decision.actions[0], SetParentQuantity | SetProviderQuantity):
            return None
        with self._guard:
            planned = self._changes.get(decision.family)
            if planned is None:
                planned = FamilyChange(decision.family, decision.family, None)
            now = _as_it_goes(planned, decision, effects)
            if now == planned:
                return None
            others = [change for family, change in self._changes.items() if family != decision.family]
            beyond = [check for check in assess_changes([*others, now], self._limits) if check.is_exceeded]
            if beyond:
                return Halt(
                    FamilyState.STOPPED,
                    "it grew while the run was under way: " + "; ".join(in_words(check) for check in beyond),
                    "look at it: linksub plan",
                )
            self._changes[decision.family] = now
            return None


def _as_it_goes(planned: FamilyChange, decision: FamilyDecision, effects: Sequence[Effect]) -> FamilyChange:
    """The figures of a family with what was done and what is wanted now; never less than what was planned."""
    done = [
        int(str(effect.detail["after"])) - int(str(effect.detail["before"]))
        for effect in effects
        if effect.kind == "provider.quantity"
    ]
    moves = done + [action.delta for action in decision.actions if isinstance(action, SetProviderQuantity)]
    hands = [abs(action.target - action.before) for action in decision.actions if isinstance(action, SetParentQuantity)]
    return replace(
        planned,
        added=max(planned.added, sum(delta for delta in moves if delta > 0)),
        removed=max(planned.removed, -sum(delta for delta in moves if delta < 0)),
        by_hand=max(planned.by_hand, *hands, 0) if decision.awaits_person else planned.by_hand,
        touches_parent=planned.touches_parent or bool(hands),
        settled=planned.settled
        if planned.settled is not None or decision.books is None
        else decision.books.parent_settled,
    )


_AGAIN = "make a new plan, or let a run decide"


class AsReviewed:
    """One family of an applied plan: what was planned, in that order, and nothing else.

    The step in hand may be asked for again (its answer was lost, or somebody touched the row), and steps that such an
    answer turns out to have done are passed over.
    """

    def __init__(self, family: SavedFamily, limits: Gate, read_again: Callable[[], Inputs]) -> None:
        self._family = family
        self._limits = limits
        self._read_again = read_again
        self._at = 0
        self._written_before: int | None = None

    def admit(self, decision: FamilyDecision, effects: Sequence[Effect]) -> Halt | None:
        """Every action must be a planned one that was not passed yet."""
        if self._written_before is None and not effects:
            moves = self._family.moves(self._read_again(), rows_only=True)
            if moves:
                what = "; ".join(map(str, moves))
                return Halt(
                    FamilyState.STALE, f"it moved while the plan was applied: {what}; nothing was written", _AGAIN
                )
        at = self._family.position_of(decision.actions[0], self._at)
        if at is not None:
            if at != self._at or self._written_before is None:
                self._at, self._written_before = at, len(effects)
            return self._limits.admit(decision, effects)
        is_last = self._at == len(self._family.actions) - 1
        if is_last and self._written_before is not None and len(effects) > self._written_before:
            return Halt(None)
        done = "what was written until then stays, and a run brings it to its end" if effects else "nothing was written"
        return Halt(FamilyState.STALE, f"it would now be decided otherwise than was planned; {done}", _AGAIN)


def check_fresh(saved: SavedPlan, now: datetime) -> None:
    """Raises StalePlan when a plan has expired."""
    if now >= saved.expires_at:
        raise StalePlan(
            f"the plan expired at {saved.expires_at.isoformat(timespec='minutes')}",
            hint="make a new plan: linksub plan --out FILE (--expires 2d lets it live longer)",
        )


def check_unmoved(saved: SavedPlan, plan: Plan, inputs: Mapping[SubscriptionId, Inputs]) -> None:
    """Raises StalePlan, naming every family that moved and what moved in it, before anything is written."""
    problems: list[str] = []
    plans = {family.family: family for family in plan.families}
    for family in saved.families:
        if family.family not in inputs or family.family not in plans:
            problems.append(f"{family.name}: it is not there any more")
            continue
        moves = family.moves(inputs[family.family])
        if moves:
            problems.append(f"{family.name}: " + "; ".join(map(str, moves)))
        elif not family.plans_the_same(plans[family.family]):
            problems.append(f"{family.name}: time has passed, and it is decided otherwise now")
    if problems:
        raise stale(problems)


def stale(problems: Sequence[str]) -> StalePlan:
    """The error of a plan that does not fit any more, with everything that moved."""
    return StalePlan("the plan is stale; nothing was sent. What moved since it was made:", problems=problems)


def note_allowances(guards: Safeguards, configured: Limits, journal: Journal, run_id: str, now: datetime) -> None:
    """Write to the audit trail which plan is applied and which limits a person lets it go beyond."""
    if guards.saved is not None:
        detail = {"digest": guards.saved.digest, "created_by": guards.saved.made_with.created_by}
        detail["created_at"] = guards.saved.created_at.isoformat()
        journal.append(AuditEntry(now, run_id, "plan.applied", detail=detail))
    values = configured.model_dump(mode="json")
    for name, value in sorted(guards.allowed.items()):
        key, _, currency = name.partition(".")
        before = values[key].get(currency) if currency else values[key]
        detail_of_limit = {"limit": name, "configured": before, "allowed": value}
        journal.append(AuditEntry(now, run_id, "limit.allowed", detail=detail_of_limit))
