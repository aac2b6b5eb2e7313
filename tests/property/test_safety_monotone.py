"""A plan that does more is never safer: whatever a limit stops, it stops anything larger as well."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from connector.domain.model import Price, SubscriptionId
from connector.domain.policy import Limits, Percent
from connector.domain.safety import FamilyChange, assess_changes

PRICES = st.sampled_from([None, Price(0, "EUR"), Price(900, "EUR"), Price(1200, "USD")])
SEATS = st.integers(0, 60)
CHANGES = st.builds(
    FamilyChange,
    family=st.sampled_from([SubscriptionId(name) for name in "abcdef"]),
    name=st.just("family"),
    customer=st.sampled_from(["pinecone", "oak", None]),
    added=SEATS,
    removed=SEATS,
    by_hand=SEATS,
    touches_parent=st.booleans(),
    settled=st.none() | st.integers(0, 200),
    price=PRICES,
)
OPTIONAL = st.none() | st.integers(0, 80)
SHARE = OPTIONAL | st.builds(Percent, st.integers(0, 100))
LIMITS = st.fixed_dictionaries(
    {
        "parents_changed": st.none() | st.integers(0, 6),
        "seats_added": SHARE,
        "seats_removed": SHARE,
        "seats_added_per_customer": SHARE,
        "seats_removed_per_customer": SHARE,
        "family_percent": OPTIONAL,
        "percent_from": st.integers(1, 60),
        "money_added": st.dictionaries(st.sampled_from(["EUR", "USD"]), st.integers(0, 60000), max_size=2),
    }
).map(Limits.model_validate)


def exceeded(changes: list[FamilyChange], limits: Limits) -> set[tuple[str, str]]:
    return {(check.limit, check.where) for check in assess_changes(changes, limits) if check.is_exceeded}


@given(st.lists(CHANGES, min_size=1, max_size=6), LIMITS, st.data())
def test_a_larger_change_of_the_same_families_is_never_safer(
    changes: list[FamilyChange], limits: Limits, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(changes) - 1))
    larger = replace(
        changes[at],
        added=changes[at].added + data.draw(SEATS),
        removed=changes[at].removed + data.draw(SEATS),
        by_hand=changes[at].by_hand + data.draw(SEATS),
        touches_parent=True,
    )
    assert exceeded(changes, limits) <= exceeded([*changes[:at], larger, *changes[at + 1 :]], limits)


@given(st.lists(CHANGES, max_size=5), CHANGES, LIMITS)
def test_one_more_family_is_never_safer_where_limits_are_numbers(
    changes: list[FamilyChange], another: FamilyChange, limits: Limits
) -> None:
    """A percentage is taken of all families at hand, so that another family rightly widens it."""
    values = {key: None if isinstance(value, Percent) else value for key, value in limits}
    numbers = Limits.model_validate(values)
    assert exceeded(changes, numbers) <= exceeded([*changes, another], numbers)


@given(st.lists(CHANGES, max_size=5), LIMITS)
def test_the_order_of_families_makes_no_difference(changes: list[FamilyChange], limits: Limits) -> None:
    assert exceeded(changes, limits) == exceeded(changes[::-1], limits)
