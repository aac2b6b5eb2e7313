from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any

import pytest
from dataverse_kit import ACME, BOLT, CITY, ROOT, Answer, World, guid

MISSING = guid(99)
LONG = {"name": "x" * 161}


@pytest.fixture
def world() -> World:
    return World()


def part(
    method: str, address: str, body: Any = None, *, content_id: int | None = None, headers: dict[str, str] | None = None
) -> str:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"{method} {address} HTTP/1.1", "Content-Type: application/json; type=entry"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", "" if body is None else json.dumps(body, ensure_ascii=False)])


def change_set(*parts: str) -> str:
    inner = "".join(f"--changeset_1\r\n{text}\r\n" for text in parts)
    return f'Content-Type: multipart/mixed; boundary="changeset_1"\r\n\r\n{inner}--changeset_1--\r\n'


def body_of(*parts: str) -> str:
    return "".join(f"--batch_1\r\n{text}\r\n" for text in parts) + "--batch_1--\r\n"


@dataclass
class Item:
    status: int
    headers: dict[str, str]
    json: Any
    content_id: str | None = None
    nested: bool = False


@dataclass
class BatchAnswer:
    status: int
    items: list[Item] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        return [item.status for item in self.items]


def read(answer: Answer) -> BatchAnswer:
    kind = answer.header("Content-Type") or ""
    assert re.fullmatch(r"multipart/mixed; boundary=batchresponse_[0-9a-f-]{36}", kind)
    found = BatchAnswer(answer.status)
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.response.body)
    for outer in message.get_payload():
        inner = outer.get_payload() if outer.is_multipart() else [outer]
        for each in inner:
            head, _, text = each.get_payload().replace("\r\n", "\n").partition("\n\n")
            first, *lines = head.split("\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            content = json.loads(text) if text.strip() else None
            status = int(first.split()[1])
            found.items.append(Item(status, headers, content, each.get("Content-ID"), outer.is_multipart()))
    return found


def post(world: World, body: str | bytes, **headers: str) -> Answer:
    return world.send("POST", "$batch", body, content_type='multipart/mixed; boundary="batch_1"', **headers)


def name(world: World, row_id: str) -> str:
    row = world.store.get("account", row_id)
    assert row is not None
    return str(row["name"])


def test_parts_are_answered_in_order_and_created_rows_say_where_they_are(world: World) -> None:
    answer = read(
        post(
            world,
            body_of(
                part("POST", "/api/data/v9.2/accounts", {"name": "☃"}),
                part("PATCH", f"{ROOT}accounts({ACME})", {"name": "x"}, headers={"If-Match": "*"}),
                part("GET", f"{ROOT}accounts?$select=name&$filter=name eq '☃' or name eq 'x'"),
                part("GET", f"accounts({BOLT})?$select=name"),
                part("DELETE", f"/api/data/v9.2/accounts({CITY})"),
            ),
        )
    )
    assert (answer.status, answer.statuses) == (200, [204, 204, 200, 200, 204])
    created = answer.items[0].headers
    assert created["location"] == created["odata-entityid"]
    assert {row["name"] for row in answer.items[2].json["value"]} == {"☃", "x"}
    assert not any(item.nested for item in answer.items)


def test_an_error_ends_the_batch_with_an_outer_400_and_what_was_done_stays(world: World) -> None:
    answer = read(
        post(
            world,
            body_of(
                part("PATCH", f"accounts({ACME})", {"name": "done"}),
                part("PATCH", f"accounts({BOLT})", LONG),
                part("PATCH", f"accounts({CITY})", {"name": "never"}),
            ),
        )
    )
    assert (answer.status, answer.statuses) == (400, [204, 400])
    assert answer.items[1].json["error"]["code"] == "0x80044331"
    assert answer.items[1].headers["req_id"]
    assert [name(world, row_id) for row_id in (ACME, BOLT, CITY)] == ["done", "Bolt O'Neil", "city"]


def test_continue_on_error_tries_everything_under_an_outer_200(world: World) -> None:
    stale = 'W/"1"'
    raw = post(
        world,
        body_of(
            part("PATCH", f"accounts({ACME})", {"name": "a"}, headers={"If-Match": world.etag("accounts", ACME)}),
            part("PATCH", f"accounts({BOLT})", {"name": "b"}, headers={"If-Match": stale}),
            part("PATCH", f"accounts({MISSING})", {"name": "c"}, headers={"If-Match": "*"}),
            part("PATCH", f"accounts({CITY})", {"name": "d"}),
        ),
        prefer="odata.continue-on-error",
    )
    answer = read(raw)
    assert raw.header("Preference-Applied") == "odata.continue-on-error"
    assert (answer.status, answer.statuses) == (200, [204, 412, 404, 204])
    assert answer.items[1].json["error"]["code"] == "0x80060882"
    assert [name(world, row_id) for row_id in (ACME, BOLT, CITY)] == ["a", "Bolt O'Neil", "d"]


def test_a_change_set_succeeds_as_one_and_its_parts_refer_to_each_other(world: World) -> None:
    answer = read(
        post(
            world,
            body_of(
                change_set(
                    part("POST", f"{ROOT}accounts", {"name": "made"}, content_id=1),
                    part("POST", f"{ROOT}contacts", {"firstname": "Jo"}, content_id=2),
                    part("PATCH", "$1", {"primarycontactid@odata.bind": "$2"}, content_id=3),
                    part("PUT", "$2/lastname", {"value": "Bloggs"}, content_id=4),
                    part("PUT", "$2/parentcustomerid_account/$ref", {"@odata.id": "$1"}, content_id=5),
                )
            ),
        )
    )
    assert (answer.status, answer.statuses) == (200, [204] * 5)
    assert [item.content_id for item in answer.items] == ["1", "2", "3", "4", "5"]
    assert all(item.nested for item in answer.items)
    row = world.store.find("account", "name", "made")[0]
    contact = world.store.get("contact", row["primarycontactid"])
    assert contact is not None
    assert (contact["fullname"], contact["parentcustomerid"]) == ("Jo Bloggs", row["accountid"])


@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_a_failed_change_set_leaves_nothing_and_gives_one_error(world: World, layout: Any) -> None:
    world.service.options.changeset_error_layout = layout
    feed = world.get("accounts?$select=name", prefer="odata.track-changes").json["@odata.deltaLink"]
    etag = world.etag("accounts", ACME)
    answer = read(
        post(
            world,
            body_of(
                change_set(
                    part("PATCH", f"accounts({ACME})", {"name": "never"}, content_id=1),
                    part("POST", "accounts", {"name": "never"}, content_id=2),
                    part("PATCH", f"accounts({BOLT})", {"name": "x"}, content_id=3, headers={"If-Match": 'W/"1"'}),
                ),
                part("PATCH", f"accounts({CITY})", {"name": "not reached"}),
            ),
        )
    )
    assert (answer.status, answer.statuses) == (400, [412])
    assert answer.items[0].nested is (layout == "nested")
    assert answer.items[0].content_id == ("3" if layout == "nested" else None)
    assert world.etag("accounts", ACME) == etag
    assert world.store.count("account") == 3
    assert world.get(feed).rows == []


def test_a_failed_change_set_does_not_stop_a_batch_that_goes_on(world: World) -> None:
    answer = read(
        post(
            world,
            body_of(
                change_set(part("PATCH", f"accounts({ACME})", LONG, content_id=1)),
                part("PATCH", f"accounts({CITY})", {"name": "reached"}),
            ),
            prefer="odata.continue-on-error",
        )
    )
    assert (answer.status, answer.statuses) == (200, [400, 204])


@pytest.mark.parametrize(
    "parts",
    [
        [
            part("POST", "tasks", {"subject": "x", "regardingobjectid_account_task@odata.bind": "$1"}, content_id=2),
            part("POST", "accounts", {"name": "x"}, content_id=1),
        ],
        [part("PATCH", "$1", {"name": "x"}, content_id=2)],
    ],
)
def test_a_reference_forward_refuses_the_batch_before_anything_is_done(world: World, parts: list[str]) -> None:
    answer = post(world, body_of(part("PATCH", f"accounts({ACME})", {"name": "x"}), change_set(*parts)))
    assert (answer.status, answer.code) == (400, "0x80048d19")
    assert answer.message == "Content-ID Reference: '$1' does not exist in the batch context."
    assert name(world, ACME) == "Acme"


GOOD = body_of(part("PATCH", f"/api/data/v9.2/accounts({ACME})", {"name": "x"}))


@pytest.mark.parametrize(
    "body",
    [
        GOOD.replace("\r\n", "\n"),
        GOOD.removesuffix("\r\n"),
        GOOD.replace("--batch_1--", ""),
        GOOD.replace("HTTP/1.1\r\n", "HTTP/1.1\n"),
        GOOD.replace("batch_1", "other"),
        "",
    ],
)
def test_anything_but_crlf_and_exact_boundaries_is_unreadable(world: World, body: str) -> None:
    answer = post(world, body)
    assert (answer.status, answer.code) == (400, "0x80048d19")
    assert answer.message.endswith("System.ArgumentException: Stream was not readable.")
    assert name(world, ACME) == "Acme"


def test_line_feeds_inside_the_json_are_nobody_s_business(world: World) -> None:
    assert read(post(world, GOOD.replace('{"name"', '{\n"name"'))).statuses == [204]


def test_a_read_without_its_blank_line_is_unreadable(world: World) -> None:
    bare = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET accounts HTTP/1.1"
    assert post(world, body_of(bare)).status == 400
    assert read(post(world, body_of(bare + "\r\n"))).statuses == [200]


@pytest.mark.parametrize(
    "body",
    [
        body_of(change_set(part("GET", "accounts", content_id=1))),
        body_of(part("POST", "/api/data/v9.2/$batch", {})),
        body_of(*[part("DELETE", f"accounts({MISSING})")] * 1001),
        body_of(change_set(*[part("DELETE", f"accounts({MISSING})", content_id=1)] * 2)),
    ],
)
def test_a_batch_that_is_not_allowed_is_refused_as_a_whole(world: World, body: str) -> None:
    answer = post(world, body)
    assert (answer.status, answer.code) == (400, "0x80048d19")
    assert answer.header("Content-Type") == "application/json; odata.metadata=minimal"


def test_a_thousand_requests_are_allowed(world: World) -> None:
    assert len(read(post(world, body_of(*[part("GET", f"accounts({ACME})")] * 1000))).items) == 1000


def test_a_batch_has_its_own_content_type_and_method(world: World) -> None:
    assert world.send("POST", "$batch", GOOD, content_type="application/json").status == 400
    assert world.send("GET", "$batch").status == 404


def test_a_part_has_its_own_preferences_and_may_have_a_long_address(world: World) -> None:
    long_filter = " or ".join(["name eq 'acme'"] * 2300)
    answer = read(
        post(
            world,
            body_of(
                part("GET", "accounts?$select=name", headers={"Prefer": "odata.maxpagesize=1"}),
                part("GET", f"accounts?$select=name&$filter={long_filter}"),
                part("PATCH", f"accounts({ACME})", {"name": "x"}, headers={"Prefer": "return=representation"}),
            ),
        )
    )
    assert answer.statuses == [200, 200, 200]
    assert "@odata.nextLink" in answer.items[0].json
    assert len(answer.items[1].json["value"]) == 1
    assert answer.items[2].json["name"] == "x"


def test_an_address_of_another_organisation_is_not_served(world: World) -> None:
    answer = read(post(world, body_of(part("GET", "https://elsewhere.example/api/data/v9.2/accounts"))))
    assert answer.statuses == [404]
