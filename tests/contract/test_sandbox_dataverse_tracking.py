from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dataverse_kit import ACME, BOLT, CITY, ROOT, World, guid

TRACK = "odata.track-changes"
QUERY = "accounts?$select=name,accountnumber"


@pytest.fixture
def world() -> World:
    return World()


def link(world: World) -> str:
    return str(world.get(QUERY, prefer=TRACK).json["@odata.deltaLink"])


def summary(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] if "name" in row else f"-{row['id'][-1]}" for row in rows]


def test_the_first_read_ends_with_a_delta_link_that_stands_before_the_rows(world: World) -> None:
    answer = world.get(QUERY, prefer=TRACK)
    assert answer.header("Preference-Applied") == TRACK
    assert list(answer.json) == ["@odata.context", "@odata.deltaLink", "value"]
    assert len(answer.rows) == 3
    address = answer.json["@odata.deltaLink"]
    assert address == f"{ROOT}{QUERY}&$deltatoken={world.store.version}%2103%2f02%2f2026%2014%3a00%3a00"


def test_the_delta_link_comes_on_the_last_page_only(world: World) -> None:
    prefer = f"{TRACK},odata.maxpagesize=2"
    first = world.get(QUERY, prefer=prefer)
    assert first.header("Preference-Applied") == prefer
    assert "@odata.deltaLink" not in first.json
    assert 'istracking="True"' in parse_qs(urlsplit(first.json["@odata.nextLink"]).query)["$skiptoken"][0]
    last = world.get(first.json["@odata.nextLink"], prefer=prefer)
    assert "@odata.nextLink" not in last.json
    assert "@odata.deltaLink" in last.json
    assert "$skiptoken" not in last.json["@odata.deltaLink"]


def test_what_changes_during_the_first_walk_is_in_the_first_delta(world: World) -> None:
    prefer = f"{TRACK},odata.maxpagesize=2"
    first = world.get(QUERY, prefer=prefer)
    world.store.update("account", ACME, {"name": "changed"})
    world.store.delete("account", BOLT)
    last = world.get(first.json["@odata.nextLink"], prefer=prefer)
    delta = world.get(last.json["@odata.deltaLink"])
    assert summary(delta.rows) == ["changed", "-2"]


def test_a_delta_has_changed_rows_in_the_order_of_writing_then_deletions(world: World) -> None:
    address = link(world)
    world.store.update("account", CITY, {"name": "first"})
    world.store.delete("account", BOLT)
    world.store.update("account", ACME, {"telephone1": "a column that was not selected"})
    world.store.update(
        "contact", world.store.find("contact", "lastname", "Bloggs")[0]["contactid"], {"lastname": "other"}
    )
    delta = world.get(address)
    assert delta.json["@odata.context"] == ROOT + "$metadata#accounts(name,accountnumber)/$delta"
    assert summary(delta.rows) == ["first", "Acme", "-2"]
    assert delta.rows[-1] == {
        "@odata.context": ROOT + "$metadata#accounts/$deletedEntity",
        "id": BOLT,
        "reason": "deleted",
    }
    assert delta.rows[0]["@odata.etag"] == world.etag("accounts", CITY)
    assert delta.header("Preference-Applied") is None


def test_changes_of_one_row_come_once_with_its_present_state(world: World) -> None:
    address = link(world)
    for name in ("a", "b", "c"):
        world.store.update("account", ACME, {"name": name})
    assert summary(world.get(address).rows) == ["c"]


def test_a_row_that_came_and_went_is_a_deletion_and_one_that_came_back_a_row(world: World) -> None:
    address = link(world)
    world.store.delete("account", world.store.create("account", {"name": "short"}, id=guid(9)))
    world.store.delete("account", ACME)
    world.store.create("account", {"name": "back"}, id=ACME)
    assert summary(world.get(address).rows) == ["back", "-9"]


