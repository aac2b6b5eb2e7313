from __future__ import annotations

import threading

import pytest
from dataverse_kit import ACME, World

from connector.sandbox.store import PluginContext


@pytest.mark.parametrize("verdict", ["missing", "expired", "wrong_audience"])
def test_a_bad_token_is_an_empty_401_with_a_challenge(verdict: str) -> None:
    world = World()
    world.verdict = verdict
    answer = world.get("accounts")
    assert (answer.status, answer.response.body) == (401, b"")
    assert (answer.header("WWW-Authenticate") or "").startswith("Bearer authorization_uri=https://")
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}).status == 401
    assert world.store.get("account", ACME)["name"] == "Acme"  # type: ignore[index]


@pytest.mark.parametrize(
    ("verdict", "code", "text"),
    [
        ("not_a_member", "0x80072560", "The user is not a member of the organization."),
        ("disabled", "0x80040225", "disabled"),
        ("no_privilege:prvReadAccount", "0x80040220", "is missing prvReadAccount privilege"),
    ],
)
def test_a_user_without_rights_is_403(verdict: str, code: str, text: str) -> None:
    world = World()
    world.verdict = verdict
    answer = world.get("accounts")
    assert (answer.status, answer.code) == (403, code)
    assert text in answer.message


@pytest.mark.parametrize(
    ("privilege", "method", "address", "body"),
    [
        ("Read", "GET", "accounts", None),
        ("Read", "GET", "accounts/$count", None),
        ("Read", "GET", f"accounts({ACME})", None),
        ("Read", "GET", "contacts?$expand=parentcustomerid_account", None),
        ("Create", "POST", "accounts", {"name": "x"}),
        ("Create", "PATCH", "accounts(accountnumber='new')", {"name": "x"}),
        ("Write", "PATCH", f"accounts({ACME})", {"name": "x"}),
        ("Delete", "DELETE", f"accounts({ACME})", None),
    ],
)
def test_a_missing_privilege_is_403_and_changes_nothing(
    privilege: str, method: str, address: str, body: dict[str, str] | None
) -> None:
    world = World(denied={(privilege, "account")})
    before = world.store.version
    answer = world.send(method, address, body)
    assert (answer.status, answer.code) == (403, "0x80040220")
    assert f"is missing prv{privilege}Account privilege" in answer.message
    assert world.store.version == before


def test_too_many_requests_are_429_until_the_window_has_moved_on() -> None:
    world = World(request_limit=3)
    for left in (2, 1, 0):
        answer = world.get("WhoAmI")
        assert answer.header("x-ms-ratelimit-burst-remaining-xrm-requests") == str(left)
        world.wait(seconds=10)
    refused = world.get("WhoAmI")
    assert (refused.status, refused.code, refused.header("Retry-After")) == (429, "0x80072322", "270")
    assert refused.message == "Number of requests exceeded the limit of 3 over time window of 300 seconds."
    world.wait(seconds=269)
    assert world.get("WhoAmI").status == 429
    world.wait(seconds=1)
    assert world.get("WhoAmI").status == 200


def test_too_much_work_is_429() -> None:
    world = World(execution_time_limit=1.0, seconds_per_request=0.5)
    assert [world.get("WhoAmI").status for _ in range(2)] == [200, 200]
    refused = world.get("WhoAmI")
    assert (refused.status, refused.code) == (429, "0x80072321")
    assert refused.header("x-ms-ratelimit-time-remaining-xrm-requests") == "0.00"
    assert "exceeded limit of 1,000 milliseconds" in refused.message
    world.wait(seconds=int(refused.header("Retry-After") or 0))
    assert world.get("WhoAmI").status == 200


def test_too_many_requests_at_once_are_429() -> None:
    world = World(concurrency_limit=1)
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: PluginContext) -> None:
        inside.set()
        assert go_on.wait(10)

    world.store.register("account", "Update", hold)
    answers: list[int] = []
    writer = threading.Thread(
        target=lambda: answers.append(world.send("PATCH", f"accounts({ACME})", {"name": "x"}).status)
    )
    writer.start()
    assert inside.wait(10)
    refused = world.get("WhoAmI")
    go_on.set()
    writer.join(10)
    assert (refused.status, refused.code, refused.header("Retry-After")) == (429, "0x80072326", "1")
    assert refused.message == "Number of concurrent requests exceeded the limit of 1."
    assert answers == [204]
    assert world.get("WhoAmI").status == 200


def test_refused_requests_change_nothing() -> None:
    world = World(request_limit=0)
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}).status == 429
    assert world.store.get("account", ACME)["name"] == "Acme"  # type: ignore[index]
