"""Connectors that are wrong on purpose, by name, each with what gives it away. The campaign must find every one of them.

A wrong one is built in one of two ways, and in no other: another adapter in front of Partner Center (`InFrontOf`), or
another piece of the connector put in place of the right one for as long as the game lasts (`Instead`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock
from uuid import uuid4

import connector.domain.raising
import connector.sync.run
from connector.crm.dataverse import DataverseClient
from connector.domain.carried import Carried, State
from connector.domain.marker import Group, Known, Unreadable, in_order_of_making
from connector.domain.model import LicenseChangeLog, NotAtProvider, ProviderSubscription, ProvisioningStatus
from connector.domain.plan import Acknowledge, Action, FamilyDecision, SetParentQuantity, SetProviderQuantity
from connector.errors import OutcomeUnknown, Transient
from connector.providers.plugin import ProviderPlugin, ProviderServices
from connector.sync.in_hand import FamilyInHand
from connector.sync.pauses import Pause
from connector.sync.ports import FamilyChange, Fulfilment, LogUpdate
from connector.sync.safeguard import Halt
from connector.sync.unit_of_work import UnitOfWork
from tests.support.rig import Wrong


@dataclass(frozen=True)
class Planted:
    """A wrong connector, and the kinds of violations of which at least one must be found."""

    wrong: Wrong
    gives_away: frozenset[str]
    seed: int = 5000
    """Where to begin to look for a game that it loses."""


@dataclass(frozen=True)
class InFrontOf:
    """The connector with another adapter in front of Partner Center."""

    adapter: Callable[[Fulfilment | None], Any]

    def at_work(self) -> AbstractContextManager[None]:
        return nullcontext()

    def plugins(self, right: Mapping[str, ProviderPlugin]) -> Mapping[str, ProviderPlugin]:
        found = right["partner_center"]

        def connect(settings: Mapping[str, object], services: ProviderServices) -> Fulfilment | None:
            fulfilment: Fulfilment = self.adapter(found.connect(settings, services))
            return fulfilment

        return {**right, "partner_center": replace(found, connect=connect)}


@dataclass(frozen=True)
class Instead:
    """The connector with one attribute of a module or class put in place of the right one."""

    owner: Any
    name: str
    other: Callable[[Any], Any]
    """The right one → the wrong one."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with mock.patch.object(self.owner, self.name, self.other(getattr(self.owner, self.name))):
            yield

    def plugins(self, right: Mapping[str, ProviderPlugin]) -> Mapping[str, ProviderPlugin]:
        return right


class _Adapter:
    """Passes everything on."""

    def __init__(self, inner: Fulfilment | None) -> None:
        self._inner: Any = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SendsAgain(_Adapter):
    """A write whose answer was lost is simply sent again, as a new one."""

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        try:
            return self._inner.set_quantity(tenant, subscription_id, **asked)
        except OutcomeUnknown:
            fresh = self._inner.get_subscription(tenant, subscription_id)
            assert not isinstance(fresh, NotAtProvider)
            return self._inner.set_quantity(
                tenant, subscription_id, expected=fresh, quantity=asked["quantity"], request_id=str(uuid4())
            )


class TakesSilenceForDone(_Adapter):
    """A write whose answer was lost counts as done: nobody looks."""

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        try:
            return self._inner.set_quantity(tenant, subscription_id, **asked)
        except (OutcomeUnknown, Transient):
            return replace(asked["expected"], quantity=asked["quantity"])


class ReadsOnce(_Adapter):
    """What the provider said at the beginning of a pass is believed until its end, whatever it was changed to since."""

    def __init__(self, inner: Fulfilment | None) -> None:
        super().__init__(inner)
        self._seen: dict[Any, Any] = {}

    def get_subscription(self, tenant: Any, subscription_id: Any) -> Any:
        found = self._inner.get_subscription(tenant, subscription_id)
        if isinstance(found, NotAtProvider):
            return found
        return replace(found, quantity=self._seen.setdefault(subscription_id, found.quantity))

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        self._seen[subscription_id] = asked["quantity"]
        return self._inner.set_quantity(tenant, subscription_id, **asked)


