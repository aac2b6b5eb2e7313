from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import responses

from connector.crm.repository import DataverseCrm
from connector.domain.model import (
    LogId,
    LogKind,
    Price,
    ProvisioningStatus,
    ReductionBehavior,
    Subscription,
    SubscriptionId,
)
from connector.errors import (
    ConfigError,
    MappingError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    Transient,
)
from connector.http.transport import Transport
from connector.mapping import ColumnMapping, CrmMapping, load_mapping
from connector.sync.ports import Crm, FamilyChange, LogUpdate, NewLog
from tests.contract.http_fakes import FakeClock, FakeDataverse, Reply, make_transport

MAPPING = load_mapping("work365")
ACCOUNT = "aaaaaaaa-0000-4000-8000-000000000001"
PARTNER_CENTER = "bbbbbbbb-0000-4000-8000-000000000001"
LINKED = "bbbbbbbb-0000-4000-8000-000000000002"
ELSEWHERE = "bbbbbbbb-0000-4000-8000-000000000003"
DOLLAR = "cccccccc-0000-4000-8000-000000000001"
TENANT = "dddddddd-0000-4000-8000-000000000001"


def sub(number: int) -> SubscriptionId:
    return SubscriptionId(f"11111111-0000-4000-8000-{number:012d}")


def log_id(number: int) -> LogId:
    return LogId(f"22222222-0000-4000-8000-{number:012d}")


class Memory:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def remember(self, key: str, value: str) -> None:
        self.values[key] = value

    def recall(self, key: str) -> str | None:
        return self.values.get(key)


@pytest.fixture
def org() -> Iterator[FakeDataverse]:
    fake = FakeDataverse(MAPPING)
    fake.add("provider", PARTNER_CENTER, name="CSP", type="partner_center")
    fake.add("provider", LINKED, name="Linked", type="linked")
    fake.add("provider", ELSEWHERE, name="Other", type=999)
    fake.add("currency", DOLLAR, code="USD")
    fake.add(
        "configuration",
        "eeeeeeee-0000-4000-8000-000000000001",
        name="Work365.DefaultTimeZone",
        value="America/New_York",
    )
    fake.add("configuration", "eeeeeeee-0000-4000-8000-000000000002", name="Work365.Other", value="x")
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        fake.install(mock)
        yield fake


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def transport(clock: FakeClock) -> Transport:
    return make_transport(clock)


@pytest.fixture
def crm(transport: Transport, clock: FakeClock) -> DataverseCrm:
    return DataverseCrm(transport, MAPPING, clock=clock)


def add_subscription(org: FakeDataverse, number: int, **values: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": f"Subscription {number}",
        "customer": ACCOUNT,
        "quantity": 25,
        "provider": LINKED,
        "state": "active",
        "created_on": "2026-01-01T00:00:00Z",
    }
    return org.add("subscription", sub(number), **{**usual, **values})


def add_log(org: FakeDataverse, number: int, subscription: int, **values: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": f"Log {number}",
        "subscription": sub(subscription),
        "quantity": 10,
        "kind": "update",
        "status": "awaiting",
        "state": "active",
        "created_on": "2026-03-01T10:00:00Z",
    }
    return org.add("license_change_log", log_id(number), **{**usual, **values})


def test_it_is_a_crm(crm: DataverseCrm) -> None:
    port: Crm = crm
    assert port


# Settings and metadata


def test_settings_come_with_the_lengths_of_the_columns(crm: DataverseCrm, org: FakeDataverse) -> None:
    settings = crm.settings()
    assert (settings.time_zone, settings.kill_switch) == ("America/New_York", None)
    assert (settings.marker_length, settings.marker_is_shared, settings.message_length) == (40, True, 40)
    assert len(org.requests) == 2


def test_the_kill_switch_is_read_afresh_each_time(crm: DataverseCrm, org: FakeDataverse) -> None:
    assert crm.settings().kill_switch is None
    org.add("configuration", "eeeeeeee-0000-4000-8000-000000000003", name="LinkSub.KillSwitch", value=" on ")
    assert crm.settings().kill_switch == "on"
    assert len(org.requests) == 3


def test_settings_that_contradict_each_other_are_a_configuration_error(crm: DataverseCrm, org: FakeDataverse) -> None:
    org.add("configuration", "eeeeeeee-0000-4000-8000-000000000003", name="Work365.DefaultTimeZone", value="UTC")
    with pytest.raises(ConfigError, match="several configuration rows"):
        crm.settings()


def test_a_time_zone_that_does_not_exist_is_a_configuration_error_unless_the_policy_names_one(
    transport: Transport, clock: FakeClock, org: FakeDataverse
) -> None:
    org.rows["work365_configuration"][0]["work365_configuration_value"] = "Eastern Standard Time"
    with pytest.raises(ConfigError, match="no IANA time zone"):
        DataverseCrm(transport, MAPPING, clock=clock).settings()
    assert (
        DataverseCrm(transport, MAPPING, clock=clock, time_zone="UTC").settings().time_zone == "Eastern Standard Time"
    )


