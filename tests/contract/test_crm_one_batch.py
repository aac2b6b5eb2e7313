"""One family in one request: read again from what is known, and written with the reading behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import responses

from connector.crm.repository import DataverseCrm
from connector.domain.model import ProvisioningStatus, Snapshot
from connector.errors import AuthError, OutcomeUnknown, PreconditionFailed, Rejected, Transient
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.sandbox.app import Sandbox
from connector.sandbox.dataverse import DataverseOptions
from connector.sandbox.wire import Request, Response
from connector.sync.gather import Selection, select, snapshots
from connector.sync.ports import FamilyChange, FamilyRows, LogUpdate, NewLog
from tests.contract.http_fakes import FakeClock, FakeDataverse, Reply, make_transport
from tests.contract.test_crm_repository import (
    ACCOUNT,
    LINKED,
    MAPPING,
    PARTNER_CENTER,
    TENANT,
    add_log,
    add_subscription,
    log_id,
    marked,
    sub,
)
from tests.harness.in_process import DATAVERSE, InProcess, Tokens
from tests.harness.stories import STORIES

PRODUCT = "77777777-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
OLD = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)


@pytest.fixture
def org() -> Iterator[FakeDataverse]:
    fake = FakeDataverse(MAPPING)
    fake.add("provider", PARTNER_CENTER, name="CSP", type="partner_center")
    fake.add("provider", LINKED, name="Linked", type="linked")
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        fake.install(mock)
        yield fake


@pytest.fixture
def crm(org: FakeDataverse) -> DataverseCrm:
    """Of one family with everything: a marker, a window, bases, accounts, a catalogue, scheduled changes; neighbours."""
    link = {"provider": PARTNER_CENTER, "product": PRODUCT, "quantity": 50, "order_reference": marked(OLD)}
    add_subscription(org, 1, bundle_parent=sub(20), **link)
    add_subscription(org, 2, linked_parent=sub(1))
    add_subscription(org, 3, linked_parent=sub(1), reduction_behavior="within_window", reduction_window=7)
    add_subscription(org, 5)
    add_subscription(org, 6, linked_parent=sub(9))
    add_subscription(org, 7, linked_parent=sub(99))
    add_subscription(org, 20, bundle_parent=sub(21), linked_parent=sub(30))
    add_subscription(org, 21, bundle_parent=sub(22))
    add_subscription(org, 22, bundle_parent=sub(23))
    add_subscription(org, 23)
    add_subscription(org, 30)
    add_log(org, 1, 2)
    add_log(org, 2, 2, status="failed", created_on="2026-02-01T09:00:00Z")
    add_log(org, 3, 3, status="provisioned", created_on="2026-01-11T11:00:00Z")
    add_log(org, 4, 3, kind="create", status="provisioned", created_on="2025-01-01T00:00:00Z")
    add_log(org, 5, 1, status="not_applicable", created_on="2026-01-10T08:00:00Z", order_reference="x")
    add_log(org, 6, 1, status="provisioned", created_on="2026-01-10T07:59:59Z")
    add_log(org, 7, 5)
    add_log(org, 8, 20, status="failed")
    add_log(org, 9, 22)
    add_log(org, 10, 7)
    for number, row in enumerate([ACCOUNT, OTHER], start=1):
        key = f"ffffffff-0000-4000-8000-{number:012d}"
        org.add("provider_account", key, name=f"A{number}", account=row, tenant=TENANT, provider=PARTNER_CENTER)
    org.add("product", PRODUCT, name="E3", default_provider=PARTNER_CENTER)
    org.add(
        "price_list_item", "66666666-0000-4000-8000-000000000001", product=PRODUCT, provider=LINKED, part_number="P"
    )
    for number, status in enumerate(["pending", "archived", "merge_failed"]):
        key = f"99999999-0000-4000-8000-{number:012d}"
        org.add(
            "scheduled_license_change_log", key, subscription=sub(2), event="update", effective_date="2026-04-01",
            quantity=5, status=status,
        )  # fmt: skip
    found = DataverseCrm(make_transport(FakeClock()), MAPPING, clock=FakeClock())
    found.settings()
    return found


FAMILY = Selection((sub(1),), ())


def known(crm: DataverseCrm, selection: Selection = FAMILY) -> Snapshot:
    (found,) = snapshots(crm.load_families(selection.parents, selection.singles), selection)
    return found


def row(org: FakeDataverse, number: int) -> dict[str, Any]:
    return next(row for row in org.rows["work365_subscription"] if row["work365_subscriptionid"] == sub(number))


def edit(org: FakeDataverse, number: int, **values: Any) -> None:
    """Somebody changes a row; its version moves."""
    org.version += 1
    table = MAPPING.tables["subscription"]
    for word, value in values.items():
        column = table.columns[word]
        name = f"_{column.column}_value" if column.lookup else column.column
        row(org, number)[name] = org.choices[column.choice][value] if column.choice else value
    row(org, number)["@odata.etag"] = f'W/"{org.version}"'


def counted(org: FakeDataverse, read: Callable[[], FamilyRows | None]) -> tuple[int, FamilyRows | None]:
    before = len(org.requests)
    found = read()
    return len(org.requests) - before, found


# Read again

SELECTIONS = [
    pytest.param(Selection((sub(1),), ()), id="a parent"),
    pytest.param(Selection((sub(20),), ()), id="a parent without children"),
    pytest.param(Selection((), (sub(5),)), id="a child that names no parent"),
    pytest.param(Selection((sub(99),), ()), id="children of a parent that is gone"),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_family_that_did_not_move_is_read_again_in_one_request_and_comes_out_the_same(
    crm: DataverseCrm, org: FakeDataverse, selection: Selection
) -> None:
    whole = crm.load_families(selection.parents, selection.singles)
    number, again = counted(org, lambda: crm.read_again(known_of(whole, selection)))
    assert again == whole
    assert number == 1


def known_of(rows: FamilyRows, selection: Selection) -> Snapshot:
    (found,) = snapshots(rows, selection)
    return found


SEEN_AT_ONCE: list[Any] = [
    pytest.param(lambda org: edit(org, 1, quantity=60), id="the parent's quantity"),
    pytest.param(lambda org: edit(org, 1, order_reference=None), id="the marker is gone"),
    pytest.param(
        lambda org: edit(org, 1, order_reference=marked(datetime(2026, 2, 1, tzinfo=UTC))), id="a later marker"
    ),
    pytest.param(lambda org: edit(org, 2, quantity=7), id="a child's quantity"),
    pytest.param(lambda org: edit(org, 3, state="inactive"), id="a child's state"),
    pytest.param(lambda org: add_log(org, 50, 2, created_on="2026-03-05T00:00:00Z"), id="a new log of a child"),
    pytest.param(
        lambda org: add_log(org, 51, 1, status="not_applicable", created_on="2026-03-05T00:00:00Z"), id="a parent's log"
    ),
    pytest.param(lambda org: add_log(org, 52, 21), id="a log of a base"),
    pytest.param(lambda org: edit(org, 20, quantity=1), id="a base's quantity"),
    pytest.param(
        lambda org: add_log(org, 53, 2, created_on="2020-01-01T00:00:00Z", status="provisioned"), id="too old"
    ),
]
NEEDS_ROUNDS: list[Any] = [
    pytest.param(lambda org: add_subscription(org, 40, linked_parent=sub(1)), id="a new child"),
    pytest.param(lambda org: edit(org, 2, linked_parent=None), id="a child left"),
    pytest.param(lambda org: edit(org, 2, linked_parent=sub(5)), id="a child moved"),
    pytest.param(lambda org: edit(org, 1, customer=OTHER), id="another customer"),
    pytest.param(lambda org: edit(org, 1, product=None), id="another product"),
    pytest.param(lambda org: edit(org, 1, bundle_parent=sub(5)), id="another bundle parent"),
    pytest.param(lambda org: edit(org, 1, bundle_parent=None), id="no bundle parent"),
    pytest.param(lambda org: edit(org, 20, bundle_parent=sub(23)), id="another bundle parent above"),
    pytest.param(lambda org: edit(org, 21, bundle_parent=sub(999)), id="a bundle parent that is not there"),
    pytest.param(lambda org: edit(org, 20, linked_parent=sub(5)), id="a base linked elsewhere"),
    pytest.param(
        lambda org: edit(org, 1, order_reference=marked(datetime(2025, 1, 1, tzinfo=UTC))), id="an older marker"
    ),
    pytest.param(
        lambda org: add_log(org, 54, 2, created_on="2025-06-01T00:00:00Z"), id="an open log older than the marker"
    ),
    pytest.param(lambda org: edit(org, 2, reduction_behavior="within_window", reduction_window=7), id="a new window"),
    pytest.param(lambda org: edit(org, 3, reduction_behavior="allowed"), id="a window that is gone"),
    pytest.param(lambda org: org.rows["work365_subscription"].remove(row(org, 1)), id="the parent is gone"),
    pytest.param(lambda org: org.rows["work365_subscription"].remove(row(org, 2)), id="a child is gone"),
    pytest.param(lambda org: org.rows["work365_subscription"].remove(row(org, 21)), id="a base is gone"),
]


@pytest.mark.parametrize("happens", SEEN_AT_ONCE)
def test_what_changed_inside_a_family_is_seen_in_the_one_request(
    crm: DataverseCrm, org: FakeDataverse, happens: Callable[[FakeDataverse], Any]
) -> None:
    before = known(crm)
    happens(org)
    number, again = counted(org, lambda: crm.read_again(before))
    assert again == crm.load_families([sub(1)])
    assert number == 1


@pytest.mark.parametrize("happens", NEEDS_ROUNDS)
def test_a_family_to_which_other_rows_belong_now_is_read_in_rounds_and_comes_out_right(
    crm: DataverseCrm, org: FakeDataverse, happens: Callable[[FakeDataverse], Any]
) -> None:
    before = known(crm)
    happens(org)
    number, again = counted(org, lambda: crm.read_again(before))
    assert again.in_rounds  # whoever read the provider before this reads it again
    assert replace(again, in_rounds=False) == crm.load_families([sub(1)])
    assert number > 1


def test_a_parent_that_could_not_be_read_and_is_there_now_is_found(crm: DataverseCrm, org: FakeDataverse) -> None:
    before = known(crm, Selection((sub(99),), ()))
    assert before.parent is None
    add_subscription(org, 99)
    assert crm.read_again(before) == replace(crm.load_families([sub(99)]), in_rounds=True)


def test_what_moves_while_a_family_is_read_again_is_said(crm: DataverseCrm, org: FakeDataverse) -> None:
    before, asked = known(crm), list[str]()

    def somebody(method: str, path: str) -> Reply | None:
        asked.append(path)
        if method == "inner GET" and "licensechangelogset" in path and len(asked) < 6:
            edit(org, 2, quantity=99)
        return None

    org.interfere = somebody
    assert crm.read_again(before).moved == {sub(2)}


@pytest.mark.parametrize("writes", [False, True])
def test_what_moves_while_further_pages_are_read_is_said(crm: DataverseCrm, org: FakeDataverse, writes: bool) -> None:
    for number in range(100, 107):
        add_log(org, number, 2)
    before, moved = known(crm), list[str]()
    org.page_size = 3

    def somebody(method: str, path: str) -> Reply | None:
        if method == "inner GET" and "skiptoken" in path and not moved:
            moved.append(path)
            edit(org, 2, quantity=99)
        return None

    org.interfere = somebody
    found = crm.commit(FamilyChange(before.parent, 60), before) if writes else crm.read_again(before)
    assert moved and found is not None and found.moved == {sub(2)}


def test_what_moves_before_a_throttled_part_is_read_is_said(crm: DataverseCrm, org: FakeDataverse) -> None:
    before, busy = known(crm), list[str]()

    def somebody(method: str, path: str) -> Reply | None:
        if method != "inner GET" or "licensechangelogset" not in path:
            return None
        if not busy:
            busy.append(path)
            return 429, {"Retry-After": "3"}, ""
        if len(busy) < 9 and path == busy[0]:
            busy.append(path)
            edit(org, 2, quantity=99)
        return None

    org.interfere = somebody
    assert crm.read_again(before).moved == {sub(2)}


def test_a_family_with_more_rows_than_a_page_is_read_again_to_the_last_one(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    for number in range(100, 107):
        add_log(org, number, 2)
    before = known(crm)
    org.page_size = 3
    assert crm.read_again(before) == crm.load_families([sub(1)])


def test_a_part_that_is_throttled_is_asked_for_again(crm: DataverseCrm, org: FakeDataverse) -> None:
    before, busy = known(crm), [(429, {"Retry-After": "3"}, "")]
    org.interfere = lambda method, path: busy.pop() if busy and method == "inner GET" and "account" in path else None
    number, again = counted(org, lambda: crm.read_again(before))
    assert number == 3 and again == crm.load_families([sub(1)])


def test_a_part_that_keeps_failing_fails_the_reading(crm: DataverseCrm, org: FakeDataverse) -> None:
    before = known(crm)
    org.interfere = lambda method, path: (503, {}, "") if method == "inner GET" and "account" in path else None
    with pytest.raises(Transient):
        crm.read_again(before)


# Written, and read behind it


def told(before: Snapshot, number: int) -> LogUpdate:
    log = next(log for log in before.logs if log.id == log_id(number))
    return LogUpdate(log.id, log.etag, ProvisioningStatus.PROVISIONED)


def test_a_family_is_written_and_read_again_in_one_request(crm: DataverseCrm, org: FakeDataverse) -> None:
    before = known(crm)
    new = NewLog(log_id(60), sub(1), ACCOUNT, 10, "50 → 60", None)
    change = FamilyChange(before.parent, 60, "", (told(before, 1), told(before, 2)), new)
    number, found = counted(org, lambda: crm.commit(change, before))
    assert number == 1 and [path.partition("(")[0] for path, _ in org.patches] == [
        "work365_subscriptionset",
        "work365_licensechangelogset",
        "work365_licensechangelogset",
        "work365_licensechangelogset",
    ]
    assert found is not None and found == crm.load_families([sub(1)])
    parent = found.subscriptions[sub(1)]
    assert (parent.quantity, parent.marker_text, found.moved) == (60, None, frozenset())
    assert log_id(60) in [log.id for log in found.logs[sub(1)]]
    assert crm.commit(FamilyChange(parent, 61), replace(before, parent=parent)) is not None


@pytest.mark.parametrize(
    "text", [marked(datetime(2025, 3, 1, tzinfo=UTC)), marked(datetime(2026, 3, 1, tzinfo=UTC)), "", None]
)
def test_logs_are_read_as_far_back_as_the_marker_that_is_just_written(
    crm: DataverseCrm, org: FakeDataverse, text: str | None
) -> None:
    edit(org, 1, order_reference=None)
    before = known(crm)
    number, found = counted(org, lambda: crm.commit(FamilyChange(before.parent, 60, text), before))
    assert number == 1 and found is not None and found == crm.load_families([sub(1)])


def test_a_family_without_a_parent_is_written_and_read_again(crm: DataverseCrm, org: FakeDataverse) -> None:
    before = known(crm, Selection((), (sub(5),)))
    number, found = counted(org, lambda: crm.commit(FamilyChange(None, updates=(told(before, 7),)), before))
    assert number == 1 and found == crm.load_families([], [sub(5)])


@pytest.mark.parametrize("happens", NEEDS_ROUNDS[:3])
def test_what_is_written_stands_when_other_rows_belong_to_the_family_now(
    crm: DataverseCrm, org: FakeDataverse, happens: Callable[[FakeDataverse], Any]
) -> None:
    before = known(crm)
    happens(org)
    assert crm.commit(FamilyChange(before.parent, 60), before) is None
    assert crm.read_again(before).subscriptions[sub(1)].quantity == 60


@pytest.mark.parametrize(
    "part", ["linkedsubscription", "licensechangelogset", "provideraccount", "$select=work365_sub"]
)
@pytest.mark.parametrize("status", [429, 503, 403, 400, 404])
def test_what_is_written_stands_when_a_read_behind_it_fails(
    crm: DataverseCrm, org: FakeDataverse, part: str, status: int
) -> None:
    before = known(crm)
    org.interfere = lambda method, path: (status, {}, "") if method == "inner GET" and part in path else None
    assert crm.commit(FamilyChange(before.parent, 60), before) is None
    org.interfere = lambda method, path: None
    assert crm.read_again(before).subscriptions[sub(1)].quantity == 60


def test_further_pages_behind_a_write_are_followed(crm: DataverseCrm, org: FakeDataverse) -> None:
    for number in range(100, 107):
        add_log(org, number, 2)
    before = known(crm)
    org.page_size = 3
    number, found = counted(org, lambda: crm.commit(FamilyChange(before.parent, 60), before))
    assert number > 1 and found == crm.load_families([sub(1)])


def refusal(code: str) -> str:
    return json.dumps({"error": {"code": code, "message": "no"}})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "0x80060882", PreconditionFailed),
        (400, "0x80040265", Rejected),
        (403, "0x80040220", AuthError),
        (429, "0x80072322", Transient),
        (500, "", OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("which", ["subscriptionset", "licensechangelogset"])
def test_a_change_that_failed_says_why_nothing_of_it_is_done_and_nothing_is_read(
    crm: DataverseCrm, org: FakeDataverse, which: str, status: int, code: str, kind: type[Exception]
) -> None:
    before, read = known(crm), list[str]()

    def somebody(method: str, path: str) -> Reply | None:
        if method == "inner GET":
            read.append(path)
        return (status, {}, refusal(code)) if method == "inner PATCH" and which in path else None

    org.interfere = somebody
    with pytest.raises(kind):
        crm.commit(FamilyChange(before.parent, 60, updates=(told(before, 1),)), before)
    assert org.patches == [] and read == []


def test_a_log_that_a_person_changed_meanwhile_leaves_the_parent_as_it_was(
    crm: DataverseCrm, org: FakeDataverse
) -> None:
    before = known(crm)
    log = next(row for row in org.rows["work365_licensechangelog"] if row["work365_licensechangelogid"] == log_id(1))
    log["@odata.etag"] = 'W/"999999"'
    with pytest.raises(PreconditionFailed):
        crm.commit(FamilyChange(before.parent, 60, updates=(told(before, 2), told(before, 1))), before)
    assert crm.read_again(before).subscriptions[sub(1)].quantity == 50


def test_an_answer_that_breaks_off_before_the_writes_end_is_unknown(crm: DataverseCrm, org: FakeDataverse) -> None:
    before = known(crm)
    kind = {"Content-Type": "multipart/mixed; boundary=batchresponse_1"}
    start = (
        "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http"
    )
    org.interfere = lambda method, path: (200, kind, start) if path.endswith("$batch") else None
    with pytest.raises(OutcomeUnknown):
        crm.commit(FamilyChange(before.parent, 60), before)


def test_no_id_of_a_neighbour_is_asked_for(crm: DataverseCrm, org: FakeDataverse) -> None:
    before, asked = known(crm), list[str]()

    def note(method: str, path: str) -> Reply | None:
        if method == "inner GET":
            asked.append(path)
        return None

    org.interfere = note
    crm.read_again(before)
    assert not [path for path in asked if sub(5) in path or sub(7) in path or OTHER in path]


# Against the emulated service, which knows change sets, conditions and lookups for itself


@pytest.fixture(params=["nested", "flat"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    layout: Any = request.param
    story = STORIES["increase"]
    made = Sandbox.from_scenario(story.scenario, dataverse_options=DataverseOptions(changeset_error_layout=layout))
    for step in story.scenario.steps:
        made.perform(step)
    return made


@pytest.fixture
def emulated(sandbox: Sandbox) -> DataverseCrm:
    def exchange(service: str, message: Request) -> tuple[Response, bool]:
        answer = sandbox.handle(service, message)
        assert isinstance(answer, Response)
        return answer, False

    session = make_session()
    session.mount("https://", InProcess(exchange))
    transport = make_transport(
        FakeClock(), session=session, auth=Tokens(sandbox, "dataverse"), origin=Origin(f"{DATAVERSE}/api/data/v9.2/")
    )
    return DataverseCrm(transport, MAPPING, clock=FakeClock())


def family_of(crm: DataverseCrm) -> Snapshot:
    selection = select(crm, crm.find_open_logs())
    return known(crm, selection)


def test_the_emulated_service_takes_a_familys_change_with_a_new_log_and_its_reading(
    emulated: DataverseCrm, sandbox: Sandbox
) -> None:
    before = family_of(emulated)
    parent, (log,) = before.parent, before.logs
    assert parent is not None
    new = NewLog(log_id(60), parent.id, parent.customer_id, log.quantity or 0, "by linksub", "PO 17")
    update = LogUpdate(log.id, log.etag, ProvisioningStatus.FAILED, "no")
    text = marked(datetime(2026, 3, 2, tzinfo=UTC))
    requests = len(sandbox.trace.entries("dataverse"))
    found = emulated.commit(FamilyChange(parent, None, text, (update,), new), before)
    assert len(sandbox.trace.entries("dataverse")) - requests == 1
    whole = emulated.load_families([parent.id])
    assert found == whole and replace(emulated.read_again(before), in_rounds=False) == whole
    made = next(log for log in found.logs[parent.id] if log.id == new.id)
    assert (made.quantity, made.status, made.customer_id) == (
        log.quantity,
        ProvisioningStatus.AWAITING,
        parent.customer_id,
    )
    assert (made.name, made.order_reference, made.problems) == ("by linksub", "PO 17", ())
    assert found.subscriptions[parent.id].marker_text == text
    assert emulated.settings().marked_parents == (parent.id,)


@pytest.mark.parametrize("stale", ["parent", "log", "exists"])
def test_the_emulated_service_undoes_a_familys_change_whole(
    emulated: DataverseCrm, sandbox: Sandbox, stale: str
) -> None:
    before = family_of(emulated)
    parent, (log,) = before.parent, before.logs
    assert parent is not None
    new = NewLog(log.id if stale == "exists" else log_id(60), parent.id, parent.customer_id, 1, "x", None)
    update = LogUpdate(log.id, 'W/"1"' if stale == "log" else log.etag, ProvisioningStatus.FAILED)
    fence = replace(parent, etag='W/"1"') if stale == "parent" else parent
    with pytest.raises(Rejected if stale == "exists" else PreconditionFailed):
        emulated.commit(FamilyChange(fence, 99, "ls2:a;", (update,), new), before)
    assert emulated.read_again(before) == emulated.load_families([parent.id])
    assert family_of(emulated).parent == parent


# Whatever the world looks like


def scramble(org: FakeDataverse, dice: Random, *, times: int) -> None:
    """Somebody links, unlinks, renames, takes away and orders at random; rings of links and rows that are gone among it."""
    subscriptions = org.rows["work365_subscription"]
    for _ in range(times):
        if not subscriptions:
            return
        number = int(dice.choice(subscriptions)["work365_subscriptionid"][-4:])
        other = dice.choice([sub(dice.randrange(1, 10)), None])
        match dice.randrange(9):
            case 0:
                edit(org, number, linked_parent=other)
            case 1:
                edit(org, number, bundle_parent=other)
            case 2:
                at = datetime(2026, dice.randrange(1, 4), dice.randrange(1, 28), tzinfo=UTC)
                edit(org, number, order_reference=dice.choice([marked(at), "PO", None]))
            case 3:
                edit(org, number, customer=dice.choice([ACCOUNT, OTHER, None]))
            case 4:
                edit(org, number, product=dice.choice([PRODUCT, None]))
            case 5:
                edit(org, number, reduction_behavior=dice.choice(["allowed", "within_window"]))
            case 6 if dice.random() < 0.2:
                subscriptions.remove(row(org, number))
            case _:
                logs = org.rows["work365_licensechangelog"]
                day = f"2026-0{dice.randrange(1, 4)}-{dice.randrange(10, 28)}T{dice.randrange(10, 24)}:00:00Z"
                status = dice.choice(["awaiting", "provisioned", "failed", "not_applicable"])
                kind = dice.choice(["update", "create"])
                add_log(org, 1000 + len(logs), number, status=status, created_on=day, kind=kind)


@pytest.mark.parametrize("seed", range(25))
def test_a_family_read_again_is_the_family_read_whole_whatever_happened(
    crm: DataverseCrm, org: FakeDataverse, seed: int
) -> None:
    dice = Random(seed)
    for number in range(1, 10):
        if not any(found["work365_subscriptionid"] == sub(number) for found in org.rows["work365_subscription"]):
            add_subscription(org, number)
    scramble(org, dice, times=25)
    for _ in range(6):
        selection = Selection((sub(dice.randrange(1, 10)),), ())
        found = snapshots(crm.load_families(selection.parents), selection)
        scramble(org, dice, times=dice.choice([0, 1, 1, 2, 4]))
        for before in found:
            whole = crm.load_families(selection.parents)
            assert replace(crm.read_again(before), in_rounds=False) == whole
            if before.parent is not None and before.parent == whole.subscriptions.get(before.parent.id):
                after = crm.commit(FamilyChange(before.parent, dice.randrange(99)), before)
                assert after is None or after == crm.load_families(selection.parents)
