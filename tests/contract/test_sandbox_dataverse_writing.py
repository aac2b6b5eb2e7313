from __future__ import annotations

from typing import Any

import pytest
from dataverse_kit import ACME, BOLT, CITY, JO, KIM, ROOT, World, guid

from connector.sandbox.store import PluginContext, PluginError

MISSING = guid(99)


@pytest.fixture
def world() -> World:
    return World()


def account(world: World, row_id: str) -> Any:
    row = world.store.get("account", row_id)
    assert row is not None
    return row


def test_post_creates_and_names_the_row(world: World) -> None:
    answer = world.send("POST", "accounts", {"name": "New ☃", "accountnumber": "ACC-9"})
    assert (answer.status, answer.response.body) == (204, b"")
    entity = answer.header("OData-EntityId")
    assert entity is not None and entity.startswith(f"{ROOT}accounts(")
    assert world.get(entity).json["name"] == "New ☃"


def test_post_can_return_the_row_and_take_a_chosen_id(world: World) -> None:
    body = {"name": "New", "accountid": MISSING}
    answer = world.send("POST", "accounts?$select=name", body, prefer="return=representation")
    assert answer.status == 201
    assert answer.header("OData-EntityId") is None
    assert answer.header("Preference-Applied") == "return=representation"
    assert answer.json["@odata.context"] == ROOT + "$metadata#accounts(name)/$entity"
    assert answer.json["accountid"] == MISSING
    again = world.send("POST", "accounts", body)
    assert (again.status, again.code) == (412, "0x80040237")


def test_patch_without_condition_updates_or_creates(world: World) -> None:
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}).status == 204
    created = world.send("PATCH", f"accounts({MISSING})", {"name": "y"})
    assert created.status == 204
    assert created.header("OData-EntityId") == f"{ROOT}accounts({MISSING})"
    assert (account(world, ACME)["name"], account(world, MISSING)["name"]) == ("x", "y")


@pytest.mark.parametrize("condition", ["*", 'W/"1000000"'])
def test_if_match_never_creates(world: World, condition: str) -> None:
    answer = world.send("PATCH", f"accounts({MISSING})", {"name": "x"}, if_match=condition)
    assert (answer.status, answer.code) == (404, "0x80040217")
    assert answer.message == f"account With Id = {MISSING} Does Not Exist"


def test_a_stale_etag_is_412_and_nothing_happens(world: World) -> None:
    etag = world.etag("accounts", ACME)
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}, if_match=etag).status == 204
    for method, body in (("PATCH", {"name": "y"}), ("DELETE", None)):
        answer = world.send(method, f"accounts({ACME})", body, if_match=etag)
        assert (answer.status, answer.code) == (412, "0x80060882")
    assert account(world, ACME)["name"] == "x"
    assert world.send("DELETE", f"accounts({ACME})", if_match=world.etag("accounts", ACME)).status == 204


def test_an_unrelated_change_makes_an_etag_stale_too(world: World) -> None:
    etag = world.etag("accounts", ACME)
    world.store.update("account", ACME, {"telephone1": "1"})
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}, if_match=etag).status == 412


def test_if_none_match_star_creates_only(world: World) -> None:
    answer = world.send("PATCH", f"accounts({ACME})", {"name": "x"}, if_none_match="*")
    assert (answer.status, answer.code) == (412, "0x80040237")
    assert answer.message == "A record with matching key values already exists."
    assert world.send("PATCH", f"accounts({MISSING})", {"name": "x"}, if_none_match="*").status == 204


def test_a_table_without_optimistic_concurrency_refuses_etags(world: World) -> None:
    user = world.get("systemusers?$top=1").rows[0]
    answer = world.send("PATCH", f"systemusers({user['systemuserid']})", {"domainname": "x"}, if_match='W/"1"')
    assert (answer.status, answer.code) == (400, "0x8006088d")


