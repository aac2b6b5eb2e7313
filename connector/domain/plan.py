"""A plan is a value: what one pass would do, family by family, with its money effect and the reasons for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connector.domain.decision import Accept, Decision, Hold, Objection, Refuse
from connector.domain.marker import EMPTY, Marker
from connector.domain.model import LicenseChangeLog, LogId, Price, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.domain.seats import SeatAccount


@dataclass(frozen=True, slots=True)
class FailLogs:
    """Set logs to Failed with a message: refused children, or a carried change that cannot be provisioned any more."""

    logs: tuple[LicenseChangeLog, ...]
    message: str
    rule: str


@dataclass(frozen=True, slots=True)
class SetParentQuantity:
    """Write the parent's absolute quantity, with the marker that names what this raise carries, in one request.

    ``carries`` are the child logs of its newest group. ``takes_back``: they were carried before, a person failed them,
    and the parent is lowered again.
    """

    parent: SubscriptionId
    before: int
    target: int
    marker: Marker
    carries: tuple[LogId, ...]
    takes_back: bool = False


@dataclass(frozen=True, slots=True)
class SetProviderQuantity:
    """Set the absolute quantity at the provider: the only action that spends money."""

    provider: str
    tenant: TenantId
    subscription: ProviderSubscriptionId
    before: int
    target: int
    carries: tuple[LogId, ...]

    @property
    def delta(self) -> int:
        """Seats bought (positive) or given back (negative)."""
        return self.target - self.before


@dataclass(frozen=True, slots=True)
class ScheduleAtRenewal:
    """Let the renewal bring the provider to a quantity: for decreases that cannot go now (policy ``schedule``)."""

    provider: str
    tenant: TenantId
    subscription: ProviderSubscriptionId
    before: int | None
    target: int
    logs: tuple[LogId, ...]


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Set the parent's logs, then the children's, to Provisioned in one atomic change set.

    ``marker`` is what stands on the parent's row from then on: groups whose changes are all told leave in the same step.
    ``new_parent_log`` says that the parent will also have a log that the CRM makes in this very pass.
    """

    parent_logs: tuple[LicenseChangeLog, ...]
    child_logs: tuple[LicenseChangeLog, ...]
    marker: Marker = EMPTY
    new_parent_log: bool = False

    @property
    def only_tidies(self) -> bool:
        """Whether nobody is told anything: settled groups leave the marker, and a person's text comes back."""
        return not self.parent_logs and not self.child_logs and not self.new_parent_log


@dataclass(frozen=True, slots=True)
class MakeParentLog:
    """Make the parent's own log of a raise, where the CRM makes none (policy ``parent_log: create``)."""

    parent: SubscriptionId
    quantity: int
    group: str
    """Text of the marker's group that it belongs to: its id follows from it."""


Action = FailLogs | SetParentQuantity | MakeParentLog | SetProviderQuantity | ScheduleAtRenewal | Acknowledge


@dataclass(frozen=True, slots=True)
class FamilyDecision:
    """What is decided for one family at one moment: a decision for every open log, and the actions that follow, in order.

    ``stop`` is the family-wide objection, if there is one. ``goal`` is the parent quantity that the accepted logs lead to.
    """

    family: SubscriptionId
    decisions: Mapping[LogId, Decision]
    actions: tuple[Action, ...] = ()
    stop: Objection | None = None
    books: SeatAccount | None = None
    goal: int | None = None
    awaits_person: bool = False
    """The parent is manual: its quantity is written, and a person has to provision it."""
    notices: tuple[Objection, ...] = ()
    """What PostOperation steps found worth telling; it stands in nothing's way."""

    @property
    def needs_attention(self) -> bool:
        """Whether a person has to do something: a refusal or a hold."""
        return isinstance(self.stop, Hold | Refuse) or any(
            isinstance(found, Refuse | Hold) for found in self.decisions.values()
        )

    @property
    def is_retryable(self) -> bool:
        """Whether all that stands in the way is a service that did not answer."""
        return (
            isinstance(self.stop, Hold)
            and self.stop.retryable
            and not any(isinstance(found, Refuse) for found in self.decisions.values())
        )

    @property
    def accepted(self) -> tuple[LogId, ...]:
        """The logs that go."""
        return tuple(log_id for log_id, found in self.decisions.items() if isinstance(found, Accept))


