"""One family's unit of work (design §5): look, decide, write, look again, until nothing is left.

Under the family's lease the provider is read first and the CRM second; the parent is raised on that, and read back in the
same request; then it is decided again, and only then is anything ordered. Everything is level-triggered and absolute, and
licence change logs are acknowledged last and all at once, so a crash, a lost answer or a person's edit at any point only
means that the next look finds the world somewhere on the way. Nothing waits under the lease.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile

from connector.domain.decision import Decision
from connector.domain.model import LogId, ProviderSubscription, ProvisioningStatus, Snapshot
from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyDecision,
    MakeParentLog,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.errors import (
    AuthError,
    ConnectorError,
    JournalError,
    LockHeld,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    Transient,
)
from connector.sync.context import RunContext
from connector.sync.endings import ending_of, late_arrival
from connector.sync.in_hand import FamilyInHand
from connector.sync.ordering import Ordering
from connector.sync.outcome import FamilyOutcome, FamilyState
from connector.sync.pauses import Pause, rest
from connector.sync.ports import Clock, Crm, FamilyChange, Journal, LogUpdate
from connector.sync.safeguard import Gate, Halt

logger = logging.getLogger(__name__)

MAX_STEPS = 64
MAX_MOVES = 6
"""How often a family may move under our hands (412, lost answers) before it is left for the next run."""
MAX_MOVES_AFTER_MONEY = 20
"""The same once seats were ordered: what is paid is brought to its end in the same unit, if that can be."""
FOR_A_LOG = timedelta(seconds=60)
"""How long a unit waits for the CRM to make the log of a raise."""


class UnitOfWork:
    """Brings one family as far as it can go. Serial; one instance per family and run."""

    def __init__(
        self,
        context: RunContext,
        crm: Crm,
        journal: Journal,
        clock: Clock,
        snapshot: Snapshot,
        gate: Gate | None = None,
        *,
        watched: bool = False,
    ) -> None:
        """``watched``: the journal has something open for the family, or a sending without an answer, so it is looked at
        even if nothing is to be done."""
        self._context = context
        self._journal = journal
        self._clock = clock
        self._hand = FamilyInHand(context, crm, journal, clock, snapshot)
        self._ordering = Ordering(self._hand)
        self._gate = gate
        self._watched = watched
        self._moves = 0
        self._last: FamilyDecision | None = None

    def run(self) -> FamilyOutcome:
        """Work under the family's lease. Raises AuthError and JournalError, which end the run; all else is an outcome."""
        hand = self._hand
        try:
            decision = self._decide()
            if not self._has_work(decision):
                return self._finish(decision)
            while True:
                with self._journal.lease(
                    hand.family, self._context.holder, self._clock.now(), self._context.lease_seconds
                ):
                    found = self._work()
                if isinstance(found, FamilyOutcome):
                    return found
                if not rest(found, self._clock, self._context.brake, self._context.deadline):
                    return self._deferred(found)
        except LockHeld as error:
            return self._outcome(FamilyState.BUSY, reason=str(error))
        except (AuthError, JournalError):
            raise
        except Transient as error:
            return self._outcome(FamilyState.DEFERRED, reason=str(error), remedy=error.hint or "")
        except OutcomeUnknown as error:
            return self._outcome(FamilyState.UNKNOWN, reason=str(error), remedy="the next run reads back what happened")
        except (Rejected, ProtocolError, PreconditionFailed) as error:
            return self._outcome(FamilyState.FAILED, reason=str(error), remedy=error.hint or "")

    def _has_work(self, decision: FamilyDecision) -> bool:
        """Whether anything may come of a look under the lease. Rows of several tables are read one after the other, so
        drift is told only after a second look."""
        rule = self._context.rules.get(decision.stop.rule) if decision.stop is not None else None
        return bool(
            self._watched
            or decision.actions
            or self._hand.snapshot.incomplete
            or (rule is not None and rule.looks_twice)
        )

    def _work(self) -> FamilyOutcome | Pause:
        hand = self._hand
        deferral = self._journal.deferral(hand.family)
        if deferral is not None and deferral[0] > self._clock.now():
            return self._outcome(FamilyState.DEFERRED, reason=deferral[1], until=deferral[0])
        hand.look()
        for _ in range(MAX_STEPS):
            if hand.snapshot.incomplete is not None and self._moves < MAX_MOVES:
                self._moves += 1
                hand.look()
                continue
            decision = self._decide()
            if not decision.actions:
                return self._at_rest(decision)
            halt = self._gate.admit(decision, hand.effects) if self._gate is not None else None
            if halt is not None:
                return self._halted(decision, halt)
            try:
                ended = self._take(decision, decision.actions[0])
            except (PreconditionFailed, OutcomeUnknown) as error:
                self._moves += 1
                logger.info("family %s: %s; reading it again", hand.family, error)
                if self._moves > (MAX_MOVES_AFTER_MONEY if hand.confirmed else MAX_MOVES):
                    raise
                hand.look()
                continue
            if isinstance(ended, Halt):
                return self._halted(decision, ended)
            if ended is not None:
                return ended
        return self._outcome(FamilyState.FAILED, reason=f"no rest after {MAX_STEPS} steps", remedy="run again")

    def _decide(self) -> FamilyDecision:
        self._last = self._hand.decide()
        self._hand.note_names()
        return self._last

    def _take(self, decision: FamilyDecision, action: Action) -> Halt | Pause | None:
        """Take one action; None means: decide again."""
        hand = self._hand
        match action:
            case FailLogs():
                # All refusals of one decision go together: after the first alone, another decision might spare the rest.
                refusals = takewhile(lambda each: isinstance(each, FailLogs), decision.actions)
                hand.fail_logs([each for each in refusals if isinstance(each, FailLogs)])
            case SetParentQuantity():
                return self._set_parent(decision, action)
            case MakeParentLog():
                log = hand.new_log(action.quantity, action.group, raised_now=False)
                hand.commit(FamilyChange(hand.snapshot.parent, new_log=log))
                hand.effect("log.made", f"log of the parent made: {action.quantity:+d}", quantity=action.quantity)
            case SetProviderQuantity():
                return self._ordering.order(decision, action)
            case ScheduleAtRenewal():
                return self._ordering.schedule(action)
            case Acknowledge():
                return self._acknowledge(decision, action)
        return None

    def _set_parent(self, decision: FamilyDecision, action: SetParentQuantity) -> Halt | Pause | None:
        """Raise the parent, or take a raise back. What it will cost is durable before."""
        hand = self._hand
        parent = hand.snapshot.parent
        assert parent is not None
        if not hand.is_fresh:
            hand.look()
            return None
        waits = self._ordering.left_to_another_run()
        if waits is not None:
            return waits
        beyond = self._ordering.prepare(decision, action)
        if beyond is not None:
            return beyond
        known, delta = {log.id for log in hand.snapshot.logs}, action.target - action.before
        env = hand.environment()
        makes = env.makes_parent_log and delta != 0
        rows = hand.commit(
            FamilyChange(
                parent,
                quantity=action.target,
                marker=str(action.marker),
                new_log=hand.new_log(delta, str(action.marker.groups[-1]), raised_now=True) if makes else None,
            )
        )
        what = "what was stopped is taken back: parent" if action.takes_back else "parent"
        hand.effect(
            "parent.quantity",
            f"{what} {hand.name}: {action.before} → {action.target} seats",
            before=action.before,
            after=action.target,
            carries=list(action.carries),
        )
        if rows is not None and not makes and env.is_automatic:
            made = [log for log in hand.snapshot.logs_of(parent.id) if log.id not in known]
            self._context.observed.note(made, delta)
        return None

    def _acknowledge(self, decision: FamilyDecision, action: Acknowledge) -> Pause | None:
        """Tell the parent and its children, all at once, what the provider has confirmed."""
        hand = self._hand
        view = hand.snapshot.provider
        own = isinstance(view, ProviderSubscription) and view.quantity in hand.confirmed
        if not hand.is_fresh and not own:
            hand.look()
            return None
        waits = self._ordering.unproven(decision, action)
        if waits is not None:
            return waits
        if not action.only_tidies:
            self._ordering.finish_renewal()
        now, seen = self._clock.now(), hand.snapshot
        logs = (*action.parent_logs, *action.child_logs)
        updates = tuple(
            LogUpdate(log.id, log.etag, ProvisioningStatus.PROVISIONED, "", provisioned_on=now) for log in logs
        )
        hand.commit(FamilyChange(seen.parent, marker=str(action.marker), updates=updates))
        self._ordering.close_intents(seen)
        self._journal.clear_deferral(hand.family)
        if logs:
            names = ", ".join(hand.log_names.get(log.id, log.id) for log in logs)
            hand.effect("logs.provisioned", f"Provisioned: {names}", logs=[log.id for log in logs])
        else:
            hand.effect("marker.cleared", "the parent's marker is cleared: what it named is settled")
        return None

    # -- endings --------------------------------------------------------------------------------------------------

    def _at_rest(self, decision: FamilyDecision) -> FamilyOutcome | Pause:
        """Nothing can be done now: wait for what comes by itself, or end."""
        hand, books, now = self._hand, decision.books, self._clock.now()
        parent, stop = hand.snapshot.parent, decision.stop
        raised_at = parent.modified_on if parent is not None else None
        waits_for_log = books is not None and bool(books.without_log) and raised_at is not None
        if waits_for_log and stop is not None and raised_at is not None and now < raised_at + FOR_A_LOG:
            return Pause(now + timedelta(seconds=5), stop.reason, stop.rule, patient=True)
        old = self._ordering.old_read(decision)
        if old is not None:
            return old
        self._ordering.drop("nothing is to be sent")
        late = hand.knowledge.late(now) if self._watched else ()
        self._ordering.close_moot(decision)
        self._ordering.renewal_at_rest(decision)
        arrived = late_arrival(hand.snapshot, decision, late) if self._watched else None
        if arrived is not None:
            return self._outcome(arrived.state, decision.decisions, arrived.reason, arrived.remedy, arrived.rule)
        return self._finish(decision)

    def _deferred(self, pause: Pause) -> FamilyOutcome:
        """What is waited for does not fit into this run."""
        if pause.is_unknown:
            remedy = "the next run reads back what happened before it sends"
            return self._outcome(FamilyState.UNKNOWN, reason=pause.reason, remedy=remedy, rule=pause.rule)
        self._journal.defer(self._hand.family, pause.until, pause.reason)
        return self._outcome(FamilyState.DEFERRED, reason=pause.reason, rule=pause.rule, until=pause.until)

    def _halted(self, decision: FamilyDecision, halt: Halt) -> FamilyOutcome:
        """Limits, a saved plan or the provider let the family go no further."""
        self._ordering.drop("the family was stopped before it was sent")
        if halt.state is None or self._ordering.said_no is not None:
            return self._finish(replace(decision, actions=()))
        return self._outcome(halt.state, decision.decisions, halt.reason, halt.remedy, halt.rule)

    def _finish(self, decision: FamilyDecision) -> FamilyOutcome:
        ordering = self._ordering
        ending = ending_of(decision, self._hand.effects, provider_said_no=ordering.said_no, lost=ordering.lost)
        return self._outcome(ending.state, decision.decisions, ending.reason, ending.remedy, ending.rule, ending.until)

    def broken_by(self, error: BaseException) -> FamilyOutcome:
        """The outcome when an error got out of :meth:`run`: failed, with everything that was confirmed until then."""
        if isinstance(error, ConnectorError):
            return self._outcome(FamilyState.FAILED, reason=str(error), remedy=error.hint or "")
        reason = "out of memory" if isinstance(error, MemoryError) else f"a mistake of linksub's own ({error!r})"
        return self._outcome(FamilyState.FAILED, reason=reason, remedy="run again; what was begun is resumed")

    def _outcome(
        self,
        state: FamilyState,
        decisions: Mapping[LogId, Decision] | None = None,
        reason: str = "",
        remedy: str = "",
        rule: str = "",
        until: datetime | None = None,
    ) -> FamilyOutcome:
        hand = self._hand
        notices = self._last.notices if self._last is not None else ()
        doubt = () if hand.knowledge.doubt is None else (hand.knowledge.doubt,)
        return FamilyOutcome(
            hand.family,
            hand.name,
            state,
            tuple(hand.effects),
            decisions or {},
            dict(hand.log_names),
            reason,
            remedy,
            rule,
            until,
            (*notices, *self._ordering.told, *doubt),
        )
