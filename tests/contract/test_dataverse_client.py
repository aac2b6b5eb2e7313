from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import responses

from connector.crm.batch import BatchDamaged, Change, Creation, build_reads, parse_batch
from connector.crm.dataverse import (
    DataverseClient,
    is_in,
    query,
    text_literal,
)
from connector.crm.meanings import classify_dataverse, parse_dataverse_error
from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from tests.contract.http_fakes import API, FakeClock, Reply, make_transport, multipart

BATCH = f"{API}/$batch"
OK = {"Content-Type": "application/json; odata.metadata=minimal"}
TRICKY = "O'Br & #?"


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as active:
        yield active


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(clock: FakeClock) -> DataverseClient:
    return DataverseClient(make_transport(clock))


def rows(*names: str, link: str | None = None) -> str:
    page: dict[str, Any] = {"value": [{"name": name} for name in names]}
    if link is not None:
        page["@odata.nextLink"] = link
    return json.dumps(page)


def error(code: str, message: str = "no") -> str:
    return json.dumps({"error": {"code": code, "message": message}})


def answer_batch(mock: responses.RequestsMock, parts: list[Reply], status: int = 200) -> None:
    kind, body = multipart(parts)
    mock.post(BATCH, status=status, body=body, content_type=kind)


def inner_paths(request: requests.PreparedRequest) -> list[str]:
    assert isinstance(request.body, bytes)
    return re.findall(r"(?:GET|PATCH) (\S+) HTTP/1\.1", request.body.decode())


# Pages