def test_patch_returns_the_new_etag_on_request(world: World) -> None:
    answer = world.send("PATCH", f"accounts({ACME})?$select=name", {"name": "x"}, prefer="return=representation")
    assert (answer.status, answer.json["name"]) == (200, "x")
    assert answer.json["@odata.etag"] == world.etag("accounts", ACME)
    created = world.send("PATCH", f"accounts({MISSING})", {"name": "y"}, prefer="return=representation")
    assert created.status == 201


def test_upsert_by_alternate_key_echoes_the_key(world: World) -> None:
    for name in ("made", "changed"):
        answer = world.send("PATCH", "accounts(accountnumber='ACC-9')", {"name": name})
        assert answer.status == 204
        assert answer.header("OData-EntityId") == f"{ROOT}accounts(accountnumber='ACC-9')"
    assert world.get("accounts(accountnumber='ACC-9')").json["name"] == "changed"
    body = {"name": "z", "accountnumber": "ignored"}
    world.send("PATCH", "accounts(accountnumber='ACC-9')", body)
    assert world.get("accounts(accountnumber='ACC-9')").json["name"] == "z"
    missing = world.send("PATCH", "accounts(accountnumber='none')", {"name": "q"}, if_match="*")
    assert (missing.status, missing.code) == (404, "0x80060891")
    returned = world.send("PATCH", "accounts(accountnumber='R')", {"name": "q"}, prefer="return=representation")
    assert (returned.status, returned.header("ETag")) == (201, returned.json["@odata.etag"])


def test_an_alternate_key_is_unique(world: World) -> None:
    answer = world.send("PATCH", f"accounts({ACME})", {"accountnumber": "acc-2"})
    assert (answer.status, answer.code) == (412, "0x80060892")
    assert account(world, ACME)["accountnumber"] == "ACC-1"


def test_delete_is_404_when_gone_and_empties_lookups(world: World) -> None:
    assert world.send("DELETE", f"contacts({JO})").status == 204
    again = world.send("DELETE", f"contacts({JO})")
    assert (again.status, again.code) == (404, "0x80040217")
    assert account(world, ACME)["primarycontactid"] is None


def test_one_column_can_be_put_and_deleted(world: World) -> None:
    assert world.send("PUT", f"accounts({ACME})/name", {"value": "x"}).status == 204
    assert account(world, ACME)["name"] == "x"
    assert world.send("DELETE", f"accounts({ACME})/name").status == 204
    assert account(world, ACME)["name"] is None
    assert world.send("PUT", f"accounts({ACME})", {"name": "x"}).status == 405
    assert world.send("PUT", f"accounts({ACME})/name", {"wrong": "x"}).status == 400


@pytest.mark.parametrize(
    "target",
    [
        f"contacts({KIM})",
        f"/contacts({KIM})",
        f"{ROOT}contacts({KIM})",
        f"/api/data/v9.2/contacts({KIM})",
        "contacts(emailaddress1='kim@x.example')",
        f"contacts(contactid={KIM})",
    ],
)
def test_a_lookup_is_bound_by_any_reference(world: World, target: str) -> None:
    assert world.send("PATCH", f"accounts({ACME})", {"primarycontactid@odata.bind": target}).status == 204
    assert account(world, ACME)["primarycontactid"] == KIM


@pytest.mark.parametrize("body", [{"primarycontactid": None}, {"primarycontactid@odata.bind": None}])
def test_null_empties_a_lookup(world: World, body: dict[str, None]) -> None:
    assert world.send("PATCH", f"accounts({ACME})", body).status == 204
    assert account(world, ACME)["primarycontactid"] is None


