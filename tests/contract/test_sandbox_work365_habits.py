"""Each world of `work365:`: what becomes of the parent's log, who raises the parent, and where the marker may stand."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from connector.sandbox.app import Sandbox
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import LOG, MARKER, QUANTITY, SUBSCRIPTION

_LCL = "work365_licensechangelog_"
_SUB = "work365_subscription_"
REFERENCE = f"{_SUB}orderreference"
AWAITING, NOT_APPLICABLE = "Awaiting Provisioning", "Not Applicable"


def world(**work365: Any) -> Sandbox:
    document: dict[str, Any] = {
        "name": "one family",
        "clock": "2026-03-02T14:00:00Z",
        "accounts": [{"id": "pinecone"}],
        "contracts": [{"id": "c"}],
        "work365": work365,
        "subscriptions": [
            {"id": "p", "contract": "c", "quantity": 25, "order_reference": "SO-4711", "at_provider": {}},
            {"id": "ny", "contract": "c", "linked_to": "p", "quantity": 25},
            {"id": "alone", "contract": "c", "provider": "manual", "quantity": 5},
        ],
    }
    return Sandbox(build_scenario(document))


def do(sandbox: Sandbox, **step: Any) -> None:
    sandbox.perform(build_step(step, sandbox.scenario))


def send(sandbox: Sandbox, method: str, path: str, body: bytes, kind: str) -> Response:
    headers = {"authorization": f"Bearer {sandbox.sign_in.issue('dataverse')}", "content-type": kind}
    request = Request(method, f"/api/data/v9.2/{path}", "", headers, body, "https://org.example")
    answer = sandbox.handle("dataverse", request)
    assert isinstance(answer, Response)
    return answer


def api(sandbox: Sandbox, alias: str, quantity: int, **more: Any) -> None:
    """A client of the API writes a quantity."""
    body = json.dumps({QUANTITY: quantity, **more}).encode()
    path = f"work365_subscriptions({sandbox.world.id_of(alias)})"
    assert send(sandbox, "PATCH", path, body, "application/json").status == 204


def refused_change_set(sandbox: Sandbox, alias: str, quantity: int) -> None:
    """The same in a change set whose second part is refused."""
    parts = []
    for number, (row_id, body) in enumerate(
        [(sandbox.world.id_of(alias), {QUANTITY: quantity}), (sandbox.world.id_of("alone"), {QUANTITY: "x"})], start=1
    ):
        parts.append(
            f"--c\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            f"PATCH /api/data/v9.2/work365_subscriptions({row_id}) HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"
            f"{json.dumps(body)}\r\n"
        )
    text = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{''.join(parts)}--c--\r\n\r\n--b--\r\n"
    answer = send(sandbox, "POST", "$batch", text.encode(), "multipart/mixed; boundary=b")
    assert answer.status == 400 and row(sandbox, alias)[QUANTITY] != quantity


def row(sandbox: Sandbox, alias: str) -> Mapping[str, Any]:
    found = sandbox.store.get(SUBSCRIPTION, sandbox.world.id_of(alias))
    assert found is not None
    return found


def told(sandbox: Sandbox, alias: str) -> list[tuple[int, str]]:
    """Quantity and status of every log since the beginning."""
    label = sandbox.store.schema.label
    return [
        (log[f"{_LCL}quantity"], label(LOG, f"{_LCL}provisioningstatus", log[f"{_LCL}provisioningstatus"]))
        for log in sandbox.world.logs_of(alias)
    ]


def references(sandbox: Sandbox, alias: str) -> list[str | None]:
    return [log[f"{_LCL}orderreference"] for log in sandbox.world.logs_of(alias)]


@pytest.mark.parametrize(
    ("parent_log", "logs"),
    [("makes", [(10, AWAITING)]), ("not_applicable", [(10, NOT_APPLICABLE)]), ("late", []), ("none", [])],
)
def test_the_log_of_a_parent_that_the_api_raises_is_as_the_world_says(
    parent_log: str, logs: list[tuple[int, str]]
) -> None:
    sandbox = world(parent_log=parent_log)
    api(sandbox, "p", 35)
    assert row(sandbox, "p")[QUANTITY] == 35
    assert told(sandbox, "p") == logs


@pytest.mark.parametrize("parent_log", ["makes", "late", "not_applicable", "none"])
def test_people_children_and_those_without_children_have_their_logs_at_once_in_every_world(parent_log: str) -> None:
    sandbox = world(parent_log=parent_log)
    do(sandbox, change={"subscription": "p", "quantity": 30})
    do(sandbox, crm_change={"subscription": "p", "quantity": 31})
    assert told(sandbox, "p") == [(5, AWAITING), (1, AWAITING)]
    api(sandbox, "ny", 26)
    assert told(sandbox, "ny") == [(1, AWAITING)]
    api(sandbox, "alone", 6)
    assert told(sandbox, "alone") == [(1, AWAITING)]


def test_a_late_log_is_made_when_the_clock_passes_its_time_whoever_moves_it() -> None:
    sandbox = world(parent_log="late")
    api(sandbox, "p", 35, **{REFERENCE: "first"})
    sandbox.clock.sleep(1)
    api(sandbox, "p", 37, **{REFERENCE: "second"})
    sandbox.clock.sleep(3.9)
    assert told(sandbox, "p") == []
    do(sandbox, advance="1s")
    assert told(sandbox, "p") == [(10, AWAITING)]
    do(sandbox, advance="1d")
    assert told(sandbox, "p") == [(10, AWAITING), (2, AWAITING)]
    assert references(sandbox, "p") == ["first", "second"], "each carries the row as its write left it"
    made = sandbox.world.logs_of("p")[1]["createdon"] - sandbox.world.logs_of("p")[0]["createdon"]
    assert made == timedelta(seconds=1) and sandbox.work365.next_due() is None


def test_how_late_a_log_is_can_be_said() -> None:
    sandbox = world(parent_log="late", late_by="2m")
    api(sandbox, "p", 35)
    do(sandbox, advance="119s")
    assert told(sandbox, "p") == []
    do(sandbox, advance="1s")
    assert told(sandbox, "p") == [(10, AWAITING)]


def test_what_a_change_set_took_back_has_no_late_log_and_no_late_push() -> None:
    sandbox = world(parent_log="late", pushes="late")
    refused_change_set(sandbox, "p", 35)
    refused_change_set(sandbox, "ny", 35)
    assert sandbox.work365.jobs == []
    do(sandbox, advance="1m")
    assert told(sandbox, "p") == told(sandbox, "ny") == [] and row(sandbox, "p")[QUANTITY] == 25


@pytest.mark.parametrize("parent_log", ["makes", "late", "not_applicable", "none"])
@pytest.mark.parametrize("by_api", [True, False])
def test_an_engine_that_pushes_raises_the_parent_at_once_with_a_log_of_its_own(parent_log: str, by_api: bool) -> None:
    sandbox = world(parent_log=parent_log, pushes=True)
    if by_api:
        api(sandbox, "ny", 35)
    else:
        do(sandbox, change={"subscription": "ny", "quantity": 35, "do_not_refund": True})
    assert (row(sandbox, "p")[QUANTITY], row(sandbox, "p")[REFERENCE]) == (35, "SO-4711")
    assert told(sandbox, "p") == [(10, AWAITING)] and told(sandbox, "ny") == [(10, AWAITING)]
    archived = sandbox.store.schema.option(LOG, "statuscode", "Archived")
    assert sandbox.world.logs_of("p")[0]["statuscode"] != archived, (
        "how the child's change is refunded is its own affair"
    )


def test_the_engine_follows_what_is_due_and_nothing_else() -> None:
    sandbox = world(pushes="yes")
    do(sandbox, change={"subscription": "ny", "by": 3, "effective": "2026-03-20"})
    do(sandbox, change={"subscription": "alone", "by": 3})
    assert row(sandbox, "p")[QUANTITY] == 25
    do(sandbox, advance="30d")
    assert row(sandbox, "p")[QUANTITY] == 28, "a scheduled change is a change when its day has come"
    do(sandbox, change={"subscription": "ny", "deactivate": True})
    assert told(sandbox, "p") == [(3, AWAITING), (-28, AWAITING)]
    do(sandbox, link={"subscription": "ny", "linked_to": None})
    do(sandbox, change={"subscription": "ny", "activate": True})
    assert row(sandbox, "p")[QUANTITY] == 0


def test_a_late_push_comes_after_seven_seconds_if_the_childs_log_still_waits() -> None:
    sandbox = world(pushes="late", parent_log="none")
    do(sandbox, change={"subscription": "ny", "by": 10})
    do(sandbox, advance="6s")
    assert row(sandbox, "p")[QUANTITY] == 25
    do(sandbox, change={"subscription": "ny", "by": 2})
    do(sandbox, set_lcl={"subscription": "ny", "index": -1, "status": "Provisioned"})
    do(sandbox, advance="1s")
    assert told(sandbox, "p") == [(10, AWAITING)]
    do(sandbox, advance="1h")
    assert row(sandbox, "p")[QUANTITY] == 35, "the second log did not wait any more"


@pytest.mark.parametrize(
    ("copies", "copied"),
    [("yes", "so-4711 of the second floor"), ("no", None), ("altered", "SO-4711 OF THE SECON")],
)
def test_the_order_reference_reaches_a_parents_log_as_the_world_says(copies: str, copied: str | None) -> None:
    sandbox = world(copies_order_reference=copies)
    text = "so-4711 of the second floor"
    api(sandbox, "p", 35, **{REFERENCE: text})
    api(sandbox, "ny", 35, **{REFERENCE: text})
    assert references(sandbox, "p") == [copied] and references(sandbox, "ny") == [text]
    assert row(sandbox, "p")[REFERENCE] == text


def test_two_worlds_that_are_told_the_same_make_the_same_logs() -> None:
    worlds = [world(parent_log="late", pushes="late") for _ in range(2)]
    for sandbox in worlds:
        do(sandbox, change={"subscription": "ny", "by": 10})
        api(sandbox, "p", 30)
        do(sandbox, advance="1m")
    first, second = ([log[f"{LOG}id"] for log in sandbox.world.logs_of("p")] for sandbox in worlds)
    assert len(first) == 2 and first == second


def metadata_of(sandbox: Sandbox, column: str) -> Response:
    path = f"EntityDefinitions(LogicalName='{SUBSCRIPTION}')/Attributes(LogicalName='{column}')"
    headers = {"authorization": f"Bearer {sandbox.sign_in.issue('dataverse')}"}
    answer = sandbox.handle(
        "dataverse", Request("GET", f"/api/data/v9.2/{path}", "", headers, b"", "https://o.example")
    )
    assert isinstance(answer, Response)
    return answer


def test_a_column_for_the_marker_is_there_only_where_the_organisation_added_it() -> None:
    assert metadata_of(world(), MARKER).status == 404
    sandbox = world(marker_column=True)
    described = json.loads(metadata_of(sandbox, MARKER).body)
    assert (described["AttributeType"], described["LogicalName"]) == ("String", MARKER)
    api(sandbox, "p", 35, **{MARKER: "x" * 4000})
    assert row(sandbox, "p")[MARKER] == "x" * 4000
    body = json.dumps({MARKER: "x" * 4001}).encode()
    path = f"work365_subscriptions({sandbox.world.id_of('p')})"
    assert send(sandbox, "PATCH", path, body, "application/json").status == 400
    body = json.dumps({MARKER: "x"}).encode()
    assert send(world(), "PATCH", path, body, "application/json").status == 400, "elsewhere there is no such property"


def test_a_person_erases_the_marker_wherever_it_stands() -> None:
    for sandbox in (world(), world(marker_column=True)):
        version = row(sandbox, "p")["versionnumber"]
        if MARKER in sandbox.store.schema.table(SUBSCRIPTION).columns:
            api(sandbox, "p", 25, **{MARKER: "LS2|…"})
        do(sandbox, erase_marker={"subscription": "p"})
        assert row(sandbox, "p")[REFERENCE] is None and row(sandbox, "p")[MARKER] is None
        assert row(sandbox, "p")["versionnumber"] > version
        assert row(sandbox, "p")[QUANTITY] == 25 and told(sandbox, "p") == []


def test_a_person_writes_any_order_reference_or_none() -> None:
    sandbox = world()
    do(sandbox, crm_change={"subscription": "p", "order_reference": "SO-4712"})
    assert row(sandbox, "p")[REFERENCE] == "SO-4712"
    do(sandbox, crm_change={"subscription": "p", "order_reference": None})
    assert row(sandbox, "p")[REFERENCE] is None


def test_clients_of_several_threads_lose_no_late_log() -> None:
    sandbox = world(parent_log="late", pushes="late")
    failures: list[BaseException] = []

    def client(first: int) -> None:
        try:
            for step in range(10):
                api(sandbox, "p", 1000 + first * 100 + step)
                sandbox.clock.sleep(1)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    do(sandbox, advance="1m")
    assert failures == [] and sandbox.work365.jobs == []
    assert len(told(sandbox, "p")) == 40
    assert sum(quantity for quantity, _ in told(sandbox, "p")) == row(sandbox, "p")[QUANTITY] - 25