def test_pages_come_one_by_one_and_links_are_followed_as_they_are(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    seen: list[str | None] = []
    link = f"{API}/accounts?$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253c%22%20/%3E"

    def serve(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        seen.append(request.url)
        assert request.headers["Prefer"] == "odata.maxpagesize=5000"
        return 200, OK, rows("c") if "skiptoken" in str(request.url) else rows("a", "b", link=link)

    mock.add_callback("GET", re.compile(re.escape(f"{API}/accounts")), callback=serve)
    pages = client.iter_pages("accounts?$select=name", operation="list")
    assert [row["name"] for row in next(pages)] == ["a", "b"]
    assert len(seen) == 1
    assert [row["name"] for row in next(pages)] == ["c"]
    assert seen[1] == link


def test_a_link_that_comes_twice_is_an_error_and_not_a_shorter_answer(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    mock.get(f"{API}/accounts", body=rows("a", link=f"{API}/accounts?$skiptoken=1"))
    with pytest.raises(ProtocolError, match="gave before"):
        client.read_all("accounts", operation="list")


@pytest.mark.parametrize("link", ["https://evil.example/x", f"{API}/../x", 7, ""])
def test_a_link_elsewhere_or_no_address_is_refused(
    mock: responses.RequestsMock, client: DataverseClient, link: Any
) -> None:
    mock.get(f"{API}/accounts", json={"value": [], "@odata.nextLink": link})
    with pytest.raises(ProtocolError):
        client.read_all("accounts", operation="list")


def test_a_page_that_fails_fails_the_whole_read(mock: responses.RequestsMock, client: DataverseClient) -> None:
    mock.get(f"{API}/accounts", body=rows("a", link=f"{API}/accounts2"))
    mock.get(f"{API}/accounts2", status=500)
    with pytest.raises(Transient):
        client.read_all("accounts", operation="list")


@pytest.mark.parametrize("body", ["<html>", '{"value": [', '{"value": {}}', '{"value": [1]}', "[]", "null", ""])
def test_a_page_that_is_no_list_of_rows_is_asked_for_again_and_then_refused(
    mock: responses.RequestsMock, client: DataverseClient, body: str
) -> None:
    mock.get(f"{API}/accounts", body=body)
    with pytest.raises(ProtocolError):
        client.read_all("accounts", operation="list")
    assert len(mock.calls) == 5


# Batches of reads


def test_several_queries_travel_in_one_request_and_come_back_in_order(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    answer_batch(mock, [(200, OK, rows("a")), (200, OK, rows("b", "ü"))])
    assert client.read_many(["accounts?$select=name", "contacts"], operation="load") == [
        [{"name": "a"}],
        [{"name": "b"}, {"name": "ü"}],
    ]
    sent = mock.calls[0].request
    assert sent.headers["Prefer"] == "odata.continue-on-error"
    assert inner_paths(sent) == ["/api/data/v9.2/accounts?$select=name", "/api/data/v9.2/contacts"]
    assert b"Prefer: odata.maxpagesize=500\r\n" in sent.body


def test_next_links_of_all_queries_share_the_next_request(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    answer_batch(
        mock,
        [(200, OK, rows("a1", link=f"{API}/a?p=2")), (200, OK, rows("b1")), (200, OK, rows("c1", link=f"{API}/c?p=2"))],
    )
    answer_batch(mock, [(200, OK, rows("a2")), (200, OK, rows("c2"))])
    found = client.read_many(["a", "b", "c"], operation="load")
    assert [[row["name"] for row in group] for group in found] == [["a1", "a2"], ["b1"], ["c1", "c2"]]
    assert inner_paths(mock.calls[1].request) == [f"{API}/a?p=2", f"{API}/c?p=2"]


def test_a_link_to_another_host_inside_a_batch_is_refused(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    answer_batch(mock, [(200, OK, rows("a", link="https://evil.example/a"))])
    with pytest.raises(ProtocolError):
        client.read_many(["a"], operation="load")


def test_a_link_loop_inside_a_batch_is_an_error(mock: responses.RequestsMock, client: DataverseClient) -> None:
    answer_batch(mock, [(200, OK, rows("a", link=f"{API}/a?p=2"))])
    with pytest.raises(ProtocolError, match="gave before"):
        client.read_many(["a"], operation="load")


def test_a_throttled_part_is_asked_for_again_after_its_wait_and_the_others_are_not(
    mock: responses.RequestsMock, client: DataverseClient, clock: FakeClock
) -> None:
    throttled = error("0x80072326")
    answer_batch(mock, [(200, OK, rows("a")), (429, {"Retry-After": "17"}, throttled), (503, {}, "<html>")])
    answer_batch(mock, [(200, OK, rows("b")), (200, OK, rows("c"))])
    found = client.read_many(["a", "b", "c"], operation="load")
    assert [group[0]["name"] for group in found] == ["a", "b", "c"]
    assert sum(clock.slept) >= 17
    assert inner_paths(mock.calls[1].request) == ["/api/data/v9.2/b", "/api/data/v9.2/c"]


def test_a_part_that_keeps_failing_fails_the_read(mock: responses.RequestsMock, client: DataverseClient) -> None:
    answer_batch(mock, [(500, {}, "")])
    with pytest.raises(Transient):
        client.read_many(["a"], operation="load")
    assert len(mock.calls) == 5


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(400, error("0x0", "no property"), Rejected), (403, error("0x80040220"), AuthError), (404, error(""), Rejected)],
)
def test_a_part_that_is_refused_fails_the_read_at_once(
    mock: responses.RequestsMock, client: DataverseClient, status: int, body: str, kind: type[RemoteError]
) -> None:
    answer_batch(mock, [(200, OK, rows("a")), (status, OK, body)])
    with pytest.raises(kind) as caught:
        client.read_many(["a", "b"], operation="load")
    assert caught.value.status == status
    assert len(mock.calls) == 1


def test_a_resource_that_is_missing_is_none_in_its_place(mock: responses.RequestsMock, client: DataverseClient) -> None:
    answer_batch(mock, [(200, OK, '{"x": 1}'), (404, OK, error("0x80040217")), (200, OK, '{"x": 3}')])
    assert client.get_many(["a", "b", "c"], operation="metadata") == [{"x": 1}, None, {"x": 3}]


def test_a_service_that_stops_at_the_first_failure_is_asked_for_the_rest(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    answer_batch(mock, [(200, OK, rows("a")), (503, {}, "")], status=400)
    answer_batch(mock, [(200, OK, rows("b")), (200, OK, rows("c"))])
    assert len(client.read_many(["a", "b", "c"], operation="load")) == 3


def damaged(cut: Callable[[bytes], bytes], kind: str | None = None) -> Callable[[list[Reply]], tuple[str, bytes]]:
    def make(parts: list[Reply]) -> tuple[str, bytes]:
        content_type, body = multipart(parts)
        return kind or content_type, cut(body)

    return make


DAMAGED = [
    pytest.param(damaged(lambda body: body[:-20]), id="closing boundary missing"),
    pytest.param(damaged(lambda body: body[: len(body) // 2]), id="half"),
    pytest.param(damaged(lambda body: b""), id="empty"),
    pytest.param(damaged(lambda body: body, "text/html"), id="not multipart"),
    pytest.param(damaged(lambda body: body, "multipart/mixed"), id="no boundary named"),
    pytest.param(damaged(lambda body: body, "multipart/mixed; boundary=other"), id="another boundary"),
    pytest.param(damaged(lambda body: body.replace(b"HTTP/1.1 2", b"HTTQ 2")), id="no status line"),
    pytest.param(damaged(lambda body: body.replace(b"application/http", b"text/plain")), id="unknown part"),
]


@pytest.mark.parametrize("make", DAMAGED)
def test_a_damaged_batch_is_read_again(
    mock: responses.RequestsMock, client: DataverseClient, make: Callable[[list[Reply]], tuple[str, bytes]]
) -> None:
    kind, body = make([(200, OK, rows("a"))])
    mock.post(BATCH, body=body, content_type=kind)
    answer_batch(mock, [(200, OK, rows("a"))])
    assert client.read_many(["a"], operation="load") == [[{"name": "a"}]]


@pytest.mark.parametrize("make", DAMAGED)
def test_a_damaged_answer_to_a_change_set_is_unknown(
    mock: responses.RequestsMock, client: DataverseClient, make: Callable[[list[Reply]], tuple[str, bytes]]
) -> None:
    kind, body = make([(204, {}, "")])
    mock.post(BATCH, body=body, content_type=kind)
    with pytest.raises(OutcomeUnknown):
        client.change_set([Change("a(1)", 'W/"1"', {"x": 1})], operation="write")
    assert len(mock.calls) == 1


def test_too_few_or_too_many_answers_to_a_batch_are_not_accepted(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    answer_batch(mock, [(200, OK, rows("a"))])
    with pytest.raises(ProtocolError, match="1 answers to a batch of 2"):
        client.read_many(["a", "b"], operation="load")


def test_many_queries_are_split_so_that_no_batch_can_bring_more_rows_than_one_answer_takes(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:

    def serve(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        kind, body = multipart([(200, OK, rows(path)) for path in inner_paths(request)])
        return 200, {"Content-Type": kind}, body

    mock.add_callback("POST", BATCH, callback=serve)
    found = client.read_many([f"a{number}" for number in range(1500)], operation="load")
    assert [group[0]["name"] for group in found][::700] == [f"/api/data/v9.2/a{number}" for number in (0, 700, 1400)]
    assert [len(inner_paths(call.request)) for call in mock.calls] == [30] * 50


def test_small_pages_let_more_queries_into_a_batch_up_to_what_the_service_takes(
    mock: responses.RequestsMock, clock: FakeClock
) -> None:
    client = DataverseClient(make_transport(clock), page_size=10, parts_per_batch=5000)

    def serve(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        kind, body = multipart([(200, OK, rows(path)) for path in inner_paths(request)])
        return 200, {"Content-Type": kind}, body

    mock.add_callback("POST", BATCH, callback=serve)
    client.read_many([f"a{number}" for number in range(1500)], operation="load")
    assert [len(inner_paths(call.request)) for call in mock.calls] == [1000, 500]


def test_a_batch_refused_as_a_whole_says_why(mock: responses.RequestsMock, client: DataverseClient) -> None:
    mock.post(BATCH, status=400, body=error("0x80048d19", "Stream was not readable."))
    with pytest.raises(Rejected, match="Stream was not readable"):
        client.read_many(["a"], operation="load")
    with pytest.raises(Rejected, match="Stream was not readable"):
        client.change_set([Change("a(1)", 'W/"1"')], operation="write")


# Writes


def nested(parts: list[tuple[int, str]], boundary: str = "changesetresponse_1") -> tuple[str, bytes]:
    text = f"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
    for number, (status, body) in enumerate(parts, start=1):
        text += f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {number}\r\n\r\n"
        text += f"HTTP/1.1 {status} X\r\nOData-Version: 4.0\r\n\r\n{body}\r\n"
    text += f"--{boundary}--\r\n--batchresponse_1--\r\n"
    return 'multipart/mixed; boundary="batchresponse_1"', text.encode()


CHANGES = [Change("logs(1)", 'W/"11"', {"status": 2, "message": "Übung"}), Change("logs(2)", 'W/"12"', {"status": 2})]


def test_a_change_set_keeps_order_and_conditions(mock: responses.RequestsMock, client: DataverseClient) -> None:
    kind, body = nested([(204, ""), (204, "")])
    mock.post(BATCH, body=body, content_type=kind)
    client.change_set(CHANGES, operation="update logs")
    sent = mock.calls[0].request.body
    assert isinstance(sent, bytes)
    assert b"\n" not in sent.replace(b"\r\n", b"")
    assert inner_paths(mock.calls[0].request) == ["/api/data/v9.2/logs(1)", "/api/data/v9.2/logs(2)"]
    assert re.findall(rb"If-Match: (\S+)\r\n", sent) == [b'W/"11"', b'W/"12"']
    assert re.findall(rb"Content-ID: (\d)\r\n", sent) == [b"1", b"2"]
    assert json.loads(sent.split(b"\r\n\r\n")[3].split(b"\r\n")[0]) == {"status": 2, "message": "Übung"}


@pytest.mark.parametrize("outer", [200, 202, 207])
def test_every_success_of_the_outer_answer_is_accepted(
    mock: responses.RequestsMock, client: DataverseClient, outer: int
) -> None:
    kind, body = nested([(204, ""), (204, "")])
    mock.post(BATCH, status=outer, body=body, content_type=kind)
    client.change_set(CHANGES, operation="update logs")


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize("outer", [200, 400])
@pytest.mark.parametrize(
    ("inner", "code", "kind"),
    [
        (412, "0x80060882", PreconditionFailed),
        (412, "", PreconditionFailed),
        (412, "0x80040237", Rejected),
        (400, "0x80044331", Rejected),
        (404, "0x80040217", Rejected),
        (403, "0x80040220", AuthError),
        (429, "0x80072322", Transient),
        (400, "0x80044150", Transient),
        (500, "0x80040216", OutcomeUnknown),
    ],
)
def test_a_failed_change_set_says_what_failed_in_either_layout(
    mock: responses.RequestsMock,
    client: DataverseClient,
    layout: str,
    outer: int,
    inner: int,
    code: str,
    kind: type[RemoteError],
) -> None:
    parts = [(inner, error(code))]
    content_type, body = nested(parts) if layout == "nested" else multipart([(s, OK, b) for s, b in parts])
    mock.post(BATCH, status=outer, body=body, content_type=content_type)
    with pytest.raises(kind) as caught:
        client.change_set(CHANGES, operation="update logs")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (inner, code)
    assert len(mock.calls) == 1


def test_a_change_set_that_does_not_account_for_every_change_is_unknown(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = nested([(204, "")])
    mock.post(BATCH, body=body, content_type=kind)
    with pytest.raises(OutcomeUnknown, match="1 answers to 2 changes"):
        client.change_set(CHANGES, operation="update logs")


@pytest.mark.parametrize("failure", [requests.ReadTimeout(), requests.exceptions.ChunkedEncodingError()])
def test_a_change_set_whose_answer_was_lost_is_unknown(
    mock: responses.RequestsMock, client: DataverseClient, failure: Exception
) -> None:
    mock.post(BATCH, body=failure)
    with pytest.raises(OutcomeUnknown):
        client.change_set(CHANGES, operation="update logs")
    assert len(mock.calls) == 1


def test_nothing_is_sent_for_no_changes_or_more_than_fit(mock: responses.RequestsMock, client: DataverseClient) -> None:
    client.change_set([], operation="update logs")
    with pytest.raises(Rejected):
        client.change_set([Change("a(1)", 'W/"1"')] * 1001, operation="update logs")
    assert len(mock.calls) == 0


# A change set, and reads behind it


def set_and_reads(*parts: Reply, done: int = 2, status: int = 204) -> tuple[str, bytes]:
    """An answer: the change set's, nested, and then those to reads."""
    kind, body = nested([(status, "")] * done)
    if not parts:
        return kind, body
    return kind, body.removesuffix(b"--batchresponse_1--\r\n") + multipart(list(parts))[1]


READS = ["accounts?$select=name", "contacts"]


def write_and_read(client: DataverseClient) -> list[list[dict[str, Any]]] | None:
    return client.change_set(CHANGES, operation="write family", then_read=READS)


def test_reads_go_behind_a_change_set_in_the_same_request_and_only_if_it_was_done(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = set_and_reads((200, OK, rows("a")), (200, OK, rows("b", "c")))
    mock.post(BATCH, body=body, content_type=kind)
    assert write_and_read(client) == [[{"name": "a"}], [{"name": "b"}, {"name": "c"}]]
    sent = mock.calls[0].request
    assert isinstance(sent.body, bytes) and b"\n" not in sent.body.replace(b"\r\n", b"")
    assert "Prefer" not in sent.headers
    assert inner_paths(sent) == [f"/api/data/v9.2/{path}" for path in ("logs(1)", "logs(2)", *READS)]
    first, second = re.findall(rb"(--batch_\S+)\r\nContent-Type: application/http\r\n", sent.body)
    assert first == second and sent.body.count(b"If-None-Match: null\r\n") == 2
    assert sent.body.count(b"Prefer: odata.maxpagesize=500\r\n") == 2


def test_a_row_that_must_not_be_there_yet_is_made_and_never_changed(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = nested([(204, ""), (204, "")])
    mock.post(BATCH, body=body, content_type=kind)
    client.change_set([CHANGES[0], Creation("logs(9)", {"x": 1})], operation="write")
    sent = mock.calls[0].request.body
    assert isinstance(sent, bytes)
    assert b"PATCH /api/data/v9.2/logs(9) HTTP/1.1\r\n" in sent
    assert sent.count(b"If-Match: ") == 1 and sent.count(b"If-None-Match: *\r\n") == 1


def test_further_pages_of_reads_behind_a_change_set_are_followed(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = set_and_reads((200, OK, rows("a", link=f"{API}/a?p=2")), (200, OK, rows("b")))
    mock.post(BATCH, body=body, content_type=kind)
    answer_batch(mock, [(503, {}, "")])
    answer_batch(mock, [(200, OK, rows("a2"))])
    assert write_and_read(client) == [[{"name": "a"}, {"name": "a2"}], [{"name": "b"}]]


GOOD: Reply = (200, OK, rows("a"))
INCOMPLETE = [
    pytest.param((GOOD, (429, {"Retry-After": "17"}, error("0x80072322"))), 400, id="throttled"),
    pytest.param(((503, {}, "<html>"),), 400, id="the first failed"),
    pytest.param((GOOD, (400, OK, error("0x0"))), 400, id="refused"),
    pytest.param((GOOD, (403, OK, error("0x80040220"))), 400, id="not allowed"),
    pytest.param((GOOD, (404, OK, error(""))), 400, id="no such table"),
    pytest.param((GOOD,), 200, id="one is missing"),
    pytest.param((), 200, id="all are missing"),
    pytest.param((GOOD, GOOD, GOOD), 200, id="one too many"),
    pytest.param((GOOD, (200, OK, "{")), 200, id="no JSON"),
    pytest.param((GOOD, (200, OK, "[]")), 200, id="no rows"),
    pytest.param((GOOD, (200, OK, rows("b", link="https://evil.example/b"))), 200, id="a link elsewhere"),
    pytest.param((GOOD, (204, {}, "")), 200, id="nothing in it"),
]


@pytest.mark.parametrize(("parts", "outer"), INCOMPLETE)
def test_what_is_done_stays_known_when_the_reads_behind_it_did_not_all_come(
    mock: responses.RequestsMock, client: DataverseClient, parts: tuple[Reply, ...], outer: int
) -> None:
    kind, body = set_and_reads(*parts)
    mock.post(BATCH, status=outer, body=body, content_type=kind)
    assert write_and_read(client) is None
    assert len(mock.calls) == 1


def test_a_throttled_read_behind_a_change_set_holds_back_what_is_sent_next(
    mock: responses.RequestsMock, client: DataverseClient, clock: FakeClock
) -> None:
    kind, body = set_and_reads((429, {"Retry-After": "17"}, error("0x80072322")))
    mock.post(BATCH, status=400, body=body, content_type=kind)
    assert write_and_read(client) is None
    answer_batch(mock, [GOOD])
    client.read_many(["a"], operation="load")
    assert sum(clock.slept) >= 17


def test_a_further_page_that_cannot_be_read_does_not_make_the_write_unknown(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = set_and_reads((200, OK, rows("a", link=f"{API}/a?p=2")), GOOD)
    mock.post(BATCH, body=body, content_type=kind)
    mock.post(BATCH, status=403)
    assert write_and_read(client) is None


@pytest.mark.parametrize("kept", range(0, 900, 9))
def test_an_answer_that_is_cut_anywhere_is_done_or_unknown_and_never_failed(
    mock: responses.RequestsMock, client: DataverseClient, kept: int
) -> None:
    kind, body = set_and_reads((200, OK, rows("a")), (200, OK, rows("b")))
    mock.post(BATCH, body=body[:kept], content_type=kind)
    seen = body.index(b"--changesetresponse_1--") + len(b"--changesetresponse_1--")
    if kept >= seen:
        assert write_and_read(client) is None or kept >= len(body) - 4
    else:
        with pytest.raises(OutcomeUnknown):
            write_and_read(client)


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize("outer", [200, 400])
@pytest.mark.parametrize(
    ("inner", "code", "kind"),
    [
        (412, "0x80060882", PreconditionFailed),
        (412, "0x80040237", Rejected),
        (403, "0x80040220", AuthError),
        (429, "0x80072322", Transient),
        (500, "0x80040216", OutcomeUnknown),
    ],
)
def test_a_change_set_that_failed_before_its_reads_says_what_failed(
    mock: responses.RequestsMock,
    client: DataverseClient,
    layout: str,
    outer: int,
    inner: int,
    code: str,
    kind: type[RemoteError],
) -> None:
    parts = [(inner, error(code))]
    content_type, body = nested(parts) if layout == "nested" else multipart([(s, OK, b) for s, b in parts])
    mock.post(BATCH, status=outer, body=body, content_type=content_type)
    with pytest.raises(kind) as caught:
        write_and_read(client)
    assert type(caught.value) is kind and caught.value.code == code


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(multipart([GOOD, GOOD]), id="only reads"),
        pytest.param(multipart([GOOD, GOOD, GOOD, GOOD]), id="reads in the set's place"),
        pytest.param(set_and_reads(GOOD, GOOD, done=1), id="one change is not accounted for"),
        pytest.param(set_and_reads(GOOD, GOOD, done=3), id="one change too many"),
        pytest.param(set_and_reads(GOOD, GOOD, status=302), id="sent elsewhere"),
        pytest.param(
            (
                "multipart/mixed; boundary=batchresponse_1",
                multipart([GOOD])[1].removesuffix(b"--batchresponse_1--\r\n") + nested([(204, ""), (204, "")])[1],
            ),
            id="the set comes last",
        ),
    ],
)
def test_a_change_set_whose_success_cannot_be_seen_is_unknown_whatever_was_read(
    mock: responses.RequestsMock, client: DataverseClient, answer: tuple[str, bytes]
) -> None:
    mock.post(BATCH, body=answer[1], content_type=answer[0])
    with pytest.raises(OutcomeUnknown):
        write_and_read(client)


def test_a_change_set_may_be_answered_without_nesting(mock: responses.RequestsMock, client: DataverseClient) -> None:
    kind, body = multipart([(204, {}, ""), (204, {}, ""), (200, OK, rows("a")), (200, OK, rows("b"))])
    mock.post(BATCH, body=body, content_type=kind)
    assert write_and_read(client) == [[{"name": "a"}], [{"name": "b"}]]


def test_reads_that_do_not_fit_behind_a_change_set_are_left_to_the_caller(
    mock: responses.RequestsMock, client: DataverseClient
) -> None:
    kind, body = nested([(204, "")] * 999)
    mock.post(BATCH, body=body, content_type=kind)
    assert client.change_set([CHANGES[0]] * 999, operation="write", then_read=READS) is None
    assert len(inner_paths(mock.calls[0].request)) == 999


@pytest.mark.parametrize("etag", ["", "*", " * ", 'W/"1"\r\nX: y'])
def test_nothing_is_written_without_the_etag_of_a_read(
    mock: responses.RequestsMock, client: DataverseClient, etag: str
) -> None:
    with pytest.raises(ProtocolError):
        client.patch("a(1)", etag, {"x": 1}, operation="patch", kind="PATCH a")
    with pytest.raises(ProtocolError):
        client.change_set([CHANGES[0], Change("a(1)", etag)], operation="update logs")
    assert len(mock.calls) == 0


def test_the_client_has_no_delete_call() -> None:
    assert not [name for name in dir(DataverseClient) if re.search("delete|remove|drop", name)]


# Small things


def test_who_am_i_takes_the_hint_about_parallelism_up_to_the_limit(
    mock: responses.RequestsMock, clock: FakeClock
) -> None:
    transport = make_transport(clock)
    mock.get(f"{API}/WhoAmI", json={"UserId": "u", "OrganizationId": "o"}, headers={"x-ms-dop-hint": "70"})
    assert DataverseClient(transport).who_am_i().parallelism == 70
    assert transport.gate.concurrency == 52


def test_queries_are_encoded_so_that_no_value_escapes() -> None:
    path = query(
        "logs", select=["a", "b"], where=f"name eq {text_literal(TRICKY)}", order=["a asc"], expand="X($select=c)"
    )
    assert path == "logs?$select=a,b&$filter=name%20eq%20'O''Br%20%26%20%23%3F'&$orderby=a%20asc&$expand=X($select=c)"
    assert is_in("a", ["1", "2"]) == 'Microsoft.Dynamics.CRM.In(PropertyName=\'a\',PropertyValues=["1","2"])'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"code":"0x80060882","message":"no"}}', ("0x80060882", "no")),
        (b'\xef\xbb\xbf{"error":{"code":"","message":"x"}}', ("", "x")),
        (b'{"error":{"code":null}}', ("", "")),
        (b'{"error":"x"}', ("", "")),
        (b"[]", ("", "")),
        (b"<html>", ("", "")),
        (b"\xff", ("", "")),
        (b"", ("", "")),
    ],
)
def test_error_bodies_of_every_form_are_read(body: bytes, expected: tuple[str, str]) -> None:
    assert parse_dataverse_error(400, body) == expected


def test_codes_compare_without_regard_to_case() -> None:
    assert classify_dataverse(412, "0x80040237") is Rejected
    assert classify_dataverse(400, "0X8004E023".lower()) is None
    assert classify_dataverse(400, "0x80044151".upper().replace("0X", "0x")) is Transient
    assert classify_dataverse(500, "0x80044151") is None


def test_line_feeds_alone_and_folded_boundaries_are_read_but_never_sent() -> None:
    kind, body = multipart([(200, OK, rows("a")), (204, {}, "")])
    parts = parse_batch(kind, body.replace(b"\r\n", b"\n"))
    assert [part.status for part in parts] == [200, 204]
    assert b"\n" not in build_reads(["a"], "b", {"Accept": "x"}).replace(b"\r\n", b"")
    assert build_reads(["a"], "b", {"Accept": "x"}).endswith(b"GET a HTTP/1.1\r\nAccept: x\r\n\r\n\r\n--b--\r\n")


def test_an_inner_answer_shorter_than_it_says_is_damaged() -> None:
    kind, body = multipart([(200, {"Content-Length": "500"}, "{}")])
    with pytest.raises(BatchDamaged):
        parse_batch(kind, body)