def test_nothing_changed_is_an_empty_delta_with_a_link(world: World) -> None:
    delta = world.get(link(world))
    assert (delta.status, delta.rows) == (200, [])
    world.wait(minutes=5)
    world.store.update("account", ACME, {"name": "later"})
    assert summary(world.get(delta.json["@odata.deltaLink"]).rows) == ["later"]


def test_a_rolled_back_change_never_shows(world: World) -> None:
    address = link(world)
    with pytest.raises(RuntimeError), world.store.transaction():
        world.store.update("account", ACME, {"name": "never"})
        world.store.delete("account", BOLT)
        raise RuntimeError
    assert world.get(address).rows == []


def test_a_long_delta_comes_in_pages_that_are_cut_at_its_beginning(world: World) -> None:
    address = link(world)
    for number in range(10, 15):
        world.store.create("account", {"name": f"n{number}"}, id=guid(number))
    world.store.delete("account", ACME)
    seen: list[str] = []
    answer = world.get(address, prefer="odata.maxpagesize=2")
    while "@odata.nextLink" in answer.json:
        assert "@odata.deltaLink" not in answer.json
        seen += summary(answer.rows)
        if len(seen) == 2:
            world.store.update("account", guid(10), {"name": "again"})
        answer = world.get(answer.json["@odata.nextLink"], prefer="odata.maxpagesize=2")
    seen += summary(answer.rows)
    assert seen == ["n10", "n11", "n12", "n13", "n14", "-1"]
    assert summary(world.get(answer.json["@odata.deltaLink"]).rows) == ["again"]


def test_the_size_of_a_delta_can_be_asked_for(world: World) -> None:
    token = link(world).partition("$deltatoken=")[2]
    world.store.update("account", ACME, {"name": "x"})
    world.store.delete("account", BOLT)
    assert world.get(f"accounts/$count?$deltatoken={token}").response.body == b"\xef\xbb\xbf2"


@pytest.mark.parametrize("option", ["$filter=name eq 'x'", "$orderby=name", "$expand=primarycontactid", "$top=1"])
def test_four_options_are_refused(world: World, option: str) -> None:
    answer = world.get(f"accounts?$select=name&{option}".replace(" ", "%20"), prefer=TRACK)
    assert (answer.status, answer.code) == (400, "0x80060888")
    name = option.partition("=")[0]
    assert answer.message == f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'


def test_a_table_without_change_tracking_refuses(world: World) -> None:
    answer = world.get("contacts?$select=fullname", prefer=TRACK)
    assert (answer.status, answer.code) == (400, "0x80072491")
    assert answer.message == "Entity contact isn't enabled for change tracking."


def test_a_token_expires_after_seven_days_by_the_sandbox_s_clock(world: World) -> None:
    address = link(world)
    world.wait(days=7)
    assert world.get(address).status == 200
    world.wait(seconds=1)
    answer = world.get(address)
    assert (answer.status, answer.code) == (400, "0x80044352")
    assert answer.message == "Version stamp associated with the client has expired. Please perform a full sync."
    world.service.options.expired_token_status = 410
    assert world.get(address).status == 410


def test_tokens_can_be_made_to_expire_and_foreign_ones_are_not_believed(world: World) -> None:
    address = link(world)
    world.service.expire_delta_tokens()
    assert world.get(address).code == "0x80044352"
    assert world.get(link(world)).status == 200
    assert world.get(f"{QUERY}&$deltatoken=99999999%2103%2f02%2f2026%2014%3a00%3a00").code == "0x80044352"
    assert world.get(f"{QUERY}&$deltatoken=rubbish").status == 400
    other = world.get(QUERY, prefer="odata.maxpagesize=1").json["@odata.nextLink"]
    assert world.get(other, prefer=TRACK).status == 400


def test_change_tracking_needs_the_read_privilege(world: World) -> None:
    world.service.options.denied.add(("Read", "account"))
    answer = world.get(QUERY, prefer=TRACK)
    assert (answer.status, answer.code) == (403, "0x80040220")