def test_references_are_set_and_removed_from_both_sides(world: World) -> None:
    at = f"accounts({CITY})/primarycontactid/$ref"
    assert world.send("PUT", at, {"@odata.id": f"{ROOT}contacts({JO})"}).status == 204
    assert account(world, CITY)["primarycontactid"] == JO
    assert world.send("DELETE", at).status == 204
    assert account(world, CITY)["primarycontactid"] is None
    collection = f"contacts({KIM})/account_primary_contact"
    assert world.send("POST", f"{collection}/$ref", {"@odata.id": f"accounts({CITY})"}).status == 204
    assert account(world, CITY)["primarycontactid"] == KIM
    assert world.send("DELETE", f"{collection}({CITY})/$ref").status == 204
    assert account(world, CITY)["primarycontactid"] is None


def test_a_polymorphic_lookup_is_bound_through_the_target_s_own_property(world: World) -> None:
    assert (
        world.send("PATCH", f"contacts({JO})", {"parentcustomerid_account@odata.bind": f"accounts({ACME})"}).status
        == 204
    )
    assert (
        world.send("PATCH", f"contacts({JO})", {"parentcustomerid_contact@odata.bind": f"accounts({ACME})"}).status
        == 400
    )
    assert world.send("PATCH", f"contacts({JO})", {"parentcustomerid@odata.bind": f"accounts({ACME})"}).status == 400


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"Name": "x"}, 400, "0x0"),
        ({"nothing": 1}, 400, "0x0"),
        ({"Primarycontactid@odata.bind": f"contacts({JO})"}, 400, "0x80048d19"),
        ({"primarycontactid@odata.bind": f"contacts({MISSING})"}, 404, "0x80040217"),
        ({"primarycontactid@odata.bind": "contacts(emailaddress1='none')"}, 404, "0x80060891"),
        ({"primarycontactid@odata.bind": f"accounts({BOLT})"}, 400, "0x80048d19"),
        ({"primarycontactid@odata.bind": "rubbish"}, 400, "0x80060888"),
        ({"primarycontactid@odata.bind": "$1"}, 400, "0x80048d19"),
        ({"_primarycontactid_value": JO}, 400, "0x80048d19"),
        ({"primarycontactid": {"firstname": "new"}}, 501, "0x80040800"),
        ({"industrycode": 99}, 400, "0x8004431a"),
        ({"statuscode": 99}, 400, "0x8004431a"),
        ({"statuscode": 2}, 400, "0x80048408"),
        ({"name": "x" * 161}, 400, "0x80044331"),
        ({"numberofemployees": -1}, 400, "0x80044330"),
        ({"numberofemployees": "5"}, 400, "0x80048d19"),
        ({"numberofemployees": 1.5}, 400, "0x80048d19"),
        ({"numberofemployees": True}, 400, "0x80048d19"),
        ({"creditonhold": 1}, 400, "0x80048d19"),
        ({"revenue": 1e300}, 400, "0x80044330"),
        ('{"revenue": NaN}', 400, "0x80048d19"),
        ('{"name": "\\ud800"}', 400, "0x80048d19"),
        ("[" * 100_000, 400, "0x80048d19"),
        ({"name": 5}, 400, "0x80048d19"),
        ("{not json", 400, "0x80048d19"),
        ("[]", 400, "0x80048d19"),
    ],
)
def test_a_wrong_body_is_refused_and_changes_nothing(world: World, body: Any, status: int, code: str) -> None:
    before = account(world, ACME)
    answer = world.send("PATCH", f"accounts({ACME})", body)
    assert (answer.status, answer.code) == (status, code), answer.text
    assert account(world, ACME) is before


def test_the_documented_wordings_of_validation_errors(world: World) -> None:
    assert world.send("PATCH", f"accounts({ACME})", {"Name": "x"}).message == (
        "An error occurred while validating input parameters: Microsoft.Crm.CrmException: Invalid property 'Name' was "
        "found in entity 'Microsoft.Dynamics.CRM.account'. ---> Microsoft.OData.ODataException: Does not support "
        "untyped value in non-open type."
    )
    assert world.send("PATCH", f"accounts({ACME})", {"statuscode": 99}).message == (
        "A validation error occurred. The value 99 of 'statuscode' on record of type 'account' is outside the valid "
        "range. Accepted Values: 1,2"
    )
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x" * 161}).message == (
        "A validation error occurred.  The length of the 'name' attribute of the 'account' entity exceeded the maximum "
        "allowed length of '160'."
    )


