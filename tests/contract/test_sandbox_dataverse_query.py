from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from dataverse_kit import ACME, BOLT, CITY, DOLLAR, JO, KIM, ROOT, World, guid

FORMATTED = "@OData.Community.Display.V1.FormattedValue"


@pytest.fixture
def world() -> World:
    return World()


def names(world: World, condition: str, table: str = "accounts", column: str = "name") -> list[str]:
    answer = world.get(f"{table}?$select={column}&$filter={quote(condition)}")
    assert answer.status == 200, answer.text
    return [row[column] for row in answer.rows]


def test_a_set_has_its_context_its_etags_and_always_the_primary_key(world: World) -> None:
    answer = world.get("accounts?$select=name,accountnumber")
    assert answer.status == 200
    assert answer.header("OData-Version") == "4.0"
    assert answer.header("Content-Type") == "application/json; odata.metadata=minimal"
    assert answer.header("REQ_ID") == answer.header("x-ms-service-request-id")
    assert answer.json["@odata.context"] == ROOT + "$metadata#accounts(name,accountnumber)"
    assert list(answer.rows[0]) == ["@odata.etag", "name", "accountnumber", "accountid"]
    assert answer.rows[0]["@odata.etag"] == f'W/"{world.store.get("account", ACME)["versionnumber"]}"'  # type: ignore[index]


def test_without_select_every_column_comes_and_the_version_is_the_etag(world: World) -> None:
    row = world.get(f"accounts({ACME})").json
    assert row["@odata.etag"] == f'W/"{row["versionnumber"]}"'
    assert row["_primarycontactid_value"] == JO
    assert row["description"] is None
    assert row["createdon"] == "2026-03-02T14:00:00Z"
    assert row["revenue"] == 1000.0


def test_a_money_column_brings_its_currency(world: World) -> None:
    assert world.get("accounts?$select=revenue").rows[0]["_transactioncurrencyid_value"] == DOLLAR


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("name eq 'ACME'", ["Acme"]),
        ("name eq 'Bolt O''Neil'", ["Bolt O'Neil"]),
        ("name ne 'acme'", ["Bolt O'Neil", "city"]),
        ("industrycode ne 7", ["Bolt O'Neil", "city"]),
        ("numberofemployees gt 10 and numberofemployees le 30", ["Bolt O'Neil", "city"]),
        ("numberofemployees lt 20 or name eq 'city'", ["Acme", "city"]),
        ("not (numberofemployees eq 10)", ["Bolt O'Neil", "city"]),
        ("not contains(name,'o')", ["Acme", "city"]),
        ("(name eq 'acme' or name eq 'city') and numberofemployees eq 30", ["city"]),
        ("contains(name,'O')", ["Bolt O'Neil"]),
        ("startswith(name,'c')", ["city"]),
        ("startswith(name,'%i')", ["Bolt O'Neil", "city"]),
        ("endswith(name,'ME')", ["Acme"]),
        ("contains(name,'[bc]')", ["Acme", "Bolt O'Neil", "city"]),
        ("_primarycontactid_value eq null", ["city"]),
        ("telephone1 eq null", ["Acme", "Bolt O'Neil", "city"]),
        (f"_primarycontactid_value eq {JO}", ["Acme", "Bolt O'Neil"]),
        (f"accountid eq {CITY}", ["city"]),
        (f"{CITY} eq accountid", ["city"]),
        ("primarycontactid/fullname eq 'jo bloggs'", ["Acme", "Bolt O'Neil"]),
        ("creditonhold eq false", ["Acme", "Bolt O'Neil", "city"]),
        ("createdon ge 2026-03-02T14:00:00Z and createdon lt 2026-03-03", ["Acme", "Bolt O'Neil", "city"]),
        ("createdon gt 2026-03-02T15:00:00+01:00", []),
        ("revenue ge 1999.99", ["Bolt O'Neil", "city"]),
        ("name eq accountnumber", []),
        ("statecode eq 0", ["Acme", "Bolt O'Neil", "city"]),
        ("versionnumber gt 1", ["Acme", "Bolt O'Neil", "city"]),
        ('Microsoft.Dynamics.CRM.In(PropertyName=\'name\',PropertyValues=["acme","city"])', ["Acme", "city"]),
        (
            "Microsoft.Dynamics.CRM.NotIn(PropertyName='numberofemployees',PropertyValues=['10'])",
            ["Bolt O'Neil", "city"],
        ),
        (
            f"Microsoft.Dynamics.CRM.In(PropertyName='primarycontactid',PropertyValues=['{JO}'])",
            ["Acme", "Bolt O'Neil"],
        ),
        (
            "Microsoft.Dynamics.CRM.Between(PropertyName='numberofemployees',PropertyValues=['15','25'])",
            ["Bolt O'Neil"],
        ),
        ("Microsoft.Dynamics.CRM.LastXHours(PropertyName='createdon',PropertyValue=1)", []),
        ("Microsoft.Dynamics.CRM.Today(PropertyName='createdon')", ["Acme", "Bolt O'Neil", "city"]),
    ],
)
def test_a_filter_finds_the_rows_that_it_describes(world: World, condition: str, found: list[str]) -> None:
    assert names(world, condition) == found