def test_everything_that_the_organisation_lacks_is_said_at_once(crm: DataverseCrm, org: FakeDataverse) -> None:
    org.missing = {"work365_scheduledlicensechangelog", "work365_subscription.work365_subscription_quantity"}
    org.labels[org.choices["provisioning_status"]["failed"]] = "Kaputt"
    org.labels[org.choices["channel"]["portal"]] = "Web"
    with pytest.raises(MappingError) as caught:
        crm.settings()
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "tables.scheduled_license_change_log: the organisation has no table" in text
    assert (
        "'work365_subscription' has no column 'work365_subscription_quantity'; the nearest are work365_subscription_"
        in text
    )
    assert "choices.provisioning_status.failed" in text and "'Kaputt'" in text


def test_an_optional_column_may_be_missing_and_what_needs_it_is_off(crm: DataverseCrm, org: FakeDataverse) -> None:
    org.missing = {f"work365_subscription.work365_subscription_{name}" for name in ("istrial", "costpriceperunit")}
    add_subscription(org, 1, cost_price=10.0, sales_unit="month", currency=DOLLAR)
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert (found.is_trial, found.cost) == (False, None)


def test_labels_are_compared_without_regard_to_case_and_synonyms_are_accepted(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    org.labels[org.choices["provisioning_status"]["provisioned"]] = "completed"
    numbers = crm.metadata().tables["license_change_log"].columns["status"].choice
    assert numbers is not None
    assert numbers.numbers["provisioned"] == org.choices["provisioning_status"]["provisioned"]


def test_metadata_is_remembered_for_a_while_and_by_mapping_and_environment(
    transport: Transport, clock: FakeClock, org: FakeDataverse
) -> None:
    memory = Memory()

    def run() -> int:
        before = len(org.requests)
        DataverseCrm(transport, MAPPING, clock=clock, memory=memory).settings()
        return len(org.requests) - before

    assert run() == 2
    assert run() == 1
    clock.time += timedelta(hours=1)
    assert run() == 2
    memory.values = dict.fromkeys(memory.values, "damaged")
    assert run() == 2
    other = MAPPING.model_copy(update={"name": "another"})
    before = len(org.requests)
    DataverseCrm(transport, other, clock=clock, memory=memory).settings()
    assert len(org.requests) - before == 2


def test_remembered_metadata_that_no_longer_fits_is_read_afresh_once(
    transport: Transport, clock: FakeClock, org: FakeDataverse
) -> None:
    memory = Memory()
    DataverseCrm(transport, MAPPING, clock=clock, memory=memory).settings()
    add_log(org, 1, 1)
    gone = (400, {}, json.dumps({"error": {"code": "0x0", "message": "Could not find a property"}}))
    org.missing = {"work365_licensechangelog.work365_licensechangelog_channel"}
    org.interfere = lambda method, path: gone if "licensechangelog_channel" in path and method == "GET" else None
    crm = DataverseCrm(transport, MAPPING, clock=clock, memory=memory)
    assert len(crm.find_open_logs().logs) == 1


def test_metadata_that_was_just_read_is_not_doubted_when_a_query_is_refused(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    crm.settings()
    before = len(org.requests)
    no: Reply = (400, {}, json.dumps({"error": {"code": "0x80060888", "message": "no"}}))
    org.interfere = lambda method, path: no if method == "GET" else None
    with pytest.raises(Rejected):
        crm.find_open_logs()
    assert len(org.requests) - before == 1


# The marker's column


MARKER = "new_linksubmarker"


def with_own_marker() -> CrmMapping:
    subscription = MAPPING.tables["subscription"]
    own = ColumnMapping(column=MARKER, evidence="confirmed", optional=True)
    table = subscription.model_copy(update={"columns": {**subscription.columns, "marker": own}})
    return MAPPING.model_copy(update={"tables": {**MAPPING.tables, "subscription": table}})


@pytest.fixture
def own_org() -> Iterator[FakeDataverse]:
    fake = FakeDataverse(with_own_marker())
    fake.kinds[MARKER], fake.lengths[MARKER] = "Memo", 4000
    fake.add("provider", LINKED, name="Linked", type="linked")
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        fake.install(mock)
        yield fake


@pytest.fixture
def own_crm(transport: Transport, clock: FakeClock) -> DataverseCrm:
    return DataverseCrm(transport, with_own_marker(), clock=clock)


def test_a_marker_with_a_column_of_its_own_is_read_from_there_and_as_long_as_that(
    own_crm: DataverseCrm, own_org: FakeDataverse
) -> None:
    add_subscription(own_org, 1, marker="ls2:2d0p8;", order_reference="PO 17")
    settings = own_crm.settings()
    assert (settings.marker_length, settings.marker_is_shared) == (4000, False)
    found = own_crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert (found.marker_text, found.order_reference) == ("ls2:2d0p8;", "PO 17")


def test_a_marker_without_a_column_of_its_own_shares_the_shorter_order_reference(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    org.lengths = {"work365_subscription_orderreference": 200, "work365_licensechangelog_orderreference": 60}
    assert (crm.settings().marker_length, crm.settings().marker_is_shared) == (60, True)


def test_a_marker_that_is_no_text_is_a_problem_of_its_row_and_said_once(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(org, 1, order_reference=7)
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert (found.marker_text, found.problems) == (None, ("order_reference is '7', which makes no sense here",))


def test_a_marker_column_that_the_mapping_names_must_be_there(own_crm: DataverseCrm, own_org: FakeDataverse) -> None:
    own_org.missing = {f"work365_subscription.{MARKER}"}
    with pytest.raises(MappingError) as caught:
        own_crm.settings()
    assert caught.value.problems[0].startswith("tables.subscription.columns.marker: the table")


@pytest.mark.parametrize("kind", ["Integer", "DateTime", "Boolean", "Lookup", "Virtual"])
def test_a_marker_column_must_hold_text(own_crm: DataverseCrm, own_org: FakeDataverse, kind: str) -> None:
    own_org.kinds[MARKER] = kind
    with pytest.raises(MappingError) as caught:
        own_crm.settings()
    assert len(caught.value.problems) == 1 and MARKER in caught.value.problems[0]


def test_parents_with_a_marker_are_told_with_the_settings_in_the_same_request(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    org.page_size = 2
    for number, text in enumerate(["ls2:a;1", "ls2:", "PO ls2:", None, "LS2:a;", "ls1:abcd", "ls2:b;2"]):
        add_subscription(org, number, order_reference=text)
    crm.settings()
    before = len(org.requests)
    org.page_size = 5000
    assert crm.settings().marked_parents == (sub(0), sub(1), sub(6))
    assert len(org.requests) - before == 1
    org.page_size = 2
    assert crm.settings().marked_parents == (sub(0), sub(1), sub(6))


# Open logs


def test_open_logs_and_their_subscriptions_come_in_one_query(crm: DataverseCrm, org: FakeDataverse) -> None:
    crm.settings()
    before = len(org.requests)
    add_subscription(org, 1, linked_parent=sub(9), provider=LINKED)
    for number, status in enumerate(["awaiting", "provisioned", "failed", "not_applicable", "awaiting"]):
        add_log(org, number, 1, status=status)
    found = crm.find_open_logs()
    assert [log.id for log in found.logs] == [log_id(0), log_id(4)]
    assert found.subscriptions[sub(1)].linked_parent == sub(9)
    assert found.subscriptions[sub(1)].provider == "linked"
    assert len(org.requests) - before == 1


def test_all_pages_of_open_logs_are_read(crm: DataverseCrm, org: FakeDataverse) -> None:
    org.page_size = 2
    add_subscription(org, 1)
    for number in range(5):
        add_log(org, number, 1)
    assert len(crm.find_open_logs().logs) == 5


def test_a_log_whose_subscription_cannot_be_read_stands_alone(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_log(org, 1, 77)
    add_log(org, 2, 1)["_work365_licensechangelog_subscription_value"] = None
    found = crm.find_open_logs()
    assert found.subscriptions == {}
    assert found.logs[0].subscription_id == sub(77)
    assert found.logs[1].subscription_id == "" and found.logs[1].problems == ("it names no subscription",)


# Families


def test_a_family_is_read_whole(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(
        org,
        1,
        provider=PARTNER_CENTER,
        quantity=50,
        bundle_parent=sub(20),
        provider_subscription="{ABCDEF00-0000-4000-8000-000000000001}",
    )
    add_subscription(org, 2, linked_parent=sub(1))
    add_subscription(
        org, 3, linked_parent=sub(1), state="inactive", reduction_behavior="within_window", reduction_window=7
    )
    add_subscription(org, 4, linked_parent=sub(99))
    add_subscription(org, 5)
    add_subscription(org, 20, bundle_parent=sub(21), linked_parent=sub(30))
    add_subscription(org, 21, bundle_parent=sub(22))
    add_subscription(org, 22, bundle_parent=sub(23))
    add_subscription(org, 23)
    add_subscription(org, 30)
    add_log(org, 1, 2, created_on="2026-03-01T10:00:00Z")
    add_log(org, 2, 2, status="failed", created_on="2026-03-01T09:00:00Z")
    add_log(org, 3, 2, status="provisioned", created_on="2026-03-01T11:00:00Z")
    add_log(
        org,
        4,
        3,
        kind="create",
        status="provisioned",
        created_on="2025-01-01T00:00:00Z",
        provisioned_on="2025-01-01T00:00:00Z",
    )
    add_log(org, 5, 1, status="provisioned", created_on="2026-03-01T09:30:00Z", order_reference="marker")
    add_log(org, 6, 1, status="provisioned", created_on="2026-03-01T08:59:59Z")
    add_log(org, 7, 5)
    add_log(org, 8, 20, status="failed")
    add_log(org, 9, 4)
    org.add(
        "provider_account",
        "ffffffff-0000-4000-8000-000000000001",
        name="A",
        account=ACCOUNT,
        tenant=TENANT.upper(),
        provider=PARTNER_CENTER,
    )
    org.add("provider_account", "ffffffff-0000-4000-8000-000000000002", name="B", account=sub(1), tenant=TENANT)
    org.add(
        "scheduled_license_change_log",
        "99999999-0000-4000-8000-000000000001",
        subscription=sub(2),
        event="update",
        effective_date="2026-04-01",
        quantity=5,
        status="pending",
    )
    org.add(
        "scheduled_license_change_log",
        "99999999-0000-4000-8000-000000000002",
        subscription=sub(2),
        event="update",
        effective_date="2026-04-01",
        quantity=5,
        status="archived",
    )
    crm.settings()
    before = len(org.requests)

    families = crm.load_families([SubscriptionId(sub(1).upper())], [sub(5)])

    assert [child.id for child in families.children[sub(1)]] == [sub(2), sub(3)]
    assert not families.children[sub(1)][1].active
    assert families.subscriptions.keys() >= {sub(n) for n in (1, 2, 3, 5, 20, 21, 22, 30)}
    assert sub(23) not in families.subscriptions and sub(4) not in families.subscriptions
    assert families.subscriptions[sub(1)].provider_subscription == "abcdef00-0000-4000-8000-000000000001"
    # The closed one came after the oldest open one: a marker names runs of neighbours, so it must be known.
    assert [log.id for log in families.logs[sub(2)]] == [log_id(2), log_id(1), log_id(3)]
    assert [log.id for log in families.logs[sub(3)]] == [log_id(4)]
    assert [log.order_reference for log in families.logs[sub(1)]] == ["marker"]
    assert [log.id for log in families.logs[sub(5)]] == [log_id(7)]
    assert [log.id for log in families.logs[sub(20)]] == [log_id(8)]
    assert sub(4) not in families.logs
    assert [(account.name, account.tenant) for account in families.accounts] == [("A", TENANT)]
    assert [change.quantity for change in families.scheduled[sub(2)]] == [5]
    assert len(org.requests) - before == 5


def test_the_number_of_requests_does_not_grow_with_the_families(crm: DataverseCrm, org: FakeDataverse) -> None:
    for number in range(1, 1300, 2):
        add_subscription(org, number, provider=PARTNER_CENTER)
        add_subscription(org, number + 1, linked_parent=sub(number))
        add_log(org, number, number + 1)
    crm.settings()
    before = len(org.requests)
    few = crm.load_families([sub(1)])
    for_few = len(org.requests) - before
    many = crm.load_families([sub(number) for number in range(1, 1300, 2)])
    assert len(org.requests) - before - for_few == for_few == 3
    assert len(many.children) == 650 and all(len(children) == 1 for children in many.children.values())
    assert len(few.subscriptions) == 2


def test_five_thousand_families_that_changed_are_read_in_answers_of_a_bearable_size(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    for number in range(1, 10_001, 2):
        add_subscription(org, number, provider=PARTNER_CENTER)
        add_subscription(org, number + 1, linked_parent=sub(number))
        add_log(org, number, number + 1, message="x" * 1000)
        add_log(org, number + 1, number, message="x" * 1000, status="provisioned")
    before = len(org.requests)
    found = crm.load_families([sub(number) for number in range(1, 10_001, 2)])
    assert len(found.subscriptions) == 10_000 and sum(map(len, found.logs.values())) == 10_000
    assert all(len(children) == 1 for children in found.children.values()) and not found.moved
    assert org.largest < 32 * 2**20
    assert len(org.requests) - before < 12


def test_a_neighbour_with_an_old_stuck_log_does_not_bring_old_logs_to_others(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    for parent, created in ((1, "2020-01-01T00:00:00Z"), (3, "2026-03-01T00:00:00Z")):
        add_subscription(org, parent)
        add_subscription(org, parent + 1, linked_parent=sub(parent))
        add_log(org, parent, parent + 1, created_on=created)
        add_log(org, parent + 10, parent, status="provisioned", created_on="2025-01-01T00:00:00Z")
    logs = crm.load_families([sub(1), sub(3)]).logs
    assert [log.id for log in logs[sub(1)]] == [log_id(11)]
    assert sub(3) not in logs


def marked(at: datetime) -> str:
    """A marker whose oldest change was made then."""
    minutes, text = int((at - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds() // 60), ""
    while minutes:
        minutes, digit = divmod(minutes, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return f"ls2:{text};x"


def test_where_a_marker_stands_the_closed_logs_of_parent_and_children_are_read_as_far_back_as_it_names(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    at = datetime(2026, 2, 1, 12, 0, 30, tzinfo=UTC)
    for parent, text in ((1, marked(at)), (3, "PO 17")):
        add_subscription(org, parent, order_reference=text)
        add_subscription(org, parent + 1, linked_parent=sub(parent))
        for number, (owner, created) in enumerate(
            [(parent, "12:00:00"), (parent + 1, "12:00:30"), (parent, "11:59:59"), (parent + 1, "11:59:59")]
        ):
            status = "provisioned" if number % 2 else "not_applicable"
            add_log(org, 10 * parent + number, owner, status=status, created_on=f"2026-02-01T{created}Z")
    logs = crm.load_families([sub(1), sub(3)]).logs
    assert {key: [log.id for log in found] for key, found in logs.items()} == {
        sub(1): [log_id(10)],
        sub(2): [log_id(11)],
    }


def test_an_open_log_that_is_older_than_the_marker_takes_parent_and_children_back_to_it(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    add_subscription(org, 1, order_reference=marked(datetime(2026, 2, 1, tzinfo=UTC)))
    for child in (2, 3):
        add_subscription(org, child, linked_parent=sub(1))
    add_log(org, 1, 2, status="failed", created_on="2026-01-01T00:00:00Z")
    add_log(org, 2, 3, status="provisioned", created_on="2026-01-02T00:00:00Z")
    add_log(org, 3, 1, status="provisioned", created_on="2026-01-03T00:00:00Z")
    add_log(org, 4, 3, status="provisioned", created_on="2025-12-31T00:00:00Z")
    logs = crm.load_families([sub(1)]).logs
    assert sorted(log.id for found in logs.values() for log in found) == [log_id(1), log_id(2), log_id(3)]


def test_a_status_that_nobody_knows_is_read_with_its_problem(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(org, 1)
    org.choices["provisioning_status"]["odd"] = 888
    org.labels[888] = "In Limbo"
    add_log(org, 1, 1, status=888)
    add_log(org, 2, 1, status=None)
    add_log(org, 3, 1, status=None, kind="audit", quantity=0)
    logs = {log.id: log for log in crm.load_families([], [sub(1)]).logs[sub(1)]}
    assert logs[log_id(1)].status is None and logs[log_id(1)].problems == (
        "status is 'In Limbo' (888), which the mapping does not know",
    )
    assert logs[log_id(2)].problems == ("status is empty",)
    assert logs[log_id(3)].problems == ()


def test_a_read_that_fails_raises_and_returns_nothing(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(org, 1)
    crm.settings()
    broken: Reply = (500, {}, "<html>")
    org.interfere = lambda method, path: (
        broken if method == "inner GET" and "linkedsubscription" in path.split("$filter")[1] else None
    )
    with pytest.raises(Transient):
        crm.load_families([sub(1)])


def test_children_are_found_by_candidate(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(org, 1)
    add_subscription(org, 2, linked_parent=sub(1))
    add_subscription(org, 3, linked_parent=sub(1))
    assert crm.load_children_of([sub(1), sub(2), sub(9)]) == {sub(1): (sub(2), sub(3))}
    assert crm.load_children_of([]) == {}


# Writes


@pytest.fixture
def parent(crm: DataverseCrm, org: FakeDataverse) -> Subscription:
    add_subscription(org, 1, provider=PARTNER_CENTER, quantity=50)
    return crm.load_families([sub(1)]).subscriptions[sub(1)]


def test_the_parents_quantity_and_marker_are_written_together(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription
) -> None:
    assert crm.commit(FamilyChange(parent, 60, "marker")) is None
    assert org.patches == [
        (
            f"work365_subscriptionset({sub(1)})",
            {"work365_subscription_quantity": 60, "work365_subscription_orderreference": "marker"},
        )
    ]
    with pytest.raises(PreconditionFailed):
        crm.commit(FamilyChange(parent, 70, "marker"))
    assert len(org.patches) == 1


@pytest.mark.parametrize(
    ("before", "marker", "written"),
    [(" PO 17 ", None, " PO 17 "), (None, None, None), ("x", "", None), ("x", "ls2:a;", "ls2:a;"), (None, "y", "y")],
)
def test_the_markers_column_is_always_written_so_that_the_parents_version_moves(
    crm: DataverseCrm, org: FakeDataverse, before: str | None, marker: str | None, written: str | None
) -> None:
    add_subscription(org, 1, order_reference=before)
    parent = crm.load_families([sub(1)]).subscriptions[sub(1)]
    crm.commit(FamilyChange(parent, marker=marker))
    assert org.patches == [
        (f"work365_subscriptionset({sub(1)})", {"work365_subscription_orderreference": written}),
    ]
    with pytest.raises(PreconditionFailed):
        crm.commit(FamilyChange(parent))


def test_a_marker_with_a_column_of_its_own_leaves_order_reference_alone(
    own_crm: DataverseCrm, own_org: FakeDataverse
) -> None:
    add_subscription(own_org, 1, order_reference="PO 17")
    parent = own_crm.load_families([sub(1)]).subscriptions[sub(1)]
    own_crm.commit(FamilyChange(parent, marker="ls2:" + "a" * 3996))
    assert own_org.patches[0][1] == {MARKER: "ls2:" + "a" * 3996}
    with pytest.raises(ProtocolError, match="too short"):
        own_crm.commit(FamilyChange(parent, marker="ls2:" + "a" * 3997))


@pytest.mark.parametrize("quantity", [True, 60.0, "60", -1, float("nan"), float("inf"), 6.5])
def test_nothing_is_sent_that_is_no_whole_number_of_seats(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription, quantity: Any
) -> None:
    before = len(org.requests)
    with pytest.raises(ProtocolError, match="no number of seats"):
        crm.commit(FamilyChange(parent, quantity))
    if quantity != -1:
        with pytest.raises(ProtocolError, match="no number of seats"):
            crm.commit(FamilyChange(parent, 60, new_log=replace(NEW_LOG, quantity=quantity)))
    assert len(org.requests) == before and org.patches == []


@pytest.mark.parametrize("more", [{"quantity": 1}, {"marker": ""}, {"new_log": True}])
def test_a_parents_change_without_a_parent_is_not_sent(
    crm: DataverseCrm, org: FakeDataverse, more: dict[str, Any]
) -> None:
    crm.settings()
    before = len(org.requests)
    with pytest.raises(ProtocolError):
        crm.commit(FamilyChange(None, **{**more, **({"new_log": NEW_LOG} if "new_log" in more else {})}))
    assert len(org.requests) == before


def test_a_lost_answer_to_a_familys_change_is_unknown(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription
) -> None:
    org.interfere = lambda method, path: (502, {}, "") if method == "POST" else None
    with pytest.raises(OutcomeUnknown):
        crm.commit(FamilyChange(parent, 60, "marker"))


def test_nothing_is_written_to_a_row_that_was_read_without_an_etag(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(org, 1)["@odata.etag"] = None
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    with pytest.raises(ProtocolError):
        crm.commit(FamilyChange(found, 60, "marker"))
    assert org.patches == []


NEW_LOG = NewLog(log_id(99), sub(1), ACCOUNT, -5, "Parent 25 → 20", "PO 17")


def test_a_log_that_the_crm_does_not_make_is_made_once_with_the_parents_quantity(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription
) -> None:
    crm.commit(FamilyChange(parent, 45, "", new_log=NEW_LOG))
    prefix = "work365_licensechangelog_"
    assert [name for name, _ in org.patches] == [
        f"work365_subscriptionset({sub(1)})",
        f"work365_licensechangelogset({log_id(99)})",
    ]
    assert org.patches[1][1] == {
        f"{prefix}subscription".upper() + "@odata.bind": f"/work365_subscriptionset({sub(1)})",
        f"{prefix}customer".upper() + "@odata.bind": f"/accountset({ACCOUNT})",
        f"{prefix}quantity": -5,
        "work365_name": "Parent 25 → 20",
        f"{prefix}orderreference": "PO 17",
        f"{prefix}type": org.choices["log_kind"]["update"],
        f"{prefix}provisioningstatus": org.choices["provisioning_status"]["awaiting"],
    }
    found = crm.load_families([sub(1)])
    (log,) = found.logs[sub(1)]
    assert (log.id, log.quantity, log.status, log.kind) == (
        log_id(99),
        -5,
        ProvisioningStatus.AWAITING,
        LogKind.UPDATE,
    )
    with pytest.raises(Rejected):
        crm.commit(FamilyChange(found.subscriptions[sub(1)], 40, new_log=NEW_LOG))
    assert crm.load_families([sub(1)]).subscriptions[sub(1)].quantity == 45


def test_a_log_is_made_of_what_is_known_and_its_texts_fit(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription
) -> None:
    crm.commit(FamilyChange(parent, new_log=replace(NEW_LOG, customer_id=None, order_reference=None, name="x" * 50)))
    written = org.patches[1][1]
    assert written["work365_name"] == "x" * 39 + "…"
    assert not [name for name in written if "CUSTOMER" in name or "orderreference" in name]


def test_more_changes_than_one_set_takes_are_refused_before_anything_is_sent(
    crm: DataverseCrm, org: FakeDataverse, parent: Subscription
) -> None:
    many = tuple(LogUpdate(log_id(number), 'W/"1"', ProvisioningStatus.PROVISIONED) for number in range(1000))
    before = len(org.requests)
    with pytest.raises(Rejected, match="1001 changes"):
        crm.commit(FamilyChange(parent, updates=many))
    assert len(org.requests) == before


def update(org: FakeDataverse, number: int, **values: Any) -> LogUpdate:
    row = next(
        row for row in org.rows["work365_licensechangelog"] if row["work365_licensechangelogid"] == log_id(number)
    )
    return LogUpdate(log_id(number), row["@odata.etag"], values.pop("status", ProvisioningStatus.PROVISIONED), **values)


def test_logs_are_acknowledged_in_order_in_one_change_set(crm: DataverseCrm, org: FakeDataverse) -> None:
    for number in (1, 2, 3):
        add_log(org, number, 1)
    crm.settings()
    before = len(org.requests)
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    crm.commit(
        FamilyChange(
            None,
            updates=(
                update(org, 3, provisioned_on=at, message="done"),
                update(org, 1, status=ProvisioningStatus.FAILED, message="x" * 100),
                update(org, 2, status=ProvisioningStatus.NOT_APPLICABLE),
            ),
        )
    )
    prefix = "work365_licensechangelog_"
    numbers = org.choices["provisioning_status"]
    assert org.patches == [
        (
            f"work365_licensechangelogset({log_id(3)})",
            {
                f"{prefix}provisioningstatus": numbers["provisioned"],
                f"{prefix}provisioningmessage": "done",
                f"{prefix}actualprovisionedon": "2026-03-02T09:00:00Z",
            },
        ),
        (
            f"work365_licensechangelogset({log_id(1)})",
            {f"{prefix}provisioningstatus": numbers["failed"], f"{prefix}provisioningmessage": "x" * 39 + "…"},
        ),
        (f"work365_licensechangelogset({log_id(2)})", {f"{prefix}provisioningstatus": numbers["not_applicable"]}),
    ]
    assert len(org.requests) - before == 1
    crm.commit(FamilyChange(None))
    assert len(org.requests) - before == 1


def test_one_log_that_moved_undoes_the_whole_acknowledgement(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_log(org, 1, 1)
    add_log(org, 2, 1)
    stale = LogUpdate(log_id(2), 'W/"1"', ProvisioningStatus.PROVISIONED)
    with pytest.raises(PreconditionFailed):
        crm.commit(FamilyChange(None, updates=(update(org, 1), stale)))
    assert org.patches == []
    assert {log.status for log in crm.find_open_logs().logs} == {ProvisioningStatus.AWAITING}


def test_a_message_is_cut_by_the_units_that_dataverse_counts(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_log(org, 1, 1)
    crm.commit(FamilyChange(None, updates=(update(org, 1, message="😀" * 30),)))
    written = org.patches[0][1]["work365_licensechangelog_provisioningmessage"]
    assert written == "😀" * 19 + "…"
    assert len(written.encode("utf-16-le")) // 2 <= 40


def test_a_refused_acknowledgement_is_rejected_with_the_services_text(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_log(org, 1, 1)
    crm.settings()
    no: Reply = (400, {}, json.dumps({"error": {"code": "0x80040265", "message": "A plug-in says no."}}))
    org.interfere = lambda method, path: no if path.endswith("$batch") else None
    with pytest.raises(Rejected, match="A plug-in says no"):
        crm.commit(FamilyChange(None, updates=(update(org, 1),)))


# Rows


@pytest.mark.parametrize(
    ("given", "quantity", "problems"),
    [
        (25, 25, ()),
        (25.0, 25, ()),
        ("25", 25, ()),
        (0, 0, ()),
        (None, None, ("quantity is empty",)),
        (-5, None, ("quantity is negative (-5)",)),
        (2.5, None, ("quantity is '2.5', which makes no sense here",)),
        (10**12, None, ("quantity is '1000000000000', which makes no sense here",)),
        (True, None, ("quantity is 'True', which makes no sense here",)),
        ("many", None, ("quantity is 'many', which makes no sense here",)),
        ([], None, ("quantity is '[]', which makes no sense here",)),
    ],
)
def test_a_quantity_is_whole_seats_or_a_problem_and_never_zero_by_accident(
    crm: DataverseCrm, org: FakeDataverse, given: Any, quantity: int | None, problems: tuple[str, ...]
) -> None:
    add_subscription(org, 1, quantity=given)
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert (found.quantity, found.problems) == (quantity, problems)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("2026-03-15", date(2026, 3, 15)),
        ("2026-03-15T00:00:00Z", date(2026, 3, 15)),
        ("2026-03-15T04:00:00Z", date(2026, 3, 15)),
        ("2026-03-15T00:00:00-04:00", date(2026, 3, 15)),
        ("2026-03-15T13:30:00Z", datetime(2026, 3, 15, 13, 30, tzinfo=UTC)),
        ("2026-03-15T13:30:00.1234567Z", datetime(2026, 3, 15, 13, 30, 0, 123456, tzinfo=UTC)),
        ("2026-03-15T13:30:00", datetime(2026, 3, 15, 13, 30, tzinfo=UTC)),
        ("2026-03-15T03:30:00Z", datetime(2026, 3, 15, 3, 30, tzinfo=UTC)),
    ],
)
def test_provision_on_is_a_date_at_midnight_and_an_instant_otherwise(
    crm: DataverseCrm, org: FakeDataverse, given: str | None, expected: date | datetime | None
) -> None:
    add_log(org, 1, 1, provision_on=given, effective_date="2026-03-15")
    log = crm.find_open_logs().logs[0]
    assert log.provision_on == expected and type(log.provision_on) is type(expected)
    assert log.problems == () and log.effective_on == date(2026, 3, 15)


@pytest.mark.parametrize("given", ["15.03.2026", "2026-13-01", 20260315, "soon", "2026-03-15T99:00:00Z"])
def test_a_date_that_is_none_is_a_problem_of_its_row(crm: DataverseCrm, org: FakeDataverse, given: Any) -> None:
    add_log(org, 1, 1, provision_on=given)
    log = crm.find_open_logs().logs[0]
    assert log.provision_on is None
    assert log.problems == (f"provision_on is {str(given)!r}, which makes no sense here",)


@pytest.mark.parametrize(
    ("amount", "unit", "currency", "expected"),
    [
        (12.5, "month", DOLLAR, Price(1250, "USD")),
        (100.0, "year", DOLLAR, Price(833, "USD")),
        (0.06, "year", DOLLAR, Price(1, "USD")),
        (0.0, "month", DOLLAR, Price(0, "USD")),
        (None, "month", DOLLAR, None),
        (12.5, None, DOLLAR, None),
        (12.5, "month", None, None),
        (-1.0, "month", DOLLAR, None),
        ("x", "month", DOLLAR, None),
    ],
)
def test_a_price_is_minor_units_per_month_or_missing(
    crm: DataverseCrm, org: FakeDataverse, amount: Any, unit: str | None, currency: str | None, expected: Price | None
) -> None:
    add_subscription(org, 1, cost_price=amount, sales_unit=unit, currency=currency)
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert (found.cost, found.problems) == (expected, ())


def test_a_currency_without_a_minor_unit_is_not_multiplied(crm: DataverseCrm, org: FakeDataverse) -> None:
    yen = "cccccccc-0000-4000-8000-000000000002"
    org.add("currency", yen, code="JPY")
    add_subscription(org, 1, cost_price=1500.0, sales_unit="month", currency=yen)
    assert crm.load_families([sub(1)]).subscriptions[sub(1)].cost == Price(1500, "JPY")


def test_every_field_of_a_good_row_arrives(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(
        org, 1, is_trial=True, commitment_end="2026-12-31", deactivate_on="2026-06-30T00:00:00Z", reduction_behavior="within_window",
        reduction_window=7, order_reference=" ref ", part_number="CFQ7TTC0LFLX:0001", contract=sub(50), product=sub(51),
        provider_account=sub(52), provider=PARTNER_CENTER, provider_subscription=sub(53).upper(),
    )  # fmt: skip
    found = crm.load_families([sub(1)]).subscriptions[sub(1)]
    assert found == Subscription(
        id=sub(1), name="Subscription 1", quantity=25, active=True, provider="partner_center", etag=found.etag, provider_id=PARTNER_CENTER,
        part_number="CFQ7TTC0LFLX:0001", provider_account_id=sub(52), provider_subscription=sub(53), customer_id=ACCOUNT,  # type: ignore[arg-type]
        contract_id=sub(50), product_id=sub(51), is_trial=True, commitment_end=date(2026, 12, 31), deactivate_on=date(2026, 6, 30),
        reduction=ReductionBehavior.WITHIN_WINDOW, reduction_days=7, order_reference="ref", created_on=datetime(2026, 1, 1, tzinfo=UTC),
        marker_text=" ref ",
    )  # fmt: skip
    assert found.etag.startswith('W/"')


def test_rows_that_make_no_sense_say_so_and_leave_the_others_alone(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_subscription(
        org, 1, provider=PARTNER_CENTER, provider_subscription="see contract", state=999, is_trial="perhaps"
    )
    add_subscription(org, 2, linked_parent="not-a-guid", reduction_behavior=5, reduction_window=-1, name=None)
    add_subscription(org, 3, provider=ELSEWHERE)
    add_subscription(org, 4, provider=sub(77))
    rows = crm.load_families([], [sub(number) for number in (1, 2, 3, 4)]).subscriptions
    assert len(rows[sub(1)].problems) == 3 and rows[sub(1)].provider_subscription is None
    assert rows[sub(1)].active
    assert len(rows[sub(2)].problems) == 3 and rows[sub(2)].linked_parent is None and rows[sub(2)].name == sub(2)
    assert rows[sub(3)].provider is None and rows[sub(3)].provider_id == ELSEWHERE and rows[sub(3)].problems == ()
    assert rows[sub(4)].provider is None and rows[sub(4)].problems == ()


def test_an_archived_log_and_an_unknown_channel_are_told(crm: DataverseCrm, org: FakeDataverse) -> None:
    org.choices["channel"]["shop"] = 890
    org.labels[890] = "Web Shop"
    add_log(org, 1, 1, state="inactive", channel="portal", kind="create")
    add_log(org, 2, 1, channel=890, quantity=-5, created_on=None)
    first, second = sorted(crm.find_open_logs().logs, key=lambda log: log.id)
    assert (first.archived, first.channel, first.kind) == (True, "portal", LogKind.CREATE)
    assert (second.archived, second.channel, second.quantity) == (False, "Web Shop", -5)
    assert second.problems == ("created_on is empty",)


def test_rows_without_a_primary_key_are_left_out(crm: DataverseCrm, org: FakeDataverse) -> None:
    add_log(org, 1, 1)["work365_licensechangelogid"] = None
    assert crm.find_open_logs().logs == ()