def test_values_are_kept_as_their_types_demand(world: World) -> None:
    body = {"birthdate": "2000-02-29", "creditlimit": 10.005, "jobtitle": "", "createdon": "2001-01-01T00:00:00Z"}
    assert world.send("PATCH", f"contacts({JO})", body).status == 204
    row = world.get(f"contacts({JO})").json
    assert (row["birthdate"], row["creditlimit"], row["jobtitle"]) == ("2000-02-29", 10.0, None)
    assert row["createdon"] == "2026-03-02T14:00:00Z"
    assert world.send("PATCH", f"contacts({JO})", {"lastname": "Smith"}).status == 204
    assert world.get(f"contacts({JO})").json["fullname"] == "Jo Smith"
    assert world.send("PATCH", f"contacts({JO})", {"birthdate": "2000-02-29T00:00:00Z"}).status == 400
    task = {"subject": "t", "scheduledend": "2026-03-02T10:00:00.500-05:00"}
    made = world.send("POST", "tasks", task, prefer="return=representation").json
    assert made["scheduledend"] == "2026-03-02T15:00:00Z"
    assert world.send("POST", "tasks", {"subject": "t", "scheduledend": "2026-03-02T10:00:00"}).status == 400


def test_a_state_brings_its_status_reason(world: World) -> None:
    world.send("PATCH", f"accounts({ACME})", {"statecode": 1})
    assert account(world, ACME)["statuscode"] == 2
    world.send("PATCH", f"accounts({ACME})", {"statecode": 0, "statuscode": 1})
    assert account(world, ACME)["statecode"] == 0


def test_every_write_moves_modifiedon_and_a_version_that_all_tables_share(world: World) -> None:
    world.wait(minutes=1)
    world.send("PATCH", f"accounts({ACME})", {"name": "Acme"})
    world.send("PATCH", f"contacts({JO})", {"lastname": "x"})
    first, second = account(world, ACME), world.store.get("contact", JO)
    assert second is not None
    assert second["versionnumber"] == first["versionnumber"] + 1
    assert first["modifiedon"] > first["createdon"]


def test_duplicate_detection_works_only_when_asked_for(world: World) -> None:
    assert world.send("POST", "accounts", {"name": "acme"}).status == 204
    answer = world.send("POST", "accounts", {"name": "ACME"}, MSCRM_SuppressDuplicateDetection="false")
    assert answer.status == 204
    answer = world.send("POST", "accounts", {"name": "ACME"}, **{"mscrm.suppressduplicatedetection": "false"})
    assert (answer.status, answer.code) == (412, "0x80040333")


def test_a_plug_in_adds_its_own_writes_and_its_refusal_undoes_all(world: World) -> None:
    def step(context: PluginContext) -> None:
        if "name" in context.changed:
            context.store.update("contact", JO, {"jobtitle": context.after["name"]})
            if context.after["name"] == "bad":
                raise PluginError("No.")

    world.store.register("account", "Update", step)
    version = world.store.get("contact", JO)
    answer = world.send("PATCH", f"accounts({ACME})", {"name": "bad"}, prefer='odata.include-annotations="*"')
    assert (answer.status, answer.code, answer.message) == (400, "0x80040265", "No.")
    assert answer.json["error"]["@Microsoft.PowerApps.CDS.InnerError.Message"] == "No."
    assert world.store.get("contact", JO) is version
    assert account(world, ACME)["name"] == "Acme"
    plain = world.send("PATCH", f"accounts({ACME})", {"name": "bad"})
    assert set(plain.json["error"]) == {"code", "message"}
    assert world.send("PATCH", f"accounts({ACME})", {"name": "good"}).status == 204
    assert world.get(f"contacts({JO})").json["jobtitle"] == "good"
    assert world.send("PATCH", f"accounts({ACME})", {"telephone1": "1"}).status == 204


