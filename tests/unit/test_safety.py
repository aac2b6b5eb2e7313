"""Safety limits, one by one: what is still allowed, what is beyond, and what cannot be known."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connector.domain.model import Price, SubscriptionId
from connector.domain.plan import LimitCheck, Plan, SafetyVerdict
from connector.domain.policy import Limits, Percent, Policy
from connector.domain.rounds import plan_family
from connector.domain.rules.builtin import BUILTIN
from connector.domain.safety import (
    FamilyChange,
    Source,
    assess,
    assess_changes,
    change_of,
    in_words,
    names_of_limits,
    override,
    switched_on,
)
from connector.errors import SafetyLimitExceeded
from connector.sync.safeguard import refuse_unsafe
from tests.families import at_provider, environment, family, log, parent, subscription

KEPT = ("percent_from", "source_shrunk_from", "money_added", "seats_without_price")
OFF = {name: None for name in Limits.model_fields if name not in KEPT}
EUR, USD = Price(1000, "EUR"), Price(1000, "USD")


def limits(**changes: object) -> Limits:
    return Limits.model_validate({**OFF, **changes})


def change(name: str = "one", customer: str | None = "pinecone", **figures: object) -> FamilyChange:
    return FamilyChange(SubscriptionId(name), name, customer, **figures)  # type: ignore[arg-type]


def beyond(found: tuple[LimitCheck, ...]) -> list[tuple[str, int, int | None, str]]:
    return [(check.limit, check.allowed, check.found, check.where) for check in found if check.is_exceeded]


@pytest.mark.parametrize(
    ("changes", "set_to", "expected"),
    [
        ([change(touches_parent=True), change("two", added=1)], {"parents_changed": 2}, []),
        (
            [change(touches_parent=True), change("two", added=1)],
            {"parents_changed": 1},
            [("parents_changed", 1, 2, "")],
        ),
        ([change(), change("two")], {"parents_changed": 0}, []),
        ([change(added=6), change("two", added=4)], {"seats_added": 10}, []),
        ([change(added=6), change("two", added=5)], {"seats_added": 10}, [("seats_added", 10, 11, "")]),
        ([change(added=6), change("two", removed=50)], {"seats_added": 5}, [("seats_added", 5, 6, "")]),
        ([change(removed=6)], {"seats_removed": 6, "seats_added": 0}, []),
        ([change(removed=6)], {"seats_removed": 5}, [("seats_removed", 5, 6, "")]),
        ([change(added=20, settled=100)], {"seats_added": "20%"}, []),
        ([change(added=201, settled=1000)], {"seats_added": "20%"}, [("seats_added", 20, 21, "")]),
        ([change(added=19, settled=19)], {"seats_added": "20%"}, []),
        ([change(added=19, settled=19)], {"seats_added": "20%", "percent_from": 19}, [("seats_added", 20, 100, "")]),
        ([change(removed=60, settled=100)], {"seats_removed": "50%"}, [("seats_removed", 50, 60, "")]),
        (
            [change(added=3), change("two", added=3), change("three", "other", added=5)],
            {"seats_added_per_customer": 5},
            [("seats_added_per_customer", 5, 6, "pinecone")],
        ),
        (
            [change(removed=3), change("three", "other", removed=6)],
            {"seats_removed_per_customer": 5},
            [("seats_removed_per_customer", 5, 6, "other")],
        ),
        (
            [change(customer=None, added=6), change("two", None, added=1)],
            {"seats_added_per_customer": 5},
            [("seats_added_per_customer", 5, 6, "no customer (one)")],
        ),
        ([change(added=50, settled=100)], {"family_percent": 50}, []),
        ([change(added=51, settled=100)], {"family_percent": 50}, [("family_percent", 50, 51, "one")]),
        ([change(removed=51, settled=100)], {"family_percent": 50}, [("family_percent", 50, 51, "one")]),
        ([change(by_hand=51, settled=100)], {"family_percent": 50}, [("family_percent", 50, 51, "one")]),
        ([change(added=19, settled=10)], {"family_percent": 50}, []),
        ([change(added=10, price=EUR)], {"money_added": {"EUR": 10000}}, []),
        ([change(added=11, price=EUR)], {"money_added": {"EUR": 10000}}, [("money_added.EUR", 10000, 11000, "")]),
        (
            [change(added=11, price=EUR), change("two", removed=99, price=EUR)],
            {"money_added": {"EUR": 10000}},
            [("money_added.EUR", 10000, 11000, "")],
        ),
        ([change(added=1)], {"money_added": {"EUR": 10000}}, [("seats_without_price", 0, 1, "")]),
        ([change(added=1)], {"money_added": {"EUR": 1}, "seats_without_price": 1}, []),
        ([change(added=1)], {"seats_without_price": 0}, []),
        ([change(added=1, price=Price(-5, "EUR"))], {"money_added": {"EUR": 9}}, [("seats_without_price", 0, 1, "")]),
        ([change(removed=1)], {"money_added": {"EUR": 0}}, []),
        ([change(added=1, price=USD)], {"money_added": {"EUR": 10000}}, [("money_added.USD", 0, 1000, "")]),
        ([change(added=10**9)], {}, []),
    ],
)
def test_a_limit_is_what_is_still_allowed(
    changes: list[FamilyChange], set_to: dict[str, object], expected: list[tuple[str, int, int | None, str]]
) -> None:
    assert beyond(assess_changes(changes, limits(**set_to))) == expected


@pytest.mark.parametrize(
    ("now", "before", "set_to", "is_safe"),
    [
        (0, 40, {"source_shrunk_percent": 50}, False),
        (20, 40, {"source_shrunk_percent": 50}, True),
        (19, 40, {"source_shrunk_percent": 50}, False),
        (80, 40, {"source_shrunk_percent": 0}, True),
        (1, 9, {"source_shrunk_percent": 50}, True),
        (0, 9, {"source_shrunk_percent": 50}, True),
        (0, 9, {"source_shrunk_percent": 50, "source_shrunk_from": 9}, False),
        (0, 1, {"source_shrunk_percent": 99, "source_shrunk_from": 1}, False),
        (0, 40, {"source_shrunk_percent": 100}, True),
        (0, 40, {}, True),
        (0, None, {"source_shrunk_percent": 50}, True),
        (0, 0, {"source_shrunk_percent": 50}, True),
        (None, 40, {"source_shrunk_percent": 50}, True),
    ],
)
def test_a_source_that_shrank_since_the_last_finished_run_is_unsafe_even_when_nothing_is_to_be_done(
    now: int | None, before: int | None, set_to: dict[str, object], is_safe: bool
) -> None:
    assert assess(Plan(()), limits(**set_to), Source(now, before)).is_safe is is_safe


def test_a_plan_is_counted_at_the_provider_and_shows_every_limit_of_the_run() -> None:
    snapshot = family(
        parent(50, cost=USD), subscription("ny", 60), logs=(log("ny", 10),), provider=at_provider(50, reducible=0)
    )
    plan = Plan((plan_family(snapshot, environment(), BUILTIN),))
    counted = change_of(plan.families[0])
    assert (counted.added, counted.removed, counted.settled, counted.touches_parent) == (10, 0, 50, True)
    verdict = assess(plan, Limits(), Source(30, 30))
    assert verdict.is_safe
    assert [check.limit for check in verdict.checks] == [
        "parents_changed",
        "seats_added",
        "seats_removed",
        "source_shrunk_percent",
    ]
    assert not assess(plan, limits(seats_added=9)).is_safe
    assert not assess(plan, limits(money_added={"USD": 9999})).is_safe


def test_seats_that_are_bought_and_given_back_with_netting_off_count_on_both_sides() -> None:
    snapshot = family(
        parent(40),
        subscription("ny", 25),
        subscription("atlanta", 15),
        logs=(log("ny", 5), log("atlanta", -5)),
        provider=at_provider(40, reducible=40),
    )
    plan = plan_family(snapshot, environment(Policy(netting=False)), BUILTIN)
    assert (change_of(plan).added, change_of(plan).removed) == (5, 5)


def test_the_error_of_an_unsafe_run_says_which_limits_by_how_much_and_how_to_go_on() -> None:
    found = assess_changes([change(added=30)], limits(seats_added=10))
    with pytest.raises(SafetyLimitExceeded, match="seats_added") as raised:
        refuse_unsafe(SafetyVerdict(found))
    assert raised.value.problems == ("seats_added: 10 seats allowed, found 30 seats",)
    assert "linksub apply plan.json --allow seats_added=30" in str(raised.value.hint)
    refuse_unsafe(SafetyVerdict(assess_changes([change(added=10)], limits(seats_added=10))))


def test_what_is_allowed_can_be_taken_over_from_the_hint() -> None:
    changes, configured = [change(added=30, settled=40)], limits(seats_added="10%")
    with pytest.raises(SafetyLimitExceeded) as raised:
        refuse_unsafe(SafetyVerdict(assess_changes(changes, configured)))
    name, _, value = str(raised.value.hint).rpartition(" ")[2].partition("=")
    assert beyond(assess_changes(changes, override(configured, name, value))) == []


def test_an_unknown_price_is_told_with_the_family() -> None:
    found = assess_changes([change("Pine Cone Vet", added=3)], limits(money_added={"EUR": 1}))
    assert "seats_without_price: 0 seats allowed, found 3 seats (Pine Cone Vet)" in [in_words(check) for check in found]


@pytest.mark.parametrize("value", [None, "", " ", "false", "False", "0", "no", "NO", "off", " Off "])
def test_a_kill_switch_that_is_empty_or_says_no_is_off(value: str | None) -> None:
    assert not switched_on(value)


@pytest.mark.parametrize("value", ["on", "1", "true", "stop", "yes", "disabled", "-"])
def test_any_other_value_of_a_kill_switch_stops(value: str) -> None:
    assert switched_on(value)


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("seats_added", "200", "seats_added", 200),
        ("seats_added", "20%", "seats_added", Percent(20)),
        ("source_shrunk_percent", "100", "source_shrunk_percent", 100),
        ("family_percent", "300%", "family_percent", 300),
        ("money_added.EUR", "5", "money_added", {"EUR": 5, "USD": 7}),
    ],
)
def test_one_limit_is_set_anew_and_the_others_stay(name: str, value: str, key: str, expected: object) -> None:
    before = Limits(money_added={"EUR": 1, "USD": 7})
    after = override(before, name, value)
    assert getattr(after, key) == expected
    assert {k: v for k, v in after.model_dump().items() if k != key} == {
        k: v for k, v in before.model_dump().items() if k != key
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("everything", "1"),
        ("seats_added", "none"),
        ("seats_added", "null"),
        ("seats_added", "-1"),
        ("seats_added", ""),
        ("seats_added", "1.5"),
        ("seats_added.EUR", "1"),
        ("parents_changed", "20%"),
        ("seats_removed", "101%"),
        ("source_shrunk_percent", "101"),
        ("money_added", "1"),
        ("money_added.euro", "1"),
        ("percent_from", "1"),
        ("source_shrunk_from", "1"),
    ],
)
def test_what_is_no_limit_or_no_amount_cannot_be_allowed(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name.partition(".")[0]):
        override(Limits(), name, value)


def test_every_limit_can_be_named() -> None:
    assert {name.removesuffix(".CUR") for name in names_of_limits()} == set(Limits.model_fields) - {
        "percent_from",
        "source_shrunk_from",
    }


@pytest.mark.parametrize("value", ["20 percent", -1, True, 1.5, "-3%", "200"])
def test_the_configuration_refuses_seats_that_are_neither_a_number_nor_a_percentage(value: object) -> None:
    with pytest.raises(ValidationError, match="whole number"):
        Limits.model_validate({"seats_added": value})
