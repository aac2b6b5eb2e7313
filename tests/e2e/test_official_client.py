"""Microsoft's own Python client, unmodified, over real TLS: the oracle of the emulated Dataverse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msal
import pytest
import requests
from azure.core.credentials import AccessToken

from connector.sandbox.app import Sandbox
from connector.sandbox.server import Endpoints, SandboxServer
from connector.sandbox.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*[Pp]y[Aa]rrow.*")
EMPTY = "name: Empty\nclock: 2026-03-02T14:00:00Z\naccounts: []\ncontracts: []\nsubscriptions: []\nsteps: []\n"


class Credential:
    """Signs in with MSAL, as azure-identity does."""

    def __init__(self, endpoints: Endpoints) -> None:
        session = requests.Session()
        session.verify = endpoints.ca_bundle
        self._app = msal.ConfidentialClientApplication(
            endpoints.client_id,
            client_credential=endpoints.client_secret,
            authority=f"{endpoints.sign_in}/{endpoints.tenant}",
            instance_discovery=False,
            http_client=session,
        )

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        answer = self._app.acquire_token_for_client(list(scopes))
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    (tmp_path / "empty.yaml").write_text(EMPTY, encoding="utf-8")
    return Sandbox.from_scenario(tmp_path / "empty.yaml")


@pytest.fixture
def store(sandbox: Sandbox) -> Store:
    return sandbox.store


@pytest.fixture
def client(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from PowerPlatform.Dataverse.client import DataverseClient

    server = SandboxServer(sandbox)
    with server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.endpoints.ca_bundle)
        client = DataverseClient(server.endpoints.dataverse, Credential(server.endpoints))
        try:
            yield client
        finally:
            client.close()
    assert server.crashes == []


def make(client: Any, count: int) -> list[str]:
    rows = [{"name": f"probe {n:03}", "accountnumber": f"P-{n:03}", "numberofemployees": n} for n in range(count)]
    ids: list[str] = client.records.create("account", rows)
    return ids


def test_it_finds_tables_columns_keys_and_relationships(client: Any) -> None:
    table = client.tables.get("account")
    assert (table["table_logical_name"], table["entity_set_name"]) == ("account", "accounts")
    assert client.tables.get("no_such_table") is None
    columns = {column["LogicalName"]: column for column in client.tables.list_columns("account")}
    assert columns["name"]["AttributeType"] == "String"
    texts = client.tables.list_columns(
        "account",
        select=["LogicalName", "AttributeType"],
        filter="AttributeType eq Microsoft.Dynamics.CRM.AttributeTypeCode'String'",
    )
    assert "name" in {column["LogicalName"] for column in texts}
    assert {column["AttributeType"] for column in texts} == {"String"}
    typed = {column["LogicalName"]: column for column in client.tables.list_columns("account", typed=True)}
    assert typed["name"]["MaxLength"] == 160
    assert client.tables.get_column("account", "nope") is None
    assert [key.key_attributes for key in client.tables.get_alternate_keys("account")] == [["accountnumber"]]
    assert "account" in {entry["LogicalName"] for entry in client.tables.list()}
    ways = {way["nav_property"]: way["target_entity_set"] for way in client.query.odata_expands("contact")}
    assert ways["parentcustomerid_account"] == "accounts"
    assert {"name": "accountid", "type": "Uniqueidentifier", "is_pk": True}.items() <= client.query.sql_columns(
        "account"
    )[0].items()


def test_it_creates_reads_changes_and_deletes_one_row(client: Any, store: Store) -> None:
    text = "Zoë – naïve ☃ 'quoted'"
    row_id = client.records.create("account", {"name": text, "accountnumber": "Z", "industrycode": "Consulting"})
    row = client.records.retrieve("account", row_id, select=["name", "accountnumber", "industrycode"])
    assert (row["name"], row["accountnumber"], row["industrycode"]) == (text, "Z", 7)
    assert row.etag == f'W/"{store.get("account", row_id)["versionnumber"]}"'  # type: ignore[index]
    client.records.update("account", row_id, {"numberofemployees": 100})
    assert store.get("account", row_id)["numberofemployees"] == 100  # type: ignore[index]
    client.records.delete("account", row_id)
    assert store.get("account", row_id) is None


def test_it_gets_typed_errors(client: Any) -> None:
    from PowerPlatform.Dataverse.core.errors import HttpError

    missing = "00000000-0000-4000-8000-000000000099"
    with pytest.raises(HttpError) as caught:
        client.records.update("account", missing, {"numberofemployees": 1})
    assert (caught.value.status_code, caught.value.details["service_error_code"]) == (404, "0x80040217")
    with pytest.raises(HttpError) as caught:
        client.records.create("account", {"name": "x" * 161})
    assert (caught.value.status_code, caught.value.details["service_error_code"]) == (400, "0x80044331")
    assert client.records.retrieve("account", missing) is None


def test_it_writes_several_rows_at_once(client: Any, store: Store) -> None:
    ids = make(client, 7)
    assert len(ids) == 7
    client.records.update("account", ids[:3], {"telephone1": "broadcast"})
    client.records.update("account", ids[3:5], [{"numberofemployees": 201}, {"numberofemployees": 202}])
    assert store.get("account", ids[2])["telephone1"] == "broadcast"  # type: ignore[index]
    assert store.get("account", ids[4])["numberofemployees"] == 202  # type: ignore[index]
    job = client.records.delete("account", ids[:2])
    assert job
    assert store.count("account") == 5
    client.records.delete("account", ids[2:4], use_bulk_delete=False)
    assert store.count("account") == 3


def test_it_upserts_by_alternate_key(client: Any, store: Store) -> None:
    from PowerPlatform.Dataverse.models.upsert import UpsertItem

    def item(number: str, name: str) -> Any:
        return UpsertItem(alternate_key={"accountnumber": number}, record={"name": name})

    client.records.upsert("account", [item("U-1", "first")])
    client.records.upsert("account", [item("U-1", "changed")])
    client.records.upsert("account", [item("U-1", "again"), item("U-2", "second")])
    found = {row["accountnumber"]: row["name"] for row in store.rows("account")}
    assert found == {"U-1": "again", "U-2": "second"}


def test_it_lists_filters_orders_and_pages(client: Any) -> None:
    make(client, 7)
    rows = client.records.list(
        "account",
        select=["name", "numberofemployees"],
        filter="startswith(name,'probe') and numberofemployees ge 3",
        orderby=["numberofemployees desc"],
    )
    assert [row["numberofemployees"] for row in rows] == [6, 5, 4, 3]
    pages = list(client.records.list_pages("account", select=["name"], page_size=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert len({row["accountid"] for page in pages for row in page}) == 7


def test_its_query_builder_is_understood(client: Any) -> None:
    from PowerPlatform.Dataverse.models.filters import col
    from PowerPlatform.Dataverse.models.query_builder import ExpandOption

    ids = make(client, 7)
    contact = client.records.create("contact", {"firstname": "Jo", "lastname": "Bloggs"})
    client.records.update("account", ids[0], {"primarycontactid@odata.bind": f"/contacts({contact})"})
    builder = client.query.builder("account").select("name", "numberofemployees")
    found = builder.where(col("numberofemployees").not_in([0, 1, 2, 3])).order_by("numberofemployees").execute()
    assert [row["numberofemployees"] for row in found] == [4, 5, 6]
    builder = client.query.builder("account").select("name")
    assert len(builder.where(col("telephone1").is_null() & col("name").like("%probe%")).execute()) == 7
    builder = client.query.builder("account").select("name").where(col("numberofemployees") == 0)
    row = builder.expand(ExpandOption("primarycontactid").select("fullname")).execute().first()
    assert row["primarycontactid"]["fullname"] == "Jo Bloggs"
    pages = list(client.query.builder("account").select("name").page_size(4).execute_pages())
    assert [len(page.records) for page in pages] == [4, 3]


def test_its_fetchxml_pages_with_the_cookie(client: Any) -> None:
    make(client, 7)
    xml = (
        '<fetch count="3"><entity name="account"><attribute name="name"/><filter>'
        '<condition attribute="name" operator="like" value="probe%"/></filter>'
        '<order attribute="numberofemployees"/></entity></fetch>'
    )
    pages = [[row["name"] for row in page] for page in client.query.fetchxml(xml).execute_pages()]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [name for page in pages for name in page] == [f"probe {n:03}" for n in range(7)]


def test_a_batch_mixes_reads_and_writes(client: Any) -> None:
    ids = make(client, 2)
    batch = client.batch.new()
    batch.records.create("account", {"name": "batch ☃", "accountnumber": "B-1"})
    batch.records.update("account", ids[0], {"numberofemployees": 170})
    batch.records.retrieve("account", ids[0], select=["name", "numberofemployees"])
    batch.records.list("account", select=["name"], filter="accountnumber eq 'B-1'")
    result = batch.execute()
    assert [item.status_code for item in result.responses] == [204, 204, 200, 200]
    assert result.responses[0].entity_id
    assert result.responses[2].data["numberofemployees"] == 170
    assert [row["name"] for row in result.responses[3].data["value"]] == ["batch ☃"]


def test_a_change_set_is_all_or_nothing_and_knows_what_it_made(client: Any, store: Store) -> None:
    batch = client.batch.new()
    with batch.changeset() as changes:
        made = changes.records.create("account", {"name": "first", "accountnumber": "C-1"})
        changes.records.update("account", made, {"numberofemployees": 710})
        changes.records.create("account", {"name": "second", "accountnumber": "C-2"})
    result = batch.execute()
    assert not result.failed
    assert {row["name"]: row["numberofemployees"] for row in store.rows("account")} == {"first": 710, "second": None}
    batch = client.batch.new()
    with batch.changeset() as changes:
        changes.records.create("account", {"name": "third"})
        changes.records.update("account", "00000000-0000-4000-8000-000000000099", {"numberofemployees": 1})
    result = batch.execute()
    assert [item.status_code for item in result.failed] == [404]
    assert store.count("account") == 2


def test_a_batch_stops_at_an_error_or_goes_on(client: Any, store: Store) -> None:
    missing = "00000000-0000-4000-8000-000000000099"
    for go_on, statuses, rows in ((False, [204, 404], 1), (True, [204, 404, 204], 3)):
        batch = client.batch.new()
        batch.records.create("account", {"name": f"before {go_on}"})
        batch.records.update("account", missing, {"numberofemployees": 1})
        batch.records.create("account", {"name": f"behind {go_on}"})
        result = batch.execute(continue_on_error=go_on)
        assert [item.status_code for item in result.responses] == statuses
        assert store.count("account") == rows


def test_it_reads_custom_tables_through_metadata(client: Any, store: Store) -> None:
    log = store.create("work365_licensechangelog", {"work365_name": "change", "work365_licensechangelog_quantity": 5})
    label = "Failed Provisioning"
    client.records.update("work365_licensechangelog", log, {"work365_licensechangelog_provisioningstatus": label})
    kept = store.get("work365_licensechangelog", log)
    assert kept is not None
    wanted = store.schema.option("work365_licensechangelog", "work365_licensechangelog_provisioningstatus", label)
    assert kept["work365_licensechangelog_provisioningstatus"] == wanted
