"""Connectors that are wrong on purpose, each in one of the classic ways. The harness must find every one of them out.

Left alone, all three do what is right: only a fault or a person at the wrong moment shows what they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from connector.domain.model import NotAtProvider, ProviderSubscription, ProvisioningStatus
from connector.domain.plan import Acknowledge, Action, FamilyDecision, SetProviderQuantity
from connector.errors import OutcomeUnknown
from connector.sync.outcome import FamilyOutcome
from connector.sync.ports import Fulfilment, LogUpdate
from connector.sync.provisioning import Provisioning
from connector.sync.unit_of_work import UnitOfWork
from tests.harness.bench import Bench


class AppliesDeltas(UnitOfWork):
    """Adds what is still to be acknowledged to whatever the provider has, instead of setting what it shall have."""

    _added = False

    def _decide(self) -> FamilyDecision:
        decision = super()._decide()
        told = next((found for found in decision.actions if isinstance(found, Acknowledge)), None)
        view, parent = self._snapshot.provider, self._snapshot.parent
        if self._added or told is None or not isinstance(view, ProviderSubscription) or parent is None:
            return decision
        delta = sum(log.quantity or 0 for log in told.child_logs)
        if delta == 0 or any(isinstance(found, SetProviderQuantity) for found in decision.actions):
            return decision
        assert parent.provider is not None
        names = tuple(log.id for log in told.child_logs)
        more = SetProviderQuantity(parent.provider, view.tenant, view.id, view.quantity, view.quantity + delta, names)
        at = decision.actions.index(told)
        return replace(decision, actions=(*decision.actions[:at], more, *decision.actions[at:]))

    def _provision(self, action: SetProviderQuantity) -> FamilyOutcome | None:
        outcome = super()._provision(action)
        self._added = self._added or any(effect.kind == "provider.quantity" for effect in self._effects)
        return outcome


class AcknowledgesFirst(UnitOfWork):
    """Tells parent and children that they are provisioned, and then goes and provisions."""

    def _take(self, decision: FamilyDecision, action: Action) -> FamilyOutcome | None:
        told = next((found for found in decision.actions if isinstance(found, Acknowledge)), None)
        if not isinstance(action, SetProviderQuantity) or told is None:
            return super()._take(decision, action)
        handle = self._context.providers[action.provider]
        assert handle.fulfilment is not None
        fresh = handle.fulfilment.get_subscription(action.tenant, action.subscription)
        assert not isinstance(fresh, NotAtProvider)
        if fresh.quantity != action.before:
            self._snapshot = replace(self._snapshot, provider=fresh)
            return super()._take(decision, action)
        logs = (*told.parent_logs, *told.child_logs)
        self._commit(LogUpdate(log.id, log.etag, ProvisioningStatus.PROVISIONED, "") for log in logs)
        work = Provisioning(self._journal, self._clock, handle.fulfilment, self._context.run_id, self._family)
        work.set_quantity(replace(self._snapshot, provider=fresh), action)
        self._refresh()
        return None


class _SendsAgain:
    """In front of Partner Center: a write whose answer was lost is simply sent again, as a new one."""

    def __init__(self, inner: Fulfilment) -> None:
        self._inner: Any = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        try:
            return self._inner.set_quantity(tenant, subscription_id, **asked)
        except OutcomeUnknown:
            fresh = self._inner.get_subscription(tenant, subscription_id)
            assert not isinstance(fresh, NotAtProvider)
            return self._inner.set_quantity(
                tenant, subscription_id, expected=fresh, quantity=asked["quantity"], request_id=str(uuid4())
            )


class DeltaBench(Bench):
    """Runs the connector that applies deltas."""

    unit_of_work = AppliesDeltas


class AcknowledgeFirstBench(Bench):
    """Runs the connector that acknowledges first."""

    unit_of_work = AcknowledgesFirst


class BlindRetryBench(Bench):
    """Runs the connector that sends a lost write again without looking."""

    def wrap(self, fulfilment: Fulfilment) -> Fulfilment:
        wrapped: Any = _SendsAgain(fulfilment)
        found: Fulfilment = wrapped
        return found