@dataclass(frozen=True, slots=True)
class MoneyEffect:
    """What a plan costs more (or less) per month, by currency, in minor units; and seats whose price is not known."""

    per_month: Mapping[str, int] = field(default_factory=dict)
    seats_without_price: int = 0


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """The rounds of one family, each decided on the world that the round before leaves behind.

    Most families need one round. More come of netting switched off, of markers that do not fit one Order Reference, or
    of a provider side that was ahead.
    """

    family: SubscriptionId
    name: str
    customer: str | None
    rounds: tuple[FamilyDecision, ...]
    price: Price | None = None
    provider_quantity: int | None = None
    log_names: Mapping[LogId, str] = field(default_factory=dict)
    log_owners: Mapping[LogId, SubscriptionId] = field(default_factory=dict)

    @property
    def awaits_person(self) -> bool:
        """Whether a person has to provision the parent (manual providers)."""
        return any(step.awaits_person for step in self.rounds)

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, in the order in which they would be taken."""
        return tuple(action for step in self.rounds for action in step.actions)

    @property
    def decisions(self) -> Mapping[LogId, Decision]:
        """The last word on every log: Accept if any round takes it."""
        merged: dict[LogId, Decision] = {}
        for step in self.rounds:
            for log_id, found in step.decisions.items():
                if not isinstance(merged.get(log_id), Accept | Refuse):
                    merged[log_id] = found
        return merged

    @property
    def notices(self) -> tuple[Objection, ...]:
        """What is worth telling of the family besides."""
        return self.rounds[0].notices if self.rounds else ()

    @property
    def stop(self) -> Objection | None:
        """The family-wide objection of the last round, if there is one."""
        return self.rounds[-1].stop if self.rounds else None

    @property
    def needs_attention(self) -> bool:
        """Whether a person has to do something."""
        return any(step.needs_attention for step in self.rounds)

    @property
    def is_retryable(self) -> bool:
        """Whether all that stands in the way is a service that did not answer."""
        troubled = [step for step in self.rounds if step.needs_attention]
        return bool(troubled) and all(step.is_retryable for step in troubled)

    @property
    def seats_at_provider(self) -> int:
        """Net seats that the provider would gain."""
        return sum(action.delta for action in self.actions if isinstance(action, SetProviderQuantity))

    @property
    def seats_by_person(self) -> int:
        """Net seats that a person would have to provision (manual parents)."""
        if not self.awaits_person:
            return 0
        return sum(action.target - action.before for action in self.actions if isinstance(action, SetParentQuantity))

    @property
    def money(self) -> MoneyEffect:
        """The effect of the seats at the provider, at the price of one seat."""
        seats = self.seats_at_provider
        if seats == 0:
            return MoneyEffect()
        if self.price is None:
            return MoneyEffect({}, abs(seats))
        return MoneyEffect({self.price.currency: seats * self.price.minor_per_month})


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """One safety limit held against a plan. ``found`` is None when it cannot be known, which counts as beyond.

    ``limit`` is its name under ``policy.limits`` (``money_added.EUR`` for one currency), ``unit`` what is counted
    (families, seats, ``%``, or a currency in minor units), ``where`` the customer or family that it is about, empty for
    the whole run, and ``detail`` what the figure was made of.
    """

    limit: str
    allowed: int
    found: int | None
    unit: str
    where: str = ""
    detail: str = ""

    @property
    def is_exceeded(self) -> bool:
        """Whether the plan goes beyond the limit."""
        return self.found is None or self.found > self.allowed


@dataclass(frozen=True, slots=True)
class SafetyVerdict:
    """Whether a plan may be applied as it stands, and which figures say so. Planning shows it and never fails on it.

    ``checks`` has the limits of the whole run, and those of single customers and families that are exceeded.
    ``kill_switch`` says which kill switch is on, None if none is.
    """

    checks: tuple[LimitCheck, ...] = ()
    kill_switch: str | None = None

    @property
    def violations(self) -> tuple[LimitCheck, ...]:
        """The limits that the plan goes beyond."""
        return tuple(check for check in self.checks if check.is_exceeded)

    @property
    def is_safe(self) -> bool:
        """Whether a real run would start writing."""
        return not self.violations and self.kill_switch is None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass would do. ``families`` are sorted by name and id: the same on every run."""

    families: tuple[FamilyPlan, ...]
    verdict: SafetyVerdict = field(default_factory=SafetyVerdict)

    @property
    def has_changes(self) -> bool:
        """Whether anything would be written."""
        return any(family.actions for family in self.families)

    @property
    def money(self) -> MoneyEffect:
        """Sum over the families."""
        totals: dict[str, int] = {}
        unknown = 0
        for family in self.families:
            effect = family.money
            unknown += effect.seats_without_price
            for currency, minor in effect.per_month.items():
                totals[currency] = totals.get(currency, 0) + minor
        return MoneyEffect(totals, unknown)

    @property
    def seats_added(self) -> int:
        """Seats bought at providers."""
        return sum(max(0, family.seats_at_provider) for family in self.families)

    @property
    def seats_removed(self) -> int:
        """Seats given back at providers."""
        return sum(max(0, -family.seats_at_provider) for family in self.families)
