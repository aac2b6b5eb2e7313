"""Safety limits: how far one run may go without asking a person (design §8). Pure; planning never fails on them.

The whole is monotone: a change that is larger, or one more of them, is never safer. So what one family saves is not set
off against what another one costs, neither in seats nor in money, and a percentage is taken of what is settled, never of
the change itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from connector.domain.model import Price, SubscriptionId
from connector.domain.plan import FamilyPlan, LimitCheck, Plan, SafetyVerdict, SetParentQuantity, SetProviderQuantity
from connector.domain.policy import Limits, Percent

NOT_LIMITS = frozenset({"percent_from", "source_shrunk_from"})
"""Keys of ``policy.limits`` that say from where on a percentage counts; they limit nothing themselves."""
MONEY = "money_added"
_OFF = frozenset({"", "false", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class FamilyChange:
    """What a plan does to one family, in the figures that limits look at.

    ``added`` and ``removed`` are seats at the provider, each summed by itself (with netting off a family may do both).
    ``settled`` is what the parent had confirmed before, None if the family could not be balanced.
    """

    family: SubscriptionId
    name: str
    customer: str | None
    added: int = 0
    removed: int = 0
    by_hand: int = 0
    """Seats by which the parent's quantity changes for a person to provision (manual parents)."""
    touches_parent: bool = False
    settled: int | None = None
    price: Price | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the parent's or the provider's quantity changes."""
        return self.touches_parent or self.added > 0 or self.removed > 0


@dataclass(frozen=True, slots=True)
class Source:
    """Linked subscriptions that the CRM lists: now, and when the last run finished. None: not counted."""

    linked: int | None = None
    linked_before: int | None = None


def change_of(plan: FamilyPlan) -> FamilyChange:
    """The figures of one family's plan."""
    moves = [action.delta for action in plan.actions if isinstance(action, SetProviderQuantity)]
    books = plan.rounds[0].books if plan.rounds else None
    return FamilyChange(
        plan.family,
        plan.name,
        plan.customer,
        added=sum(delta for delta in moves if delta > 0),
        removed=-sum(delta for delta in moves if delta < 0),
        by_hand=abs(plan.seats_by_person),
        touches_parent=any(isinstance(action, SetParentQuantity) for action in plan.actions),
        settled=books.parent_settled if books is not None else None,
        price=plan.price,
    )


def assess(plan: Plan, limits: Limits, source: Source | None = None, kill_switch: str | None = None) -> SafetyVerdict:
    """Hold a plan against the limits. Never raises: what cannot be known counts as beyond the limit."""
    checks = assess_changes([change_of(family) for family in plan.families], limits)
    shrunken = _source(source or Source(), limits)
    return SafetyVerdict((*checks, *((shrunken,) if shrunken is not None else ())), kill_switch)


def assess_changes(changes: Sequence[FamilyChange], limits: Limits) -> tuple[LimitCheck, ...]:
    """The same for the bare figures."""
    checks: list[LimitCheck] = []
    if limits.parents_changed is not None:
        count = sum(1 for change in changes if change.is_changed)
        checks.append(LimitCheck("parents_changed", limits.parents_changed, count, "families"))
    checks += _seats("seats_added", limits.seats_added, changes, _added, limits)
    checks += _seats("seats_removed", limits.seats_removed, changes, _removed, limits)
    for customer, theirs in _by_customer(changes).items():
        per_customer = [
            *_seats("seats_added_per_customer", limits.seats_added_per_customer, theirs, _added, limits, customer),
            *_seats(
                "seats_removed_per_customer", limits.seats_removed_per_customer, theirs, _removed, limits, customer
            ),
        ]
        checks += [check for check in per_customer if check.is_exceeded]
    if limits.family_percent is not None:
        found = [_family(change, limits.family_percent, limits) for change in changes]
        checks += [check for check in found if check is not None and check.is_exceeded]
    checks += _money(changes, limits)
    return tuple(checks)


def _added(change: FamilyChange) -> int:
    return change.added


def _removed(change: FamilyChange) -> int:
    return change.removed


def _by_customer(changes: Iterable[FamilyChange]) -> Mapping[str, list[FamilyChange]]:
    """Families by customer, sorted; a family without one stands for itself."""
    grouped: dict[str, list[FamilyChange]] = {}
    for change in changes:
        grouped.setdefault(change.customer or f"no customer ({change.name})", []).append(change)
    return dict(sorted(grouped.items()))