def test_plug_ins_that_call_each_other_forever_are_stopped(world: World) -> None:
    def step(context: PluginContext) -> None:
        context.store.update("account", context.id, {"numberofemployees": context.after["numberofemployees"] + 1})

    world.store.register("account", "Update", step)
    answer = world.send("PATCH", f"accounts({ACME})", {"numberofemployees": 1})
    assert (answer.status, answer.code) == (400, "0x80044182")
    assert account(world, ACME)["numberofemployees"] == 10


def test_bypassing_plug_ins_needs_the_privilege(world: World) -> None:
    calls: list[str] = []
    world.store.register("account", "Update", lambda context: calls.append(context.id))
    bypass = {"mscrm.bypassbusinesslogicexecution": "CustomSync,CustomAsync"}
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}, **bypass).status == 204
    assert calls == []
    world.service.options.may_bypass_plugins = False
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}, **bypass).status == 403
    assert world.send("PATCH", f"accounts({ACME})", {"name": "x"}).status == 204
    assert calls == [ACME]


def targets(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", **row} for row in rows]}


def test_create_multiple_returns_the_ids_or_undoes_all(world: World) -> None:
    address = "accounts/Microsoft.Dynamics.CRM.CreateMultiple"
    answer = world.send("POST", address, targets({"name": "a"}, {"name": "b"}))
    assert answer.status == 200
    assert [account(world, row_id)["name"] for row_id in answer.json["Ids"]] == ["a", "b"]
    failed = world.send("POST", address, targets({"name": "c"}, {"name": "x" * 161}))
    assert (failed.status, failed.code) == (400, "0x80044331")
    assert world.store.count("account") == 5
    assert world.send("POST", address, {"Targets": [{"name": "untyped"}]}).status == 400
    assert world.send("POST", address, {}).status == 400


def test_update_multiple_is_all_or_nothing(world: World) -> None:
    address = "accounts/Microsoft.Dynamics.CRM.UpdateMultiple"
    answer = world.send("POST", address, targets({"accountid": ACME, "name": "a"}, {"accountid": BOLT, "name": "b"}))
    assert (answer.status, answer.response.body) == (204, b"")
    failed = world.send("POST", address, targets({"accountid": ACME, "name": "c"}, {"accountid": MISSING, "name": "d"}))
    assert (failed.status, failed.code) == (404, "0x80040217")
    assert failed.message == f"account With Ids = {MISSING} Do Not Exist"
    assert account(world, ACME)["name"] == "a"
    twice = world.send("POST", address, targets({"accountid": ACME, "name": "c"}, {"accountid": ACME, "name": "d"}))
    assert twice.status == 400


def test_upsert_multiple_takes_ids_and_alternate_keys(world: World) -> None:
    address = "accounts/Microsoft.Dynamics.CRM.UpsertMultiple"
    body = targets(
        {"@odata.id": "accounts(accountnumber='ACC-1')", "name": "A"},
        {"@odata.id": "accounts(accountnumber='NEW')", "name": "N"},
        {"accountid": MISSING, "name": "M"},
    )
    assert world.send("POST", address, body).status == 204
    assert account(world, ACME)["name"] == "A"
    assert account(world, MISSING)["name"] == "M"
    assert world.get("accounts(accountnumber='NEW')").json["name"] == "N"


def test_delete_multiple_is_for_elastic_tables_only(world: World) -> None:
    answer = world.send("POST", "accounts/Microsoft.Dynamics.CRM.DeleteMultiple", targets({"accountid": ACME}))
    assert (answer.status, answer.message) == (400, "DeleteMultiple has not yet been implemented.")
    assert world.send("POST", "accounts/Microsoft.Dynamics.CRM.Merge", {}).status == 501