def test_lambda_operators_look_at_related_rows(world: World) -> None:
    world.store.create("task", {"subject": "Call", "regardingobjectid": ACME})
    world.store.create("task", {"subject": "Write", "regardingobjectid": BOLT})
    assert names(world, "Account_Tasks/any(t:t/subject eq 'call')") == ["Acme"]
    assert names(world, "Account_Tasks/any()") == ["Acme", "Bolt O'Neil"]
    assert names(world, "Account_Tasks/all(t:t/subject eq 'call')") == ["Acme", "city"]


def test_parameter_aliases_stand_for_values(world: World) -> None:
    answer = world.get(
        "accounts?$select=name&$filter=name%20eq%20@a%20or%20numberofemployees%20eq%20@b&@a='acme'&@b=20"
    )
    assert [row["name"] for row in answer.rows] == ["Acme", "Bolt O'Neil"]


def test_a_plus_is_a_space_and_option_names_may_be_encoded(world: World) -> None:
    answer = world.get("accounts?%24select=name&%24filter=name+eq+%27Bolt+O%27%27Neil%27")
    assert [row["name"] for row in answer.rows] == ["Bolt O'Neil"]


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("$select=Name", "0x0", "Could not find a property named 'Name' on type 'Microsoft.Dynamics.CRM.account'."),
        (
            "$filter=Name eq 'x'",
            "0x0",
            "Could not find a property named 'Name' on type 'Microsoft.Dynamics.CRM.account'.",
        ),
        (
            "$filter=name eq 'O'Bryan'",
            "0x80060888",
            "There is an unterminated literal at position 17 in 'name eq 'O'Bryan''.",
        ),
        ("$filter=name eq 5", "0x80060888", None),
        ("$filter=numberofemployees eq 'x'", "0x80060888", None),
        ("$filter=name", "0x80060888", None),
        ("$filter=Microsoft.Dynamics.CRM.LastXHours(PropertyName='createdon',PropertyValue='x')", "0x80060888", None),
        ("$filter=Microsoft.Dynamics.CRM.Between(PropertyName='revenue',PropertyValues=['1'])", "0x80060888", None),
        ("$filter=Microsoft.Dynamics.CRM.In(PropertyName='accountid',PropertyValues=['x'])", "0x80060888", None),
        ("$filter=" + "not " * 5000 + "true", "0x80060888", None),
        ("$filter=name eq", "0x80060888", None),
        ("$filter=frobnicate(name)", "0x80060888", None),
        ("$orderby=nothing", "0x0", None),
        ("$skip=5", "0x80060888", None),
        ("$search=x", "0x80060888", None),
        ("$format=json", "0x80060888", None),
        ("$Select=name", "0x80060888", None),
        ("$top=-1", "0x80060888", None),
        ("$expand=primarycontactid($filter=fullname eq 'x')", "0x80060888", None),
        ("$expand=Primarycontactid", "0x0", None),
        ("$skiptoken=2", "0x80060888", None),
    ],
)
def test_a_wrong_query_is_refused_with_400(world: World, query: str, code: str, message: str | None) -> None:
    answer = world.get("accounts?" + quote(query, safe="=$&()'"))
    assert (answer.status, answer.code) == (400, code)
    if message is not None:
        assert answer.message == message


