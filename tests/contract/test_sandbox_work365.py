"""Rows of the emulated CRM behave as Work 365's documentation says: logs, Do Nothing, scheduled changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from connector.sandbox.app import Sandbox
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import LOG, QUANTITY, SCHEDULED, SUBSCRIPTION

_LCL = "work365_licensechangelog_"
_SUB = "work365_subscription_"


def world(**extra: Any) -> Sandbox:
    document: dict[str, Any] = {
        "name": "one family",
        "clock": "2026-03-02T14:00:00Z",
        "time_zone": "America/New_York",
        "accounts": [{"id": "pinecone", "name": "Pine Cone Vet"}],
        "contracts": [{"id": "parent"}, {"id": "ny", "name": "New York"}],
        "subscriptions": [
            {
                "id": "p-e3",
                "contract": "parent",
                "product": "M365-E3",
                "provider": "partner_center",
                "quantity": 25,
                "at_provider": {"commitment_end": "2026-12-31"},
            },
            {"id": "ny-e3", "contract": "ny", "product": "M365-E3", "linked_to": "p-e3", "quantity": 25, "price": 9.5},
            {"id": "none", "contract": "ny", "provider": "do_nothing", "quantity": 5},
        ],
    }
    return Sandbox(build_scenario(document | extra))


def do(sandbox: Sandbox, **step: Any) -> None:
    sandbox.perform(build_step(step, sandbox.scenario))


def option(sandbox: Sandbox, table: str, column: str, label: str) -> int:
    return sandbox.store.schema.option(table, column, label)


def told(sandbox: Sandbox, alias: str) -> list[tuple[int, str, str]]:
    """Quantity, status and kind of every log since the beginning."""
    label = sandbox.store.schema.label
    return [
        (
            row[f"{_LCL}quantity"],
            label(LOG, f"{_LCL}provisioningstatus", row[f"{_LCL}provisioningstatus"]),
            label(LOG, f"{_LCL}type", row[f"{_LCL}type"]),
        )
        for row in sandbox.world.logs_of(alias)
    ]


def log(sandbox: Sandbox, alias: str) -> Mapping[str, Any]:
    return sandbox.world.logs_of(alias)[-1]


def row(sandbox: Sandbox, alias: str) -> Mapping[str, Any]:
    found = sandbox.store.get(SUBSCRIPTION, sandbox.world.id_of(alias))
    assert found is not None
    return found


def sum_of_logs(sandbox: Sandbox, alias: str) -> int:
    rows = sandbox.store.find(LOG, f"{_LCL}subscription", sandbox.world.id_of(alias))
    return sum(entry[f"{_LCL}quantity"] for entry in rows)


def test_every_subscription_starts_with_a_provisioned_create_log() -> None:
    sandbox = world()
    (first,) = sandbox.store.find(LOG, f"{_LCL}subscription", sandbox.world.id_of("ny-e3"))
    assert first[f"{_LCL}quantity"] == 25
    assert first[f"{_LCL}provisioningstatus"] == option(sandbox, LOG, f"{_LCL}provisioningstatus", "Provisioned")
    assert first[f"{_LCL}type"] == option(sandbox, LOG, f"{_LCL}type", "Create")
    assert first[f"{_LCL}actualprovisionedon"] == first["createdon"] == datetime(2026, 1, 31, 14, tzinfo=UTC)
    assert told(sandbox, "ny-e3") == []


def test_a_change_of_quantity_makes_a_log_with_the_difference() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 35})
    do(sandbox, change={"subscription": "ny-e3", "by": -4})
    assert told(sandbox, "ny-e3") == [
        (10, "Awaiting Provisioning", "Update"),
        (-4, "Awaiting Provisioning", "Update"),
    ]
    assert sum_of_logs(sandbox, "ny-e3") == row(sandbox, "ny-e3")[QUANTITY] == 31
    first, second = sandbox.world.logs_of("ny-e3")
    assert first["createdon"] < second["createdon"], "the clock stands still, the order of logs does not"
    assert first[f"{_LCL}customer"] == row(sandbox, "ny-e3")[f"{_SUB}customer"] is not None
    assert (first[f"{_LCL}effectivedate"], first[f"{_LCL}provisionon"]) == (date(2026, 3, 2), None)


def test_an_order_reference_written_with_the_quantity_is_on_the_log() -> None:
    sandbox = world()
    values = {QUANTITY: 35, f"{_SUB}orderreference": "LS1|abc"}
    sandbox.store.update(SUBSCRIPTION, sandbox.world.id_of("p-e3"), values)
    assert log(sandbox, "p-e3")[f"{_LCL}orderreference"] == "LS1|abc"
    do(sandbox, crm_change={"subscription": "p-e3", "quantity": 36})
    assert log(sandbox, "p-e3")[f"{_LCL}orderreference"] == "LS1|abc", "the last change details stay on the row"


def call(sandbox: Sandbox, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    named["authorization"] = f"Bearer {sandbox.sign_in.issue('dataverse')}"
    request = Request(method, f"/api/data/v9.2/{path}", "", named, body, "https://127.0.0.1:8443")
    answer = sandbox.handle("dataverse", request)
    assert isinstance(answer, Response)
    return answer


def test_a_conditional_patch_through_the_web_api_makes_the_log_and_counts_as_one_write() -> None:
    sandbox = world()
    path = f"work365_subscriptions({sandbox.world.id_of('p-e3')})"
    etag = json.loads(call(sandbox, "GET", path).body)["@odata.etag"]
    body = json.dumps({QUANTITY: 35, f"{_SUB}orderreference": "LS1|abc"}).encode()
    headers = {"content_type": "application/json", "if_match": etag}
    assert call(sandbox, "PATCH", path, body, **headers).status == 204
    assert told(sandbox, "p-e3") == [(10, "Awaiting Provisioning", "Update")]
    assert log(sandbox, "p-e3")[f"{_LCL}orderreference"] == "LS1|abc"
    assert call(sandbox, "PATCH", path, body, **headers).status == 412, "a stale ETag is fenced off"
    assert (sandbox.writes().crm, sandbox.writes().crm_requests) == (1, 1)


def change_set(sandbox: Sandbox, etag: str | None = None) -> bytes:
    parts = []
    for number, entry in enumerate(sandbox.world.logs_of("ny-e3"), start=1):
        condition = etag or f'W/"{entry["versionnumber"]}"'
        status = option(sandbox, LOG, f"{_LCL}provisioningstatus", "Provisioned")
        parts.append(
            "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: {number}\r\n\r\n"
            f"PATCH /api/data/v9.2/work365_licensechangelogs({entry[f'{LOG}id']}) HTTP/1.1\r\n"
            f"Content-Type: application/json\r\nIf-Match: {condition}\r\n\r\n"
            + json.dumps({f"{_LCL}provisioningstatus": status})
            + "\r\n"
        )
    inner = "".join(parts) + "--c--\r\n"
    return f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}\r\n--b--\r\n".encode()


def test_a_change_set_is_one_request_and_as_many_writes_as_it_has_parts() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 35})
    do(sandbox, change={"subscription": "ny-e3", "quantity": 36})
    kind = "multipart/mixed; boundary=b"
    refused = call(sandbox, "POST", "$batch", change_set(sandbox, 'W/"1"'), content_type=kind)
    assert b"412" in refused.body and sandbox.writes().crm == 0
    assert call(sandbox, "POST", "$batch", change_set(sandbox), content_type=kind).status == 200
    assert [status for _, status, _ in told(sandbox, "ny-e3")] == ["Provisioned", "Provisioned"]
    assert (sandbox.writes().crm, sandbox.writes().crm_requests) == (2, 1)
    assert [entry.write for entry in sandbox.trace.entries("dataverse")] == [True, True]


def test_nothing_waits_for_do_nothing() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "none", "quantity": 9})
    assert told(sandbox, "none") == [(4, "Not Applicable", "Update")]
    do(sandbox, set_lcl={"subscription": "none", "status": "Awaiting"})
    assert told(sandbox, "none") == [(4, "Not Applicable", "Update")]


def test_a_price_alone_makes_an_audit_log_without_seats() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "price": True})
    assert told(sandbox, "ny-e3") == [(0, "Not Applicable", "Audit")]
    do(sandbox, change={"subscription": "ny-e3", "price": 12, "quantity": 26})
    assert told(sandbox, "ny-e3")[1:] == [(1, "Awaiting Provisioning", "Update")]


def test_deactivation_gives_all_seats_back_and_activation_takes_them_again() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "deactivate": True, "do_not_refund": True})
    assert told(sandbox, "ny-e3") == [(-25, "Awaiting Provisioning", "Deactivate")]
    archived = option(sandbox, LOG, "statuscode", "Archived")
    assert log(sandbox, "ny-e3")["statuscode"] == archived, "Do Not Refund archives at once, the provider still waits"
    assert sum_of_logs(sandbox, "ny-e3") == 0
    do(sandbox, change={"subscription": "ny-e3", "quantity": 20})
    assert len(told(sandbox, "ny-e3")) == 1, "an inactive subscription stands for no seats"
    do(sandbox, change={"subscription": "ny-e3", "activate": True})
    assert told(sandbox, "ny-e3")[1:] == [(20, "Awaiting Provisioning", "Activate")]
    assert log(sandbox, "ny-e3")["statuscode"] != archived


def test_a_row_that_is_written_without_a_new_value_makes_no_log() -> None:
    sandbox = world()
    sandbox.store.update(SUBSCRIPTION, sandbox.world.id_of("ny-e3"), {QUANTITY: 25})
    assert told(sandbox, "ny-e3") == []


def test_a_new_subscription_waits_for_all_its_seats() -> None:
    sandbox = world()
    linked = sandbox.world.provider_id("linked")
    created = sandbox.store.create(SUBSCRIPTION, {QUANTITY: 7, f"{_SUB}provider": linked})
    (made,) = sandbox.store.find(LOG, f"{_LCL}subscription", created)
    assert made[f"{_LCL}quantity"] == 7
    assert made[f"{_LCL}type"] == option(sandbox, LOG, f"{_LCL}type", "Create")


def test_a_change_dated_today_makes_the_log_at_once_with_the_wall_clock_times() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 35, "effective": "2026-03-02"})
    assert log(sandbox, "ny-e3")[f"{_LCL}provisionon"] == datetime(2026, 3, 2, 5, 5, tzinfo=UTC)
    do(sandbox, change={"subscription": "ny-e3", "quantity": 30, "effective": "2026-03-02"})
    assert log(sandbox, "ny-e3")[f"{_LCL}provisionon"] == datetime(2026, 3, 3, 4, 30, tzinfo=UTC)
    assert row(sandbox, "ny-e3")[QUANTITY] == 30


def scheduled(sandbox: Sandbox) -> list[tuple[str, datetime]]:
    label = sandbox.store.schema.label
    return sorted(
        (label(SCHEDULED, "statuscode", entry["statuscode"]), entry["work365_slcl_provisionon"])
        for entry in sandbox.store.rows(SCHEDULED)
    )


@pytest.mark.parametrize(
    ("zone", "day", "quantity", "instant"),
    [
        ("America/New_York", "2026-03-08", 35, "2026-03-08T05:05:00Z"),
        ("America/New_York", "2026-03-08", 20, "2026-03-09T03:30:00Z"),
        ("America/New_York", "2026-11-01", 35, "2026-11-01T04:05:00Z"),
        ("America/New_York", "2026-11-01", 20, "2026-11-02T04:30:00Z"),
        ("Europe/Berlin", "2026-10-25", 35, "2026-10-24T22:05:00Z"),
        (None, "2026-03-08", 35, "2026-03-08T00:05:00Z"),
        (None, "2026-03-08", 20, "2026-03-08T23:30:00Z"),
    ],
)
def test_a_change_dated_later_is_made_by_a_job_at_the_wall_clock_time(
    zone: str | None, day: str, quantity: int, instant: str
) -> None:
    sandbox = world(time_zone=zone)
    due = datetime.fromisoformat(instant.replace("Z", "+00:00"))
    do(sandbox, change={"subscription": "ny-e3", "quantity": quantity, "effective": day})
    assert scheduled(sandbox) == [("Pending", due)]
    assert row(sandbox, "ny-e3")[QUANTITY] == 25 and told(sandbox, "ny-e3") == []
    sandbox.clock.set(due)
    assert scheduled(sandbox) == [("Archived", due)]
    assert told(sandbox, "ny-e3") == [(quantity - 25, "Awaiting Provisioning", "Update")]
    made = log(sandbox, "ny-e3")
    assert (made["createdon"], made[f"{_LCL}effectivedate"]) == (due, date.fromisoformat(day))


def test_the_job_does_not_run_a_second_early() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 35, "effective": "2026-03-08"})
    sandbox.clock.set(datetime(2026, 3, 8, 5, 4, 59, tzinfo=UTC))
    assert told(sandbox, "ny-e3") == []


def test_scheduled_changes_are_made_in_order_in_one_jump_of_the_clock() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 20, "effective": "2026-03-10"})
    do(sandbox, change={"subscription": "ny-e3", "deactivate": True, "effective": "2026-03-12"})
    do(sandbox, change={"subscription": "ny-e3", "activate": True, "effective": "2026-03-20"})
    do(sandbox, advance="60d")
    assert told(sandbox, "ny-e3") == [
        (-5, "Awaiting Provisioning", "Update"),
        (-20, "Awaiting Provisioning", "Deactivate"),
        (20, "Awaiting Provisioning", "Activate"),
    ]


def test_on_renewal_means_the_day_after_the_parents_term() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 20, "effective": "on_renewal"})
    assert scheduled(sandbox) == [("Pending", datetime(2027, 1, 2, 4, 30, tzinfo=UTC))]


def test_a_scheduled_change_that_cannot_be_made_says_so() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 20, "effective": "2026-03-10"})
    (entry,) = sandbox.store.rows(SCHEDULED)
    sandbox.store.update(SCHEDULED, entry[f"{SCHEDULED}id"], {"work365_slcl_quantity": None})
    do(sandbox, advance="30d")
    assert [status for status, _ in scheduled(sandbox)] == ["Merge Failed"]
    assert told(sandbox, "ny-e3") == []


def test_a_person_confirms_a_log() -> None:
    sandbox = world()
    do(sandbox, change={"subscription": "ny-e3", "quantity": 26})
    do(sandbox, set_lcl={"subscription": "ny-e3", "index": -1, "status": "Provisioned"})
    assert told(sandbox, "ny-e3") == [(1, "Provisioned", "Update")]
    assert log(sandbox, "ny-e3")[f"{_LCL}actualprovisionedon"] == sandbox.clock.now()


def test_linking_moves_no_seats() -> None:
    sandbox = world()
    do(sandbox, link={"subscription": "none", "linked_to": "p-e3"})
    assert row(sandbox, "none")[f"{_SUB}linkedsubscription"] == sandbox.world.id_of("p-e3")
    assert sandbox.world.provider_key(row(sandbox, "none")[f"{_SUB}provider"]) == "linked"
    assert told(sandbox, "none") == []
    do(sandbox, link={"subscription": "none", "linked_to": None, "provider": "do_nothing"})
    assert row(sandbox, "none")[f"{_SUB}linkedsubscription"] is None


def test_bad_worlds_can_be_built() -> None:
    sandbox = world(
        subscriptions=[
            {"id": "a", "contract": "ny", "customer": None, "quantity": None, "provider": None, "linked_to": "a"},
            {"id": "b", "quantity": -3, "linked_to": "99999999-9999-4999-8999-999999999999", "state": "suspended"},
        ]
    )
    first, second = row(sandbox, "a"), row(sandbox, "b")
    assert (first[QUANTITY], first[f"{_SUB}customer"], first[f"{_SUB}provider"]) == (None, None, None)
    assert first[f"{_SUB}linkedsubscription"] == sandbox.world.id_of("a")
    assert second[QUANTITY] == -3 and second["statecode"] == 1
    assert sum_of_logs(sandbox, "b") == 0, "a suspended subscription stands for no seats"


def test_provider_accounts_can_be_missing_doubled_or_wrong() -> None:
    tenant = "11111111-1111-4111-8111-111111111111"

    def made(accounts: list[dict[str, Any]] | None) -> list[str]:
        account: dict[str, Any] = {"id": "pinecone", "tenant": tenant}
        if accounts is not None:
            account["provider_accounts"] = accounts
        rows = world(accounts=[account]).store.rows("work365_provideraccount")
        return sorted(str(entry["work365_provideraccount_providerspecificaccountid"]) for entry in rows)

    assert made(None) == [tenant]
    assert made([]) == []
    assert made([{}, {}]) == [tenant, tenant]
    assert made([{"tenant": "wrong"}]) == ["wrong"]


def test_the_same_scenario_gives_the_same_ids() -> None:
    first, second = world(), world()
    for sandbox in (first, second):
        do(sandbox, change={"subscription": "ny-e3", "quantity": 35})
    assert log(first, "ny-e3")[f"{LOG}id"] == log(second, "ny-e3")[f"{LOG}id"]


def test_work_365s_own_engine_pushes_if_a_world_has_it() -> None:
    sandbox = world(engine=True)
    do(sandbox, crm_change={"subscription": "p-e3", "quantity": 30})
    bought = sandbox.world.bought("p-e3")
    assert bought is not None and bought.quantity == 30
    assert told(sandbox, "p-e3") == [(5, "Provisioned", "Update")]
    do(sandbox, crm_change={"subscription": "p-e3", "quantity": 2})
    assert told(sandbox, "p-e3")[1:] == [(-28, "Failed Provisioning", "Update")]
    do(sandbox, change={"subscription": "ny-e3", "quantity": 26})
    assert told(sandbox, "ny-e3") == [(1, "Awaiting Provisioning", "Update")], "linked ones are the connector's"
