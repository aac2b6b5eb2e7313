"""Readings of Partner Center's Subscription resource that need no network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connector.domain.model import ReducibleBatch, TenantId
from connector.providers.partner_center.errors import classify, explain_code, parse_error, remaining_seats
from connector.providers.partner_center.resource import parse_instant, read_subscription
from connector.providers.partner_center.schedule import (
    ScheduledInstructions,
    adjust_schedule,
    adjust_scheduled_quantity,
    instructions_from_json,
    read_schedule,
)

TENANT = TenantId("5d9a7e10-3c52-4b41-9c0e-6b0f3a2d1e01")


def resource(**changes: Any) -> dict[str, Any]:
    return {"id": "S-1", "offerId": "P:0001:A", "quantity": 25, "status": "Active", "autoRenewEnabled": True, **changes}


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-08T10:00:00Z", datetime(2026, 3, 8, 10, tzinfo=UTC)),
        ("2026-03-08T10:00:00.498252Z", datetime(2026, 3, 8, 10, 0, 0, 498252, tzinfo=UTC)),
        ("2026-03-08T10:00:00.0966728Z", datetime(2026, 3, 8, 10, 0, 0, 96672, tzinfo=UTC)),
        ("2026-03-08T10:00:00.5Z", datetime(2026, 3, 8, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2026-03-08T10:00:00.9263727", datetime(2026, 3, 8, 10, 0, 0, 926372, tzinfo=UTC)),
        ("2026-03-08T10:00:00.9263727+00:00", datetime(2026, 3, 8, 10, 0, 0, 926372, tzinfo=UTC)),
        ("2026-03-08T01:00:00-05:30", datetime(2026, 3, 8, 6, 30, tzinfo=UTC)),
        ("2015-11-25T06: 41: 12Z", datetime(2015, 11, 25, 6, 41, 12, tzinfo=UTC)),
        ("2026-03-08 10:00:00", datetime(2026, 3, 8, 10, tzinfo=UTC)),
        ("2026-03-08", datetime(2026, 3, 8, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", None),
        ("0001-01-01T00:00:00", None),
        ("2026-02-30T10:00:00Z", None),
        ("2026-03-08T10:00:00+99:00", None),
        ("soon", None),
        ("", None),
        (None, None),
        (20260308, None),
    ],
)
def test_an_instant_is_read_in_every_printed_form(text: object, instant: datetime | None) -> None:
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    ("refundable", "batches"),
    [
        ("missing", None),
        (None, None),
        ([], None),
        ({}, None),
        ({"totalQuantity": None, "details": None}, None),
        ({"totalQuantity": 0}, ()),
        ({"totalQuantity": 0, "details": []}, ()),
        ({"totalQuantity": 7}, (ReducibleBatch(7, None),)),
        ({"totalQuantity": 7, "details": None}, (ReducibleBatch(7, None),)),
        ({"totalQuantity": 7, "details": []}, (ReducibleBatch(7, None),)),
        ({"details": [{"quantity": 3}, {"quantity": 0}]}, (ReducibleBatch(3, None),)),
        (
            {"totalQuantity": 5, "details": [{"quantity": 5, "allowedUntilDateTime": "2026-03-08T10:00:00Z"}]},
            (ReducibleBatch(5, datetime(2026, 3, 8, 10, tzinfo=UTC)),),
        ),
        ({"totalQuantity": 5, "details": [{"quantity": "5"}]}, None),
        ({"totalQuantity": 5, "details": ["five"]}, None),
    ],
)
def test_what_may_be_given_back_is_unsaid_rather_than_none_when_it_is_missing(
    refundable: object, batches: tuple[ReducibleBatch, ...] | None
) -> None:
    body = resource() if refundable == "missing" else resource(refundableQuantity=refundable)
    assert read_subscription(body, TENANT).reducible == batches


@pytest.mark.parametrize(
    ("offer", "number"),
    [
        ("CFQ7TTC0LFLX:0001:CFQ7TTC0K4WR", "CFQ7TTC0LFLX:0001"),
        ("2b3b8d2d-10aa-4be4-b5fd-7f2feb0c3091", "2b3b8d2d-10aa-4be4-b5fd-7f2feb0c3091"),
        ("", None),
        (None, None),
    ],
)
def test_the_part_number_is_product_and_sku_and_never_the_availability(offer: object, number: str | None) -> None:
    assert read_subscription(resource(offerId=offer), TENANT).part_number == number


def test_a_bare_end_day_lasts_to_its_end_in_the_new_commerce_only() -> None:
    day = {"commitmentEndDate": "2027-01-04T00:00:00Z"}
    assert read_subscription(resource(**day), TENANT).commitment_end == datetime(2027, 1, 4, 23, 59, 59, tzinfo=UTC)
    old = resource(**day, offerId="2b3b8d2d-10aa-4be4-b5fd-7f2feb0c3091")
    assert read_subscription(old, TENANT).commitment_end == datetime(2027, 1, 4, tzinfo=UTC)


def test_an_id_and_a_status_are_compared_in_lower_case() -> None:
    view = read_subscription(resource(), TENANT)
    assert (view.id, view.status) == ("s-1", "active")


@pytest.mark.parametrize("body", [None, [], "x", {}, resource(id=None), resource(quantity=1.0), resource(status=None)])
def test_a_resource_that_cannot_be_understood_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match=r"resource|subscription"):
        read_subscription(body, TENANT)


@pytest.mark.parametrize(
    ("fields", "has", "quantity"),
    [
        ({}, False, None),
        ({"scheduledNextTermInstructions": None, "scheduledActions": []}, False, None),
        ({"scheduledNextTermInstructions": {"product": {}, "quantity": 20}}, True, 20),
        ({"scheduledNextTermInstructions": {"product": {}, "quantity": None}}, True, None),
        ({"scheduledActions": [{"actionType": "Cancel"}]}, True, None),
        ({"scheduledActions": [{"actionType": "RenewToNewTerm", "instructions": {"quantity": 12}}]}, True, 12),
        (
            {
                "scheduledNextTermInstructions": {"quantity": 20},
                "scheduledActions": [{"instructions": {"quantity": 12}}],
            },
            True,
            12,
        ),
    ],
)
def test_a_change_scheduled_for_the_renewal_is_seen(fields: dict[str, Any], has: bool, quantity: int | None) -> None:
    view = read_subscription(resource(**fields), TENANT)
    assert (view.has_scheduled_change, view.scheduled_quantity) == (has, quantity)


@pytest.mark.parametrize(
    ("scheduled", "delta", "result"), [(20, 10, 30), (20, -5, 15), (5, -4, 1), (5, -5, None), (5, -9, None)]
)
def test_a_scheduled_quantity_moves_with_the_seats_and_never_below_one(
    scheduled: int, delta: int, result: int | None
) -> None:
    assert adjust_scheduled_quantity(scheduled, delta) == result


def test_adjusting_a_schedule_changes_its_quantities_and_nothing_else_and_leaves_the_original_alone() -> None:
    term = {"product": {"productId": "P"}, "quantity": 20, "customTermEndDate": None}
    action = {"actionType": "RenewToNewTerm", "instructions": {"quantity": 12, "product": {"skuId": "1"}}, "odd": [1]}
    before = ScheduledInstructions(term, (action, {"actionType": "Cancel", "instructions": None}), True)
    after = adjust_schedule(before, 10)
    assert after is not None
    assert after.next_term == {**term, "quantity": 30}
    assert after.actions == (
        {**action, "instructions": {"quantity": 22, "product": {"skuId": "1"}}},
        {"actionType": "Cancel", "instructions": None},
    )
    assert (term["quantity"], action["instructions"]["quantity"]) == (20, 12)  # type: ignore[index]
    assert adjust_schedule(before, -12) is None


def test_a_schedule_survives_being_kept_as_text() -> None:
    kept = read_schedule(resource(scheduledNextTermInstructions={"quantity": 20, "name": "Ä"}))
    assert kept is not None
    assert instructions_from_json(kept.to_json()) == kept
    with pytest.raises(ValueError, match="object"):
        instructions_from_json("[]")


@pytest.mark.parametrize(
    ("found", "agrees"),
    [
        ({"product": {"skuId": "0001", "availabilityId": "B"}, "quantity": 20, "extra": 1}, True),
        ({"product": {"skuId": "0001", "availabilityId": "A"}, "quantity": 21}, False),
        ({"product": {"skuId": "0002", "availabilityId": "A"}, "quantity": 20}, False),
        ({"quantity": 20}, False),
        (None, False),
    ],
)
def test_a_schedule_agrees_when_the_other_says_all_that_it_says(found: dict[str, Any] | None, agrees: bool) -> None:
    wanted = ScheduledInstructions(
        {"product": {"skuId": "0001", "availabilityId": "A"}, "quantity": 20, "promo": None}, None, True
    )
    other = read_schedule({"scheduledNextTermInstructions": found})
    assert wanted.agrees_with(other) is agrees


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        (b'{"code": 800090, "description": " no "}', ("800090", "no")),
        (b'{"code": "800090", "description": "no", "data": []}', ("800090", "no")),
        (b'{"Code": "2055", "Description": "stale"}', ("2055", "stale")),
        (b'\xef\xbb\xbf{"code": 1000}', ("1000", "")),
        (b'{"statusCode": 429, "message": "slow down"}', ("", "slow down")),
        (b'{"code": true, "description": 5}', ("", "")),
        (b'{"code": null}', ("", "")),
        (b"<html>", ("", "")),
        (b"\xff\xfe", ("", "")),
        (b"[]", ("", "")),
        (b"", ("", "")),
        (b"[" * 100_000, ("", "")),
    ],
)
def test_an_error_body_is_read_in_every_form_and_never_raises(body: bytes, parsed: tuple[str, str]) -> None:
    assert parse_error(400, body) == parsed


def test_a_code_alone_means_nothing() -> None:
    assert explain_code(400, "2006") != explain_code(403, "2006")
    assert explain_code(500, "2006") is None
    assert classify(400, "800082") is not classify(409, "800082")


def test_the_seats_left_are_only_read_from_the_refusal_that_names_them() -> None:
    text = "exceeded the remaining limit of 3 seats"
    assert remaining_seats(403, "800088", text) == 3
    assert remaining_seats(403, "800067", text) is None
    assert remaining_seats(403, "800088", "no number here") is None


def test_with_actions_on_both_sides_only_the_actions_have_to_agree() -> None:
    wanted = ScheduledInstructions({"quantity": 20}, ({"actionType": "Cancel"},), False)
    assert wanted.agrees_with(read_schedule({"scheduledActions": [{"actionType": "cancel"}]}))
    assert not wanted.agrees_with(read_schedule({"scheduledActions": [{"actionType": "RenewToNewTerm"}]}))
    assert not wanted.agrees_with(read_schedule({"scheduledNextTermInstructions": {"quantity": 20}}))
