from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import yaml
from dataverse_kit import ROOT, SCHEMA, World

CRM = "Microsoft.Dynamics.CRM."
ACCOUNT = "EntityDefinitions(LogicalName='account')"
LOG = "EntityDefinitions(LogicalName='work365_licensechangelog')"
MAPPING = yaml.safe_load((Path(__file__).parents[2] / "mappings" / "work365.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def world() -> World:
    return World(rows=False)


def test_a_table_is_described_by_what_was_selected_and_its_id(world: World) -> None:
    names = "LogicalName,SchemaName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled"
    answer = world.get(f"{ACCOUNT}?$select={names},IsOptimisticConcurrencyEnabled").json
    assert answer == {
        "@odata.context": f"{ROOT}$metadata#EntityDefinitions({names},IsOptimisticConcurrencyEnabled)/$entity",
        "LogicalName": "account",
        "SchemaName": "Account",
        "EntitySetName": "accounts",
        "PrimaryIdAttribute": "accountid",
        "PrimaryNameAttribute": "name",
        "ChangeTrackingEnabled": True,
        "IsOptimisticConcurrencyEnabled": True,
        "MetadataId": answer["MetadataId"],
    }
    assert world.get(f"EntityDefinitions({answer['MetadataId']})?$select=LogicalName").json["LogicalName"] == "account"


def test_tables_are_found_by_filter(world: World) -> None:
    query = "EntityDefinitions?%24select=LogicalName%2CEntitySetName&%24filter=LogicalName+eq+%27account%27"
    assert [row["EntitySetName"] for row in world.get(query).rows] == ["accounts"]
    assert world.get(query.replace("account", "none")).rows == []
    tracked = world.get("EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled%20eq%20true").rows
    assert {"account", "work365_subscription"} <= {row["LogicalName"] for row in tracked}
    assert "contact" not in {row["LogicalName"] for row in tracked}
    custom = quote("startswith(LogicalName,'work365_') and CanCreateAttributes/Value eq true")
    assert len(world.get(f"EntityDefinitions?$select=LogicalName&$filter={custom}").rows) == 7


def test_unknown_tables_columns_and_properties_are_refused(world: World) -> None:
    assert world.get("EntityDefinitions(LogicalName='none')").status == 404
    assert world.get(f"{ACCOUNT}/Attributes(LogicalName='none')").status == 404
    assert world.get(f"{ACCOUNT}?$select=Nothing").status == 400
    assert world.get("EntityDefinitions?$filter=Nothing%20eq%201").status == 400
    assert world.get("EntityDefinitions?$orderby=LogicalName").status == 400
    assert world.get("GlobalOptionSetDefinitions(Name='x')").status == 404
    assert world.send("POST", "EntityDefinitions", {}).status == 501


def test_columns_without_a_cast_show_common_properties_only(world: World) -> None:
    names = "LogicalName,AttributeType,AttributeTypeName,IsValidForUpdate,RequiredLevel,AttributeOf"
    rows = {row["LogicalName"]: row for row in world.get(f"{ACCOUNT}/Attributes?$select={names}").rows}
    assert rows["name"]["@odata.type"] == f"#{CRM}StringAttributeMetadata"
    assert rows["name"]["AttributeTypeName"] == {"Value": "StringType"}
    assert rows["name"]["RequiredLevel"]["Value"] == "ApplicationRequired"
    assert rows["primarycontactidname"]["AttributeOf"] == "primarycontactid"
    assert rows["createdon"]["IsValidForUpdate"] is False
    refused = world.get(f"{ACCOUNT}/Attributes?$select=LogicalName,MaxLength")
    assert (refused.status, refused.code) == (400, "0x0")


@pytest.mark.parametrize(
    ("kind", "column", "expected"),
    [
        ("String", "name", {"MaxLength": 160}),
        ("Memo", "description", {"MaxLength": 2000}),
        ("Integer", "numberofemployees", {"MinValue": 0, "MaxValue": 1_000_000_000}),
        ("Money", "revenue", {"Precision": 2}),
        ("Lookup", "primarycontactid", {"Targets": ["contact"]}),
        ("DateTime", "createdon", {"Format": "DateAndTime"}),
    ],
)
def test_casts_show_the_details_of_a_type(world: World, kind: str, column: str, expected: dict[str, Any]) -> None:
    select = "LogicalName," + ",".join(expected)
    rows = world.get(f"{ACCOUNT}/Attributes/{CRM}{kind}AttributeMetadata?$select={select}").rows
    found = next(row for row in rows if row["LogicalName"] == column)
    assert expected.items() <= found.items()
    single = world.get(f"{ACCOUNT}/Attributes(LogicalName='{column}')/{CRM}{kind}AttributeMetadata?$select={select}")
    assert expected.items() <= single.json.items()


def test_a_wrong_cast_is_404(world: World) -> None:
    assert world.get(f"{ACCOUNT}/Attributes(LogicalName='name')/{CRM}PicklistAttributeMetadata").status == 404


def test_columns_are_filtered_by_type(world: World) -> None:
    condition = quote(f"AttributeType eq {CRM}AttributeTypeCode'Money'")
    rows = world.get(f"{ACCOUNT}/Attributes?$select=LogicalName&$filter={condition}").rows
    assert [row["LogicalName"] for row in rows] == ["revenue"]


@pytest.mark.parametrize("single", [True, False])
def test_choices_come_with_their_labels(world: World, single: bool) -> None:
    column = "work365_licensechangelog_provisioningstatus"
    query = "?$select=LogicalName&$expand=OptionSet($select=Options),GlobalOptionSet($select=Options)"
    middle = f"(LogicalName='{column}')" if single else ""
    answer = world.get(f"{LOG}/Attributes{middle}/{CRM}PicklistAttributeMetadata{query}").json
    found = answer if single else next(row for row in answer["value"] if row["LogicalName"] == column)
    labels = {o["Value"]: o["Label"]["UserLocalizedLabel"]["Label"] for o in found["OptionSet"]["Options"]}
    assert labels == dict(SCHEMA.column("work365_licensechangelog", column).labels)
    assert found["GlobalOptionSet"] is None
    assert found["OptionSet"]["Options"][0]["Label"]["LocalizedLabels"][0]["LanguageCode"] == 1033


def test_states_and_status_reasons_belong_together(world: World) -> None:
    query = "?$select=LogicalName&$expand=OptionSet($select=Options)"
    states = world.get(f"{LOG}/Attributes/{CRM}StateAttributeMetadata{query}").rows[0]["OptionSet"]["Options"]
    reasons = world.get(f"{LOG}/Attributes/{CRM}StatusAttributeMetadata{query}").rows[0]["OptionSet"]["Options"]
    assert [option["Value"] for option in states] == [0, 1]
    assert [(o["Label"]["UserLocalizedLabel"]["Label"], o["State"]) for o in reasons] == [
        ("Active", 0),
        ("Archived", 1),
    ]
    rows = world.get(f"{ACCOUNT}/Attributes/{CRM}BooleanAttributeMetadata?$select=LogicalName&$expand=OptionSet").rows
    assert rows[0]["OptionSet"]["TrueOption"]["Value"] == 1


def test_relationships_name_the_navigation_properties(world: World) -> None:
    select = "?$select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
    rows = {row["ReferencingAttribute"]: row for row in world.get(f"{LOG}/ManyToOneRelationships{select}").rows}
    found = rows["work365_licensechangelog_subscription"]
    assert found["ReferencedEntity"] == "work365_subscription"
    assert found["ReferencingEntityNavigationPropertyName"] == "work365_LicenseChangeLog_Subscription"
    incoming = world.get("EntityDefinitions(LogicalName='contact')/OneToManyRelationships").rows
    assert "account_primary_contact" in {row["ReferencedEntityNavigationPropertyName"] for row in incoming}
    assert world.get(f"{ACCOUNT}/ManyToManyRelationships").rows == []
    kind = quote(f"RelationshipType eq {CRM}RelationshipType'OneToManyRelationship'")
    assert world.get(f"RelationshipDefinitions?$filter={kind}&$select=SchemaName").rows


def test_alternate_keys_are_listed(world: World) -> None:
    rows = world.get(f"{ACCOUNT}/Keys?$select=LogicalName,KeyAttributes,EntityKeyIndexStatus").rows
    assert (rows[0]["KeyAttributes"], rows[0]["EntityKeyIndexStatus"]) == (["accountnumber"], "Active")


def test_a_table_can_be_expanded(world: World) -> None:
    answer = world.get(f"{ACCOUNT}?$select=LogicalName&$expand=Attributes($select=LogicalName),Keys").json
    assert {"LogicalName": "name"}.items() <= next(
        a for a in answer["Attributes"] if a["LogicalName"] == "name"
    ).items()
    assert len(answer["Keys"]) == 1


def test_retrieve_metadata_changes_projects_properties(world: World) -> None:
    def where(value: str) -> dict[str, Any]:
        condition = {"PropertyName": "LogicalName", "ConditionOperator": "Equals"}
        return {"Conditions": [{**condition, "Value": {"Type": "System.String", "Value": value}}]}

    query = {
        "Properties": {"PropertyNames": ["LogicalName", "Attributes"]},
        "Criteria": where("account"),
        "AttributeQuery": {"Properties": {"PropertyNames": ["MaxLength"]}, "Criteria": where("name")},
    }
    answer = world.get(f"RetrieveMetadataChanges(Query=@p1)?@p1={quote(json.dumps(query))}").json
    assert answer["EntityMetadata"][0]["Attributes"][0]["MaxLength"] == 160


def test_the_data_model_is_xml_and_marks_tracked_sets(world: World) -> None:
    answer = world.get("$metadata?annotations=true")
    assert answer.header("Content-Type") == "application/xml"
    text = ElementTree.fromstring(answer.text)
    sets = text.iter("{http://docs.oasis-open.org/odata/ns/edm}EntitySet")
    tracked = {each.get("Name") for each in sets if "ChangeTracking" in ElementTree.tostring(each, encoding="unicode")}
    assert "accounts" in tracked and "contacts" not in tracked


def test_every_table_and_column_of_the_shipped_mapping_exists_with_its_labels() -> None:
    for entry in MAPPING["tables"].values():
        table = SCHEMA.table(entry["logical_name"])
        for described in entry["columns"].values():
            column = table.columns[described["column"]]
            if "lookup" in described:
                assert column.targets == (MAPPING["tables"][described["lookup"]]["logical_name"],)
            if "choice" in described:
                labels = [labels[0] for labels in MAPPING["choices"][described["choice"]].values()]
                assert [option.label for option in column.options] == labels


def test_labels_and_numbers_translate_both_ways() -> None:
    number = SCHEMA.option("work365_licensechangelog", "work365_licensechangelog_type", "Update")
    assert number >= 866_570_000
    assert SCHEMA.label("work365_licensechangelog", "work365_licensechangelog_type", number) == "Update"
    with pytest.raises(KeyError):
        SCHEMA.option("work365_licensechangelog", "work365_licensechangelog_type", "Nothing")