class SendsOldIds(_Adapter):
    """A write that had no answer goes out under the same request id again, in whatever pass that is."""

    waiting: dict[Any, str] = {}  # noqa: RUF012 - it is the mistake: this outlives the pass

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        asked["request_id"] = self.waiting.setdefault(subscription_id, asked["request_id"])
        found = self._inner.set_quantity(tenant, subscription_id, **asked)
        self.waiting.pop(subscription_id, None)
        return found


def _no_fence(right: Any) -> Any:
    """Acknowledgements fence nothing: each row is named by the version that it has by then, the parent's too."""

    def change_set(self: Any, changes: Sequence[Any], **asked: Any) -> Any:
        if not any("quantity" in name for change in changes for name in change.values):
            changes = [replace(change, etag=_version_of(self, change.path)) for change in changes]
        return right(self, changes, **asked)

    return change_set


def _version_of(client: Any, path: str) -> str:
    read = client._transport.read("GET", path, operation="read", kind="GET", headers={"Accept": "application/json"})
    return str(read.json()["@odata.etag"])


def _deltas(right: Any) -> Any:
    """Adds what is still to be acknowledged to whatever the provider has, instead of setting what it shall have."""

    def decide(self: FamilyInHand) -> FamilyDecision:
        decision: FamilyDecision = right(self)
        told = next((found for found in decision.actions if isinstance(found, Acknowledge)), None)
        view, parent = self.snapshot.provider, self.snapshot.parent
        if self.confirmed or told is None or not isinstance(view, ProviderSubscription) or parent is None:
            return decision
        delta = sum(log.quantity or 0 for log in told.child_logs)
        if delta == 0 or any(isinstance(found, SetProviderQuantity) for found in decision.actions):
            return decision
        assert parent.provider is not None
        names = tuple(log.id for log in told.child_logs)
        more = SetProviderQuantity(parent.provider, view.tenant, view.id, view.quantity, view.quantity + delta, names)
        at = decision.actions.index(told)
        return replace(decision, actions=(*decision.actions[:at], more, *decision.actions[at:]))

    return decide


class AcknowledgesFirst(UnitOfWork):
    """Tells parent and children that they are provisioned, and then goes and provisions."""

    def _take(self, decision: FamilyDecision, action: Action) -> Halt | Pause | None:
        told = next((found for found in decision.actions if isinstance(found, Acknowledge)), None)
        hand, view = self._hand, self._hand.snapshot.provider
        fresh = isinstance(view, ProviderSubscription) and hand.is_fresh
        if not isinstance(action, SetProviderQuantity) or told is None or not fresh:
            return super()._take(decision, action)
        assert isinstance(view, ProviderSubscription)
        logs = (*told.parent_logs, *told.child_logs)
        updates = tuple(LogUpdate(log.id, log.etag, ProvisioningStatus.PROVISIONED, "") for log in logs)
        hand.commit(FamilyChange(hand.snapshot.parent, marker=str(told.marker), updates=updates))
        money = self._ordering._money()
        money.send(money.plan(action), action, view)
        hand.is_fresh = False
        return None


class DecidesOnce(UnitOfWork):
    """Decides on what was read before the lease, raises the parent, and orders without another look."""

    def _work(self) -> Any:
        hand, right = self._hand, self._hand.look
        looks = iter([True])

        def look() -> None:
            if next(looks, False):
                hand.is_fresh = True
            else:
                right()

        with mock.patch.object(hand, "look", look):
            return super()._work()

    def _set_parent(self, decision: FamilyDecision, action: SetParentQuantity) -> Halt | None:
        view = self._hand.snapshot.provider
        halt = super()._set_parent(decision, action)
        order = next((each for each in decision.actions if isinstance(each, SetProviderQuantity)), None)
        if order is not None and isinstance(view, ProviderSubscription) and self._hand.is_fresh:
            handle = self._context.providers[order.provider]
            assert handle.fulfilment is not None
            handle.fulfilment.get_subscription(order.tenant, order.subscription)
            money = self._ordering._money()
            with mock.patch.object(money, "_fulfilment", _AsItWas(handle.fulfilment)):
                money.send(money.plan(order), order, view)
            self._hand.is_fresh = False
        return halt