def _seats(
    name: str,
    allowed: int | Percent | None,
    changes: Sequence[FamilyChange],
    count: Callable[[FamilyChange], int],
    limits: Limits,
    where: str = "",
) -> list[LimitCheck]:
    if allowed is None:
        return []
    seats = sum(count(change) for change in changes)
    if not isinstance(allowed, Percent):
        return [LimitCheck(name, allowed, seats, "seats", where)]
    settled = sum(change.settled or 0 for change in changes)
    if settled < limits.percent_from:
        return []
    return [LimitCheck(name, allowed.value, _percent(seats, settled), "%", where, f"{seats} of {settled} seats")]


def _family(change: FamilyChange, allowed: int, limits: Limits) -> LimitCheck | None:
    settled = change.settled or 0
    seats = max(change.added, change.removed, change.by_hand)
    if settled < limits.percent_from:
        return None
    return LimitCheck(
        "family_percent", allowed, _percent(seats, settled), "%", change.name, f"{seats} of {settled} seats"
    )


def _percent(part: int, whole: int) -> int:
    """Rounded up, so that it is beyond a whole limit exactly when the true share is."""
    return -(-part * 100 // whole)


def _money(changes: Sequence[FamilyChange], limits: Limits) -> list[LimitCheck]:
    """What the additions cost per month, by currency; savings elsewhere are not set off."""
    if not limits.money_added:
        return []
    spent = dict.fromkeys(limits.money_added, 0)
    unknown: list[FamilyChange] = []
    for change in changes:
        if change.added == 0:
            continue
        if change.price is None or change.price.minor_per_month < 0:
            unknown.append(change)
        else:
            currency = change.price.currency
            spent[currency] = spent.get(currency, 0) + change.added * change.price.minor_per_month
    checks = [
        LimitCheck(
            f"{MONEY}.{currency}",
            limits.money_added.get(currency, 0),
            minor,
            currency,
            detail="" if currency in limits.money_added else "a currency without a limit",
        )
        for currency, minor in sorted(spent.items())
    ]
    seats = sum(change.added for change in unknown)
    names = ", ".join(change.name for change in unknown)
    return [*checks, LimitCheck("seats_without_price", limits.seats_without_price, seats, "seats", detail=names)]


def _source(source: Source, limits: Limits) -> LimitCheck | None:
    """Fewer linked subscriptions than the last finished run saw: lost rights look exactly like lost rows."""
    allowed, before, now = limits.source_shrunk_percent, source.linked_before, source.linked
    if allowed is None or now is None or not before:
        return None
    if before < limits.source_shrunk_from:
        return None
    gone = max(0, before - now)
    return LimitCheck(
        "source_shrunk_percent", allowed, _percent(gone, before), "%", "", f"{now} linked subscriptions, were {before}"
    )


def in_words(check: LimitCheck) -> str:
    """One limit in a sentence: what is allowed and what was found."""
    unit = "%" if check.unit == "%" else f" {check.unit}"
    if check.limit.startswith(f"{MONEY}."):
        unit = f" {check.unit} (minor units per month)"
    found = "what it comes to is not known" if check.found is None else f"found {check.found}{unit}"
    about = f" of {check.where}" if check.where else ""
    detail = f" ({check.detail})" if check.detail else ""
    return f"{check.limit}{about}: {check.allowed}{unit} allowed, {found}{detail}"


def switched_on(value: str | None) -> bool:
    """Whether a kill switch with that value stops: everything but empty, false, 0, no and off does."""
    return value is not None and value.strip().casefold() not in _OFF


def names_of_limits() -> tuple[str, ...]:
    """What ``--allow`` can name; ``money_added`` stands for ``money_added.EUR`` and the like."""
    return tuple(
        f"{name}.CUR" if name == MONEY else name for name in sorted(Limits.model_fields) if name not in NOT_LIMITS
    )


def override(limits: Limits, name: str, value: str) -> Limits:
    """The limits with one of them set anew, as ``--allow seats_added=200`` wants it. Raises ValueError.

    There is no way to switch a limit off: whoever lets a plan pass says how far.
    """
    key, dot, currency = name.partition(".")
    if key not in Limits.model_fields or key in NOT_LIMITS or bool(dot) != (key == MONEY):
        raise ValueError(f"there is no limit {name!r}; there are {', '.join(names_of_limits())}")
    given: object = int(value) if value.isascii() and value.isdigit() else value
    if not isinstance(given, int) and not value.endswith("%"):
        raise ValueError(f"{name}={value}: give a whole number, such as {name}=200")
    values = limits.model_dump()
    values[key] = {**values[key], currency: given} if key == MONEY else given
    try:
        return Limits.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{name}={value}: {str(details['msg']).removeprefix('Value error, ')}") from error
