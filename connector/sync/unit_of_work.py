"""One family's unit of work (design §5): decide, write, read again, decide again, until nothing is left.

Everything is level-triggered: each step is decided on what was just read, quantities are absolute, and the licence change
logs are acknowledged last and all at once. So a crash, a lost answer or a person's edit at any point only means that the
next look finds the world somewhere on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from connector.domain.calendar import Calendar
from connector.domain.decide import decide
from connector.domain.decision import Decision, Hold, Objection
from connector.domain.model import (
    LogId,
    ProviderSubscription,
    ProviderSubscriptionId,
    ProviderView,
    ProvisioningStatus,
    ReducibleBatch,
    Snapshot,
)
from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyDecision,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.policy import Policy
from connector.domain.rounds import simulate
from connector.domain.rules.registry import Environment, RuleBook
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
from connector.sync.endings import MANY_UPDATES, ending_of
from connector.sync.gather import Providers, fulfilment_of, read_one, tenant_of
from connector.sync.outcome import Effect, FamilyOutcome, FamilyState
from connector.sync.ports import AuditEntry, Clock, Crm, FamilyChange, Fulfilment, IntentState, Journal, LogUpdate
from connector.sync.provisioning import Confirmed, Deferred, Provisioning, RefusedByProvider, StillUnknown
from connector.sync.renewal import Kept, Lost, RenewalKeeper
from connector.sync.safeguard import Gate, Halt

logger = logging.getLogger(__name__)

MAX_STEPS = 64
DRIFT_IN_THE_CRM = "LS-015"
"""The hold that is only told after a second look."""
MAX_MOVES = 6
"""How often a family may move under our hands (412, lost answers) before it is left for the next run."""


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
    lease_seconds: float = 600.0

    def environment(self, snapshot: Snapshot, now: datetime) -> Environment:
        """The environment of a decision about this family."""
        provider = snapshot.parent.provider if snapshot.parent is not None else None
        handle = self.providers.get(provider) if provider is not None else None
        return Environment(
            self.policy, self.calendar, now, handle.capabilities if handle else None, self.marker_capacity
        )


Reread = Callable[[], Snapshot | None]
"""Reads the family in the CRM again, whole; None if it is gone."""


class UnitOfWork:
    """Brings one family as far as it can go. Serial; one instance per family and run."""

    def __init__(
        self,
        context: RunContext,
        crm: Crm,
        journal: Journal,
        clock: Clock,
        reread: Reread,
        snapshot: Snapshot,
        gate: Gate | None = None,
    ) -> None:
        self._context = context
        self._crm = crm
        self._journal = journal
        self._clock = clock
        self._reread = reread
        self._snapshot = snapshot
        self._gate = gate
        subject = snapshot.parent or snapshot.children[0]
        self._family, self._name = subject.id, subject.name
        self._effects: list[Effect] = []
        self._log_names: dict[LogId, str] = {}
        self._provider_said_no: str | None = None
        self._lost: str | None = None
        self._provider_is_older, self._parent_is_older = False, False
        self._notices: tuple[Objection, ...] = ()
        self._told: list[Objection] = []

    def run(self) -> FamilyOutcome:
        """Work under the family's lease. Raises AuthError and JournalError, which end the run; all else is an outcome."""
        try:
            with self._journal.lease(
                self._family, self._context.holder, self._clock.now(), self._context.lease_seconds
            ):
                return self._work()
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

    def _work(self) -> FamilyOutcome:
        deferral = self._journal.deferral(self._family)
        if deferral is not None and deferral[0] > self._clock.now():
            return self._outcome(FamilyState.DEFERRED, reason=deferral[1], until=deferral[0])
        moves, looked_again = 0, False
        for _ in range(MAX_STEPS):
            if self._snapshot.incomplete is not None and moves < MAX_MOVES:
                moves += 1
                self._refresh()
                continue
            decision = self._decide()
            self._notices = decision.notices
            self._note_names()
            if not decision.actions:
                if not looked_again and isinstance(decision.stop, Hold) and decision.stop.rule == DRIFT_IN_THE_CRM:
                    # Rows of several tables are read one after the other: somebody who works meanwhile looks like drift.
                    looked_again = True
                    self._refresh()
                    continue
                return self._finish(decision)
            halt = self._gate.admit(decision, self._effects) if self._gate is not None else None
            if halt is not None:
                return self._halted(decision, halt)
            try:
                ended = self._take(decision, decision.actions[0])
            except (PreconditionFailed, OutcomeUnknown) as error:
                moves += 1
                logger.info("family %s: %s; reading it again", self._family, error)
                if moves > MAX_MOVES:
                    raise
                self._refresh()
                continue
            if ended is not None:
                return ended
        return self._outcome(FamilyState.FAILED, reason=f"no rest after {MAX_STEPS} steps", remedy="run again")

    def _decide(self) -> FamilyDecision:
        environment = self._context.environment(self._snapshot, self._clock.now())
        return decide(self._snapshot, environment, self._context.rules)

    def _take(self, decision: FamilyDecision, action: Action) -> FamilyOutcome | None:
        """Take one action; None means: look again."""
        if self._parent_is_older:
            self._refresh()
            return None
        match action:
            case FailLogs():
                # All refusals of one decision go together: after the first alone, another decision might spare the rest.
                refusals = tuple(takewhile(lambda each: isinstance(each, FailLogs), decision.actions))
                self._fail_logs(refusals)
                self._advance(decision, *refusals)
            case SetParentQuantity():
                self._set_parent(action)
                self._refresh()
            case SetProviderQuantity():
                return self._provision(action)
            case ScheduleAtRenewal():
                return self._schedule(action)
            case Acknowledge():
                if self._has_provider_moved():
                    return None
                self._finish_renewal()
                self._acknowledge(action)
                self._advance(decision, action)
        return None

    def _advance(self, decision: FamilyDecision, *actions: Action) -> None:
        """Carry a confirmed write into the snapshot: its rows are not written again, so no read is owed for them."""
        environment = self._context.environment(self._snapshot, self._clock.now())
        self._snapshot = simulate(self._snapshot, replace(decision, actions=actions), environment)

    def _refresh(self) -> None:
        """Read the family of the CRM again; the provider's last word is kept, it is asked again before any write."""
        fresh = self._reread()
        if fresh is None:
            raise ProtocolError(
                f"family {self._family} disappeared while it was worked on",
                service="dataverse",
                operation="read family",
                hint="look at the parent subscription in Work 365",
            )
        self._snapshot = replace(fresh, provider=self._snapshot.provider, at_customer=self._snapshot.at_customer)
        self._provider_is_older, self._parent_is_older = True, False

    def _has_provider_moved(self) -> bool:
        """Ask the provider again if the CRM was read after it: what another host did in between shows in the rows and not
        in the provider's earlier word, and nobody may be told on that."""
        view = self._snapshot.provider
        if not self._provider_is_older or not isinstance(view, ProviderSubscription):
            return False
        fulfilment, tenant = fulfilment_of(self._snapshot, self._context.providers), tenant_of(self._snapshot)
        if fulfilment is None or tenant is None:
            return False
        self._see_provider(read_one(fulfilment, tenant, view.id))
        found = self._snapshot.provider
        return not isinstance(found, ProviderSubscription) or found.quantity != view.quantity

    def _see_provider(self, view: ProviderView) -> None:
        self._snapshot = replace(self._snapshot, provider=view)
        self._provider_is_older = False

    # -- writes ---------------------------------------------------------------------------------------------------

    def _fail_logs(self, actions: Sequence[Action]) -> None:
        """Set logs to Failed, each with its own reason, in one change set."""
        failed = [
            (log, action.message[: self._context.message_length])
            for action in actions
            if isinstance(action, FailLogs)
            for log in action.logs
        ]
        self._commit(LogUpdate(log.id, log.etag, ProvisioningStatus.FAILED, message) for log, message in failed)
        for log, message in failed:
            self._effect("log.failed", f"{self._log_names.get(log.id, log.id)} → Failed: {message}", log_id=log.id)

    def _commit(self, updates: Iterable[LogUpdate]) -> None:
        """Change logs behind the parent's row, whose version moves with that: it is read again before the next step."""
        self._crm.commit(FamilyChange(self._snapshot.parent, updates=tuple(updates)))
        self._parent_is_older = self._snapshot.parent is not None

    def _set_parent(self, action: SetParentQuantity) -> None:
        self._crm.commit(FamilyChange(self._snapshot.parent, action.target, action.order_reference))
        self._effect(
            "parent.quantity",
            f"parent {self._name}: {action.before} → {action.target} seats",
            before=action.before,
            after=action.target,
            carries=list(action.carries),
        )

    def _acknowledge(self, action: Acknowledge) -> None:
        now = self._clock.now()
        logs = (*action.parent_logs, *action.child_logs)
        done = ProvisioningStatus.PROVISIONED
        self._commit(LogUpdate(log.id, log.etag, done, "", provisioned_on=now) for log in logs)
        self._close_intents(now)
        self._journal.clear_deferral(self._family)
        names = ", ".join(self._log_names.get(log.id, log.id) for log in logs)
        self._effect("logs.provisioned", f"Provisioned: {names}", logs=[log.id for log in logs])

    def _close_intents(self, now: datetime) -> None:
        """Close what an earlier pass left open: the provider was read since, so its outcome is known."""
        view = self._snapshot.provider
        for intent in self._journal.open_intents(self._family):
            done = isinstance(view, ProviderSubscription) and view.quantity == intent.target
            if intent.state is not IntentState.PLANNED:
                state = IntentState.CONFIRMED if done else IntentState.REJECTED
                self._journal.mark(intent.id, state, now, "found by a later pass" if done else "the world moved on")
            self._journal.mark(intent.id, IntentState.SETTLED, now, "the family was settled")

    def _provision(self, action: SetProviderQuantity) -> FamilyOutcome | None:
        """Ask the provider again right before the write; write only if that changes nothing."""
        fulfilment, tenant = fulfilment_of(self._snapshot, self._context.providers), tenant_of(self._snapshot)
        assert fulfilment is not None and tenant is not None
        self._see_provider(read_one(fulfilment, tenant, action.subscription))
        again = self._decide()
        confirmed = next((found for found in again.actions if isinstance(found, SetProviderQuantity)), None)
        if confirmed != action or again.actions[0] is not confirmed:
            return None  # the provider is not where it was: look again at what that means
        self._renewal(fulfilment).remember(self._snapshot, confirmed)
        work = Provisioning(self._journal, self._clock, fulfilment, self._context.run_id, self._family)
        match work.set_quantity(self._snapshot, confirmed):
            case Confirmed(view, reason):
                self._snapshot = replace(self._snapshot, provider=view)
                self._effect(
                    "provider.quantity",
                    f"provider: {confirmed.before} → {confirmed.target} seats{reason}",
                    before=confirmed.before,
                    after=confirmed.target,
                    subscription=confirmed.subscription,
                )
                self._finish_renewal()
                self._count_update(confirmed.subscription)
                return None
            case RefusedByProvider(text):
                return self._refused_by_provider(text)
            case Deferred(until, reason):
                self._journal.defer(self._family, until, reason)
                return self._outcome(FamilyState.DEFERRED, reason=reason, until=until)
            case StillUnknown(reason):
                return self._outcome(
                    FamilyState.UNKNOWN, reason=reason, remedy="the next run reads back what happened before it sends"
                )

    def _count_update(self, subscription: ProviderSubscriptionId) -> None:
        """Partner Center may refuse a subscription after some 1,200 updates: tell a person before (rule LS-053)."""
        key = f"updates:{subscription}"
        count = int(self._journal.recall(key) or 0) + 1
        self._journal.remember(key, str(count))
        if count >= MANY_UPDATES:
            reason = (
                f"{count} changes of provider subscription {subscription} so far; errors may come after about 1,200"
            )
            remedy = "buy a second, coterminous subscription of the SKU and link some of the children to it"
            self._told.append(Hold("LS-053", reason, {"updates": count}, remedy))

    def _finish_renewal(self) -> None:
        """Write back the scheduled change that a change of seats deleted, now or in a pass that died."""
        fulfilment, view = fulfilment_of(self._snapshot, self._context.providers), self._snapshot.provider
        if fulfilment is None or not isinstance(view, ProviderSubscription):
            return
        match self._renewal(fulfilment).restore(view):
            case Kept(found):
                self._snapshot = replace(self._snapshot, provider=found)
                self._effect(
                    "provider.schedule",
                    f"provider: the change scheduled for the renewal is kept, at {found.scheduled_quantity} seats",
                    scheduled=found.scheduled_quantity,
                )
            case Lost(reason):
                self._lost = reason

    def _schedule(self, action: ScheduleAtRenewal) -> FamilyOutcome | None:
        """A decrease that cannot go now is promised for the renewal (policy ``refused_decrease: schedule``)."""
        fulfilment = fulfilment_of(self._snapshot, self._context.providers)
        assert fulfilment is not None
        found = self._renewal(fulfilment).schedule(action)
        if isinstance(found, Lost):
            return self._outcome(FamilyState.FAILED, reason=found.reason, rule="LS-043")
        self._snapshot = replace(self._snapshot, provider=replace(found, reducible=self._reducible()))
        self._effect(
            "provider.schedule",
            f"provider: scheduled for the renewal, {action.target} seats",
            scheduled=action.target,
            subscription=action.subscription,
        )
        return None

    def _renewal(self, fulfilment: Fulfilment) -> RenewalKeeper:
        return RenewalKeeper(self._journal, fulfilment, self._clock, self._context.run_id)

    def _reducible(self) -> tuple[ReducibleBatch, ...] | None:
        view = self._snapshot.provider
        return view.reducible if isinstance(view, ProviderSubscription) else None

    def _refused_by_provider(self, text: str) -> FamilyOutcome | None:
        """The provider's final no belongs to the parent: its log fails with the provider's text (rule LS-033)."""
        parent = self._snapshot.parent
        assert parent is not None
        awaiting = tuple(log for log in self._snapshot.logs_of(parent.id) if log.is_awaiting)
        if not awaiting:
            return self._outcome(FamilyState.FAILED, reason=text, rule="LS-033")
        self._provider_said_no = text
        logs = list(awaiting)
        if self._context.policy.child_when_parent_fails == "failed":
            decision = self._decide()
            carried = {log.id for log in decision.books.carried or ()} if decision.books else set()
            logs += [log for log in self._snapshot.logs if log.id in carried and log.is_awaiting]
        action = FailLogs(tuple(logs), text, "LS-033")
        self._fail_logs((action,))
        self._advance(self._decide(), action)
        return None

    # -- endings --------------------------------------------------------------------------------------------------

    def _halted(self, decision: FamilyDecision, halt: Halt) -> FamilyOutcome:
        """Limits or a saved plan let the family go no further."""
        if halt.state is None or self._provider_said_no is not None:
            return self._finish(replace(decision, actions=()))
        return self._outcome(halt.state, decision.decisions, halt.reason, halt.remedy)

    def _finish(self, decision: FamilyDecision) -> FamilyOutcome:
        ending = ending_of(decision, self._effects, provider_said_no=self._provider_said_no, lost=self._lost)
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
        return FamilyOutcome(
            self._family,
            self._name,
            state,
            tuple(self._effects),
            decisions or {},
            dict(self._log_names),
            reason,
            remedy,
            rule,
            until,
            (*self._notices, *self._told),
        )

    def _effect(self, kind: str, text: str, **detail: object) -> None:
        self._effects.append(Effect(kind, text, detail))
        self._journal.append(
            AuditEntry(self._clock.now(), self._context.run_id, kind, self._family, detail={"text": text, **detail})
        )

    def _note_names(self) -> None:
        rows = [*((self._snapshot.parent,) if self._snapshot.parent else ()), *self._snapshot.children]
        names = {row.id: row.name for row in rows}
        for log in self._snapshot.logs:
            if log.is_open and log.quantity is not None:
                self._log_names.setdefault(log.id, f"{names.get(log.subscription_id, '?')} {log.quantity:+d}")