@pytest.mark.parametrize(
    "address",
    [
        "accounts?$apply=aggregate(revenue with sum as total)",
        "accounts?$filter=Microsoft.Dynamics.CRM.Above(PropertyName='accountid',PropertyValue='x')",
        "accounts?sql=SELECT%20name%20FROM%20account",
    ],
)
def test_what_is_not_emulated_is_refused_loudly(world: World, address: str) -> None:
    answer = world.get(address.replace(" ", "%20"))
    assert answer.status == 501
    assert "does not emulate" in answer.message


def test_an_unknown_set_is_404_for_the_segment(world: World) -> None:
    answer = world.get("Account")
    assert (answer.status, answer.code) == (404, "0x8006088a")
    assert answer.message == "Resource not found for the segment 'Account'."


def test_order_is_by_value_and_ties_stay_in_order_of_the_key(world: World) -> None:
    answer = world.get("accounts?$select=name&$orderby=industrycode desc,name desc")
    assert [row["name"] for row in answer.rows] == ["Acme", "city", "Bolt O'Neil"]
    answer = world.get("accounts?$select=name&$orderby=_primarycontactid_value")
    assert [row["name"] for row in answer.rows] == ["city", "Acme", "Bolt O'Neil"]


@pytest.mark.parametrize("order", ["", "&$orderby=name%20desc", "&$orderby=industrycode%20desc,accountid%20asc"])
def test_pages_follow_each_other_without_loss_even_while_rows_come_and_go(world: World, order: str) -> None:
    for number in range(10, 17):
        world.store.create(
            "account", {"name": f"n{number % 3}", "industrycode": 7 if number % 2 else None}, id=guid(number)
        )
    everything = [row["accountid"] for row in world.get(f"accounts?$select=name{order}").rows]
    seen: list[str] = []
    answer = world.get(f"accounts?$select=name{order}", prefer="odata.maxpagesize=3")
    assert answer.header("Preference-Applied") == "odata.maxpagesize=3"
    while True:
        seen += [row["accountid"] for row in answer.rows]
        if "@odata.nextLink" not in answer.json:
            break
        assert list(answer.json)[-1] == "@odata.nextLink"
        if len(seen) == 3:
            world.store.delete("account", seen.pop())
            everything.remove(everything[2])
        answer = world.get(answer.json["@odata.nextLink"], prefer="odata.maxpagesize=3")
    assert seen == everything


def test_the_next_link_has_the_documented_cookie(world: World) -> None:
    link = world.get("accounts?$select=name", prefer="odata.maxpagesize=2").json["@odata.nextLink"]
    first, last = ACME.upper(), BOLT.upper()
    assert link == (
        f"{ROOT}accounts?$select=name&$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22"
        f"%253ccookie%2520page%253d%25221%2522%253e%253caccountid%2520last%253d%2522%257b{last}%257d%2522%2520"
        f"first%253d%2522%257b{first}%257d%2522%2520%252f%253e%253c%252fcookie%253e"
        "%22%20istracking=%22False%22%20/%3E"
    )
    assert parse_qs(urlsplit(link).query)["$skiptoken"][0].startswith('<cookie pagenumber="2"')


