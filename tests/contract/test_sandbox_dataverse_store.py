from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from dataverse_kit import ACME, BOLT, CITY, JO, SCHEMA, START, World, guid

from connector.sandbox.schema import InvalidValue
from connector.sandbox.store import DuplicateId, PluginContext, RowMissing, Store

LOG = "work365_licensechangelog"


@pytest.fixture
def store() -> Store:
    return World().store


def test_a_failed_transaction_leaves_rows_versions_indexes_and_feed_as_they_were(store: Store) -> None:
    before = {row["accountid"]: row for row in store.rows("account")}
    changes = store.changes("account", 0)
    with pytest.raises(RuntimeError), store.transaction():
        store.update("account", ACME, {"name": "x", "primarycontactid": None, "accountnumber": "Y"})
        store.create("account", {"name": "new", "accountnumber": "ACC-1"})
        store.delete("contact", JO)
        store.delete("account", BOLT)
        raise RuntimeError
    assert {row["accountid"]: row for row in store.rows("account")} == before
    assert store.changes("account", 0) == changes
    assert [row["accountid"] for row in store.find("account", "primarycontactid", JO)] == [ACME, BOLT]
    assert store.by_key("account", {"accountnumber": "acc-1"}) == ACME


def test_an_inner_failure_undoes_the_inner_part_only(store: Store) -> None:
    with store.transaction():
        store.update("account", ACME, {"name": "kept"})
        with pytest.raises(RuntimeError), store.transaction():
            store.update("account", ACME, {"name": "lost"})
            raise RuntimeError
    assert store.get("account", ACME)["name"] == "kept"  # type: ignore[index]


def test_what_was_read_never_changes(store: Store) -> None:
    row = store.get("account", ACME)
    store.update("account", ACME, {"name": "x"})
    assert row is not None and row["name"] == "Acme"


def test_plug_ins_learn_what_took_another_value(store: Store) -> None:
    seen: list[PluginContext] = []
    store.register("account", "Create", seen.append)
    store.register("account", "Update", seen.append)
    made = store.create("account", {"name": "new"})
    store.update("account", ACME, {"name": "Acme", "numberofemployees": 11})
    created, updated = seen
    assert (created.id, created.before, created.after["name"]) == (made, None, "new")
    assert "name" in created.changed
    assert updated.changed == {"numberofemployees"}
    assert updated.before is not None
    assert (updated.before["numberofemployees"], updated.after["numberofemployees"]) == (10, 11)
    with store.silent():
        store.update("account", ACME, {"name": "y"})
    assert len(seen) == 2


def test_values_are_checked_except_while_a_world_is_built(store: Store) -> None:
    status = f"{LOG}_provisioningstatus"
    with pytest.raises(InvalidValue):
        store.create(LOG, {status: 1})
    with pytest.raises(TypeError):
        store.create(LOG, {f"{LOG}_effectivedate": START})
    with pytest.raises(TypeError):
        store.create(LOG, {f"{LOG}_provisionon": datetime(2026, 1, 1)})  # noqa: DTZ001 - the point of the test
    with pytest.raises(KeyError):
        store.create(LOG, {"nothing": 1})
    with store.silent():
        row_id = store.create(LOG, {status: 1, "createdon": datetime(2020, 1, 1, tzinfo=UTC)})
    row = store.get(LOG, row_id)
    assert row is not None
    assert (row[status], row["createdon"].year, row[f"{LOG}_quantity"]) == (1, 2020, None)


def test_defaults_states_and_dates(store: Store) -> None:
    row_id = store.create(LOG, {f"{LOG}_effectivedate": date(2026, 3, 2)})
    row = store.get(LOG, row_id)
    assert row is not None
    assert (row["statecode"], row["statuscode"], row["createdon"]) == (0, 1, START)
    store.update(LOG, row_id, {"statuscode": SCHEMA.option(LOG, "statuscode", "Archived")})
    assert store.get(LOG, row_id)["statecode"] == 1  # type: ignore[index]


def test_ids_are_given_or_chosen_once(store: Store) -> None:
    assert store.create("account", {"name": "x"}, id=guid(50).upper()) == guid(50)
    with pytest.raises(DuplicateId):
        store.create("account", {"name": "x"}, id=guid(50))
    with pytest.raises(RowMissing):
        store.update("account", guid(51), {"name": "x"})
    with pytest.raises(RowMissing):
        store.delete("account", guid(51))


def test_rows_come_in_the_order_of_their_ids_whatever_came_and_went(store: Store) -> None:
    store.create("account", {"name": "first"}, id=guid(0))
    store.delete("account", BOLT)
    assert [row["accountid"] for row in store.rows("account")] == [guid(0), ACME, CITY]
    store.create("account", {"name": "x"}, id=BOLT)
    assert [row["accountid"] for row in store.rows("account")] == [guid(0), ACME, BOLT, CITY]