class _AsItWas(_Adapter):
    """Sends whatever the body says that was read last."""

    def set_quantity(self, tenant: Any, subscription_id: Any, **asked: Any) -> Any:
        found = self._inner.get_subscription(tenant, subscription_id)
        if not isinstance(found, NotAtProvider):
            asked["expected"] = found
        return self._inner.set_quantity(tenant, subscription_id, **asked)


def _digest(_right: Any) -> Any:
    """A group is told by its newest change and a sum, as a digest would: what waits or was settled since is not found."""

    def changes_of(self: Known, group: Group) -> tuple[LicenseChangeLog, ...]:
        child, at = self._places.get(group.runs[-1].last, (None, 0))
        if child is None:
            raise Unreadable("gone")
        newest = self.by_child[child][at]
        every = [log for logs in self.by_child.values() for log in logs if log.is_awaiting]
        return tuple(in_order_of_making(log for log in every if log.created_on <= newest.created_on))

    return changes_of


def _hole(_right: Any) -> Any:
    """Groups leave from wherever they stand, as soon as their own raise is confirmed: not from the front, and not with what
    they carry."""

    def after_leaving(
        groups: Sequence[Carried], *, told: frozenset[Any] = frozenset(), confirmed: frozenset[int] = frozenset()
    ) -> tuple[Carried, ...]:
        return tuple(one for at, one in enumerate(groups) if one.state is not State.CONFIRMED and at not in confirmed)

    return after_leaving


APPLIES_DELTAS = Instead(FamilyInHand, "decide", _deltas)
ACKNOWLEDGES_FIRST = Instead(connector.sync.run, "UnitOfWork", lambda _right: AcknowledgesFirst)
BLIND_RETRY = InFrontOf(SendsAgain)

UNEXPLAINED = frozenset({"stuck", "untouched-stuck", "held-though-nobody-did-anything", "told-too-early", "wrong-end"})
"""What a family shows whose marker no longer says what its parent carries."""

WRONG: Mapping[str, Planted] = {
    "applies-deltas": Planted(APPLIES_DELTAS, frozenset({"bought-unexplained", "bought-twice"}), 5002),
    "acknowledges-first": Planted(ACKNOWLEDGES_FIRST, frozenset({"told-too-early"})),
    "blind-retry": Planted(BLIND_RETRY, frozenset({"provider-overwritten", "no-intent"}), 5061),
    "takes-silence-for-done": Planted(InFrontOf(TakesSilenceForDone), frozenset({"told-too-early"}), 5033),
    "reads-the-provider-once": Planted(
        InFrontOf(ReadsOnce), frozenset({"told-too-early", "provider-overwritten", "no-rest", "wrong-end"}), 5033
    ),
    "old-request-id": Planted(InFrontOf(SendsOldIds), frozenset({"old-request-id"}), 5025),
    "lease-after-reading": Planted(
        Instead(connector.sync.run, "UnitOfWork", lambda _right: DecidesOnce),
        frozenset({"provider-overwritten", "bought-unexplained", "stopped-and-bought", "told-too-early"}),
    ),
    "no-fence": Planted(Instead(DataverseClient, "change_set", _no_fence), UNEXPLAINED | {"word-overwritten"}),
    "digest": Planted(Instead(Known, "changes_of", _digest), UNEXPLAINED),
    "hole-in-the-middle": Planted(Instead(connector.domain.raising, "after_leaving", _hole), UNEXPLAINED),
}