def test_more_than_5000_rows_come_in_pages_even_if_nobody_asked() -> None:
    world = World(rows=False)
    with world.store.silent():
        for number in range(5001):
            world.store.create("contact", {"lastname": str(number)}, id=guid(number))
    answer = world.get(
        "contacts?$select=lastname&$count=true", prefer='odata.maxpagesize=9000,odata.include-annotations="*"'
    )
    assert len(answer.rows) == 5000
    assert answer.json["@odata.count"] == 5000
    assert answer.json["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] is True
    assert len(world.get(answer.json["@odata.nextLink"]).rows) == 1


def test_ties_may_change_places_between_pages_when_the_environment_is_set_so() -> None:
    world = World(reorder_ties=True)
    with world.store.silent():
        for number in range(10, 70):
            world.store.create("account", {"name": "same"}, id=guid(number))
    seen: list[str] = []
    answer = world.get("accounts?$select=name&$orderby=name", prefer="odata.maxpagesize=20")
    while "@odata.nextLink" in answer.json:
        seen += [row["accountid"] for row in answer.rows]
        answer = world.get(answer.json["@odata.nextLink"], prefer="odata.maxpagesize=20")
    assert len(set(seen)) < len(seen)


def test_top_limits_and_is_ignored_together_with_a_page_size(world: World) -> None:
    assert len(world.get("accounts?$select=name&$top=2").rows) == 2
    assert "@odata.nextLink" not in world.get("accounts?$select=name&$top=2").json
    assert len(world.get("accounts?$select=name&$top=1", prefer="odata.maxpagesize=2").rows) == 2


def test_counts_come_inline_or_as_plain_text_with_a_byte_order_mark(world: World) -> None:
    answer = world.get("accounts?$select=accountid&$count=true&$top=1")
    assert answer.json["@odata.count"] == 3
    plain = world.get("accounts/$count?$filter=numberofemployees%20gt%2010")
    assert plain.response.body == b"\xef\xbb\xbf2"
    assert plain.header("Content-Type") == "text/plain"


def test_annotations_come_when_asked_for_and_stand_before_their_property(world: World) -> None:
    query = "accounts?$select=name,revenue,statuscode,modifiedon,_primarycontactid_value,numberofemployees&$top=1"
    answer = world.get(query, prefer='odata.include-annotations="*"')
    assert answer.header("Preference-Applied") == 'odata.include-annotations="*"'
    assert answer.json["@Microsoft.Dynamics.CRM.totalrecordcount"] == -1
    assert answer.json["@Microsoft.Dynamics.CRM.globalmetadataversion"]
    row = answer.rows[0]
    assert row["revenue" + FORMATTED] == "$1,000.00"
    assert row["statuscode" + FORMATTED] == "Active"
    assert row["modifiedon" + FORMATTED] == "3/2/2026 2:00 PM"
    assert row["_primarycontactid_value" + FORMATTED] == "Jo Bloggs"
    assert row["_primarycontactid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
    assert row["_primarycontactid_value@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "primarycontactid"
    assert list(row).index("revenue" + FORMATTED) + 1 == list(row).index("revenue")
    only = world.get(query, prefer='odata.include-annotations="OData.Community.Display.V1.FormattedValue"').rows[0]
    assert "statuscode" + FORMATTED in only
    assert not any("lookuplogicalname" in name for name in only)


def test_a_polymorphic_lookup_names_the_table_of_its_row(world: World) -> None:
    world.store.update("contact", JO, {"parentcustomerid": BOLT})
    row = world.get(f"contacts({JO})?$select=_parentcustomerid_value", prefer='odata.include-annotations="*"').json
    assert row["_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert (
        row["_parentcustomerid_value@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "parentcustomerid_account"
    )


def test_expanding_a_lookup_nests_the_row(world: World) -> None:
    answer = world.get(f"accounts({ACME})?$select=name&$expand=primarycontactid($select=fullname)").json
    assert answer["@odata.context"] == ROOT + "$metadata#accounts(name,primarycontactid(fullname))/$entity"
    assert answer["primarycontactid"]["fullname"] == "Jo Bloggs"
    assert answer["primarycontactid"]["contactid"] == JO
    assert world.get(f"accounts({CITY})?$select=name&$expand=primarycontactid").json["primarycontactid"] is None
    linked = world.get(f"accounts({ACME})?$select=name&$expand=primarycontactid/$ref").json
    assert linked["primarycontactid"] == {"@odata.id": f"{ROOT}contacts({JO})"}


def test_expanding_a_collection_takes_its_own_options_and_brings_a_next_link(world: World) -> None:
    for number, subject in enumerate(["b", "a", "c"]):
        world.store.create("task", {"subject": subject, "regardingobjectid": ACME}, id=guid(number, "e"))
    nested = "$select=subject;$filter=subject ne 'c';$orderby=subject;$top=1"
    query = f"accounts({ACME})?$select=name&$expand=Account_Tasks({nested})"
    answer = world.get(query.replace(" ", "%20")).json
    assert [task["subject"] for task in answer["Account_Tasks"]] == ["a"]
    answer = world.get(
        f"accounts({ACME})?$select=name&$expand=Account_Tasks($select=subject)", prefer="odata.maxpagesize=2"
    ).json
    assert len(answer["Account_Tasks"]) == 2
    rest = world.get(answer["Account_Tasks@odata.nextLink"])
    assert [task["subject"] for task in rest.rows] == ["c"]


def test_a_single_row_is_404_when_missing_and_304_when_known(world: World) -> None:
    answer = world.get(f"accounts({guid(99)})")
    assert (answer.status, answer.code) == (404, "0x80040217")
    assert answer.message == f"Entity 'account' With Id = {guid(99)} Does Not Exist"
    etag = world.etag("accounts", ACME)
    assert world.get(f"accounts({ACME})", if_none_match=etag).status == 304
    assert world.get(f"accounts({ACME})", if_none_match=etag).response.body == b""
    assert world.get(f"accounts({ACME})", if_none_match="null").status == 200
    assert world.get(f"accounts({ACME})?$expand=primarycontactid", if_none_match=etag).status == 200
    assert world.get(f"accounts({ACME})", if_none_match=etag, prefer='odata.include-annotations="*"').status == 200
    assert world.get(f"accounts({ACME})", if_none_match='W/"1"').status == 200


def test_alternate_keys_name_rows(world: World) -> None:
    assert world.get("accounts(accountnumber='acc-2')?$select=name").json["name"] == "Bolt O'Neil"
    assert world.get("contacts(firstname='Jo',emailaddress1='jo@x.example')").json["contactid"] == JO
    assert world.get(f"accounts(accountid={ACME})").json["name"] == "Acme"
    missing = world.get("accounts(accountnumber='none')")
    assert (missing.status, missing.code) == (404, "0x80060891")
    wrong = world.get("accounts(name='Acme')")
    assert wrong.status == 400
    assert wrong.message.startswith(
        "The key in the request URI is not valid for resource 'Microsoft.Dynamics.CRM.account'"
    )
    assert world.get("accounts(accountnumber='a%2Fb')").status == 400
    assert world.get("accounts(123)").status == 400


def test_columns_lookups_and_related_rows_have_addresses(world: World) -> None:
    assert world.get(f"accounts({ACME})/name").json["value"] == "Acme"
    assert world.get(f"accounts({ACME})/name/$value").text == "Acme"
    assert world.get(f"accounts({ACME})/description").status == 204
    assert world.get(f"accounts({ACME})/primarycontactid?$select=fullname").json["fullname"] == "Jo Bloggs"
    assert world.get(f"accounts({ACME})/primarycontactid/$ref").json["@odata.id"] == f"{ROOT}contacts({JO})"
    assert world.get(f"accounts({CITY})/primarycontactid").status == 204
    related = world.get(f"contacts({JO})/account_primary_contact?$select=name")
    assert [row["name"] for row in related.rows] == ["Acme", "Bolt O'Neil"]
    assert world.get(f"contacts({JO})/account_primary_contact/$count").response.body == b"\xef\xbb\xbf2"
    assert world.get(f"contacts({KIM})/account_primary_contact").rows == []
    assert world.get(f"accounts({ACME})/nothing").status == 400


def test_functions_tell_who_calls_and_which_version_answers(world: World) -> None:
    who = world.get("WhoAmI")
    assert set(who.json) == {"@odata.context", "BusinessUnitId", "UserId", "OrganizationId"}
    assert who.header("x-ms-dop-hint") == "52"
    assert world.get("WhoAmI()").status == 200
    assert world.get("RetrieveVersion()").json["Version"].startswith("9.2.")
    posted = world.send("POST", "WhoAmI", {})
    assert (posted.status, posted.code) == (404, "")
    assert posted.message == f"No HTTP resource was found that matches the request URI '{ROOT}WhoAmI'."
    totals = world.get("RetrieveTotalRecordCount(EntityNames=['account','contact'])").json
    assert totals["EntityRecordCountCollection"]["Values"] == [3, 2]


def test_the_service_document_lists_the_sets_and_any_v9_is_taken(world: World) -> None:
    listed = world.get("").json["value"]
    assert {"name": "accounts", "kind": "EntitySet", "url": "accounts"} in listed
    assert (
        world.get("https://org.example/api/data/v9.1/accounts?$top=1")
        .json["@odata.context"]
        .startswith("https://org.example/api/data/v9.1/$metadata")
    )
    assert world.get("https://org.example/api/data/v8.2/accounts").status == 404


def test_addresses_that_are_too_long_are_refused(world: World) -> None:
    answer = world.get("accounts?$filter=" + "x" * 33_000)
    assert (answer.status, answer.code, answer.message) == (
        400,
        "0x80060888",
        "Invalid URI: The Uri scheme is too long.",
    )
    assert world.get("accounts(accountnumber='" + "x" * 270 + "')").status == 400


def test_message_filters_tell_which_bulk_messages_a_table_takes(world: World) -> None:
    query = (
        "sdkmessagefilters?$select=sdkmessagefilterid&$filter=sdkmessageid/name%20eq%20@message%20and%20"
        "primaryobjecttypecode%20eq%20@table&@message='UpdateMultiple'&@table='account'"
    )
    assert len(world.get(query).rows) == 1


def test_fetchxml_selects_orders_and_pages_with_its_cookie(world: World) -> None:
    def fetch(attributes: str) -> str:
        return (
            f'<fetch count="2" {attributes}><entity name="account"><attribute name="name"/><filter type="or">'
            '<condition attribute="name" operator="like" value="%c%"/>'
            '<condition attribute="industrycode" operator="null"/>'
            '</filter><order attribute="numberofemployees" descending="true"/></entity></fetch>'
        )

    prefer = (
        'odata.include-annotations="Microsoft.Dynamics.CRM.fetchxmlpagingcookie,Microsoft.Dynamics.CRM.morerecords"'
    )
    first = world.get("accounts?fetchXml=" + quote(fetch('page="1"')), prefer=prefer)
    assert [row["name"] for row in first.rows] == ["city", "Bolt O'Neil"]
    assert first.json["@Microsoft.Dynamics.CRM.morerecords"] is True
    assert first.json["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"].startswith(
        '<cookie pagenumber="2" pagingcookie="%253ccookie'
    )
    second = world.get("accounts?fetchXml=" + quote(fetch('page="2"')), prefer=prefer)
    assert [row["name"] for row in second.rows] == ["Acme"]
    assert second.json["@Microsoft.Dynamics.CRM.morerecords"] is False


def test_fetchxml_names_what_it_does_not_know(world: World) -> None:
    unknown = '<fetch><entity name="account"><attribute name="nope"/></entity></fetch>'
    assert world.get("accounts?fetchXml=" + quote(unknown)).code == "0x80041103"
    linked = '<fetch><entity name="account"><link-entity name="contact" from="contactid" to="x"/></entity></fetch>'
    assert world.get("accounts?fetchXml=" + quote(linked)).status == 501
