from __future__ import annotations

import gzip
import json
import logging
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3

from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from connector.http.gate import RateGate
from connector.http.retry import READ_MEANINGS, WRITE_MEANINGS, meaning_of_read, meaning_of_write, parse_retry_after
from connector.http.transport import Answer, TransportSettings
from tests.contract.http_fakes import API, START, FakeClock, FakeTokens, make_transport

URL = f"{API}/accounts"


def no_connection() -> requests.ConnectionError:
    pool = urllib3.HTTPSConnectionPool("contoso.crm.dynamics.com")
    reason = urllib3.exceptions.NewConnectionError(pool, "refused")  # type: ignore[arg-type]
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/x", reason))


def untrusted() -> requests.exceptions.SSLError:
    pool = urllib3.HTTPSConnectionPool("contoso.crm.dynamics.com")
    reason = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate"))
    return requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(pool, "/x", reason))


def reset() -> requests.ConnectionError:
    return requests.ConnectionError(
        urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@responses.activate
def test_an_answer_comes_back_with_the_token_and_a_correlation_id(clock: FakeClock) -> None:
    responses.get(URL, json={"value": []})
    transport = make_transport(clock, new_id=lambda: "id-1")
    answer = transport.read("GET", "accounts", operation="list accounts", kind="GET accounts")
    sent = responses.calls[0].request
    assert answer.json() == {"value": []}
    assert sent.headers["Authorization"] == "Bearer token-1"
    assert sent.headers["x-ms-client-request-id"] == "id-1"
    assert transport.counter.counts() == {("dataverse", "GET accounts"): 1}


@responses.activate
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_read_is_repeated_until_it_succeeds(clock: FakeClock, status: int) -> None:
    responses.get(URL, status=status, body="<html>")
    responses.get(URL, status=status)
    responses.get(URL, json={})
    assert make_transport(clock).read("GET", "accounts", operation="list").status == 200
    assert len(clock.slept) >= 2


@responses.activate
@pytest.mark.parametrize(
    "failure",
    [
        requests.ReadTimeout(),
        requests.ConnectTimeout(),
        reset(),
        no_connection(),
        requests.exceptions.ChunkedEncodingError(),
    ],
)
def test_a_read_that_breaks_is_repeated_and_then_transient(clock: FakeClock, failure: Exception) -> None:
    responses.get(URL, body=failure)
    with pytest.raises(Transient) as caught:
        make_transport(clock).read("GET", "accounts", operation="list")
    assert len(responses.calls) == 5
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert caught.value.correlation_id and caught.value.operation == "list"


@responses.activate
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (404, Rejected),
        (409, Rejected),
        (412, PreconditionFailed),
        (403, AuthError),
        (501, ProtocolError),
        (302, ProtocolError),
        (418, ProtocolError),
    ],
)
def test_a_final_answer_to_a_read_is_not_asked_for_again(
    clock: FakeClock, status: int, error: type[RemoteError]
) -> None:
    responses.get(URL, status=status, json={"error": {"code": "0x1", "message": "no"}}, headers={"REQ_ID": "r-9"})
    with pytest.raises(error) as caught:
        make_transport(clock).read("GET", "accounts", operation="list")
    assert len(responses.calls) == 1
    assert (caught.value.status, caught.value.code, caught.value.text, caught.value.request_id) == (
        status,
        "0x1",
        "no",
        "r-9",
    )


@responses.activate
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (404, Rejected),
        (409, Rejected),
        (418, Rejected),
        (412, PreconditionFailed),
        (403, AuthError),
        (408, OutcomeUnknown),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, OutcomeUnknown),
        (504, OutcomeUnknown),
        (302, OutcomeUnknown),
    ],
)
def test_a_write_is_sent_once_and_its_answer_given_its_meaning(
    clock: FakeClock, status: int, error: type[RemoteError]
) -> None:
    responses.patch(URL, status=status, headers={"Location": "https://evil.example/"} if status == 302 else {})
    with pytest.raises(error) as caught:
        make_transport(clock).write("PATCH", "accounts", operation="patch", body=b"{}")
    assert type(caught.value) is error
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    "failure",
    [requests.ReadTimeout(), reset(), requests.exceptions.ChunkedEncodingError(), requests.exceptions.SSLError("eof")],
)
def test_a_write_whose_answer_was_lost_is_unknown_and_never_sent_again(clock: FakeClock, failure: Exception) -> None:
    responses.patch(URL, body=failure)
    with pytest.raises(OutcomeUnknown):
        make_transport(clock).write("PATCH", "accounts", operation="patch")
    assert len(responses.calls) == 1


@responses.activate
def test_a_write_that_never_left_is_sent_again(clock: FakeClock) -> None:
    responses.patch(URL, body=no_connection())
    responses.patch(URL, body=requests.ConnectTimeout())
    responses.patch(URL, status=204)
    assert make_transport(clock).write("PATCH", "accounts", operation="patch").status == 204


@responses.activate
def test_a_write_that_can_never_leave_is_transient(clock: FakeClock) -> None:
    responses.patch(URL, body=no_connection())
    with pytest.raises(Transient):
        make_transport(clock).write("PATCH", "accounts", operation="patch")
    assert len(responses.calls) == 5


@responses.activate
@pytest.mark.parametrize("method", ["read", "write"])
def test_a_certificate_that_is_not_trusted_is_said_at_once(clock: FakeClock, method: str) -> None:
    responses.add("PATCH", URL, body=untrusted())
    with pytest.raises(Transient, match="certificate") as caught:
        getattr(make_transport(clock), method)("PATCH", "accounts", operation="x")
    assert "ca_bundle" in str(caught.value.hint)
    assert len(responses.calls) == 1


@responses.activate
def test_a_throttled_write_waits_as_long_as_asked_and_is_sent_again(clock: FakeClock) -> None:
    responses.patch(URL, status=429, headers={"Retry-After": "37"})
    responses.patch(URL, status=204)
    make_transport(clock).write("PATCH", "accounts", operation="patch")
    assert sum(clock.slept) >= 37
    assert len(responses.calls) == 2


@responses.activate
def test_after_a_429_nobody_who_shares_the_gate_sends_before_the_time(clock: FakeClock) -> None:
    responses.get(URL, status=429, headers={"Retry-After": "60"})
    responses.get(f"{API}/contacts", json={})
    gate = RateGate(clock)
    first = make_transport(clock, gate=gate, settings=TransportSettings(attempts=1))
    with pytest.raises(Transient) as caught:
        first.read("GET", "accounts", operation="list")
    assert caught.value.retry_after == 60
    make_transport(clock, gate=gate).read("GET", "contacts", operation="list")
    assert clock.time >= START + timedelta(seconds=60)


@responses.activate
def test_no_wait_passes_the_deadline_of_the_run(clock: FakeClock) -> None:
    responses.get(URL, status=429, headers={"Retry-After": "120"})
    transport = make_transport(clock, stop_before=START + timedelta(seconds=100))
    with pytest.raises(Transient) as caught:
        transport.read("GET", "accounts", operation="list")
    assert caught.value.retry_after == 120
    with pytest.raises(Transient, match="deadline"):
        transport.read("GET", "accounts", operation="list")
    assert clock.slept == []
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize("method", ["read", "write"])
def test_a_401_gets_one_fresh_token_and_then_ends_the_run(clock: FakeClock, method: str) -> None:
    responses.add("PATCH", URL, status=401)
    with pytest.raises(AuthError):
        getattr(make_transport(clock), method)("PATCH", "accounts", operation="x")
    assert [call.request.headers["Authorization"] for call in responses.calls] == ["Bearer token-1", "Bearer token-2"]


@responses.activate
def test_a_write_after_a_fresh_token_succeeds(clock: FakeClock) -> None:
    responses.patch(URL, status=401)
    responses.patch(URL, status=204)
    assert make_transport(clock).write("PATCH", "accounts", operation="x").status == 204


@responses.activate
def test_a_sign_in_service_that_is_busy_is_waited_for_before_anything_is_sent(clock: FakeClock) -> None:
    class Busy(FakeTokens):
        def token(self) -> str:
            if clock.time < START + timedelta(seconds=30):
                raise Transient("busy", service="sign_in", operation="token", retry_after=30)
            return super().token()

    responses.patch(URL, status=204)
    assert make_transport(clock, auth=Busy()).write("PATCH", "accounts", operation="x").status == 204
    assert len(responses.calls) == 1


@responses.activate
def test_a_service_may_give_its_own_meaning_to_a_code(clock: FakeClock) -> None:
    responses.patch(URL, status=403, json={"code": 800067, "description": "max seats"})
    transport = make_transport(
        clock,
        parse_error=lambda status, body: (str(json.loads(body)["code"]), json.loads(body)["description"]),
        classify=lambda status, code: Rejected if (status, code) == (403, "800067") else None,
    )
    with pytest.raises(Rejected, match="max seats"):
        transport.write("PATCH", "accounts", operation="x")


@responses.activate
def test_a_write_that_the_service_calls_transient_is_still_not_sent_again(clock: FakeClock) -> None:
    responses.patch(URL, status=409)
    transport = make_transport(clock, classify=lambda status, code: Transient)
    with pytest.raises(Transient):
        transport.write("PATCH", "accounts", operation="x")
    assert len(responses.calls) == 1


@responses.activate
def test_a_read_whose_body_fails_the_check_is_repeated(clock: FakeClock) -> None:
    responses.get(URL, body='{"value": [')
    responses.get(URL, json={"value": []})

    def check(answer: Answer) -> None:
        answer.json()

    assert make_transport(clock).read("GET", "accounts", operation="list", check=check).json() == {"value": []}
    responses.get(URL, body="nonsense")
    responses.remove("GET", URL)
    responses.get(URL, body="nonsense")
    with pytest.raises(ProtocolError):
        make_transport(clock).read("GET", "accounts", operation="list", check=check)


@responses.activate
def test_an_answer_beyond_the_cap_is_cut_off_even_when_it_is_small_on_the_wire(clock: FakeClock) -> None:
    bomb = gzip.compress(b"0" * 5_000_000)
    assert len(bomb) < 10_000
    responses.add("PATCH", URL, body=bomb, headers={"Content-Encoding": "gzip"})
    transport = make_transport(clock, settings=TransportSettings(max_bytes=100_000))
    with pytest.raises(ProtocolError, match="100000"):
        transport.read("PATCH", "accounts", operation="x")
    with pytest.raises(OutcomeUnknown):
        transport.write("PATCH", "accounts", operation="x")
    assert len(responses.calls) == 2


@responses.activate
def test_a_link_to_another_host_is_refused_before_anything_is_sent(clock: FakeClock) -> None:
    with pytest.raises(ProtocolError):
        make_transport(clock).read("GET", "https://evil.example/api/data/v9.2/x", operation="follow")
    assert len(responses.calls) == 0


@responses.activate
def test_a_link_goes_out_byte_for_byte(clock: FakeClock) -> None:
    seen: list[str | None] = []

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        seen.append(request.url)
        return 200, {}, "{}"

    link = f"{URL}?$skiptoken=%3ccookie%2Dx%20pagenumber=%222%22%7E"
    responses.add_callback("GET", URL, callback=answer)
    make_transport(clock).read("GET", link, operation="follow")
    assert seen == [link]


@responses.activate
def test_a_netrc_entry_cannot_replace_the_token(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine contoso.crm.dynamics.com login eve password mallory\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    responses.get(URL, json={})
    make_transport(clock).read("GET", "accounts", operation="list")
    assert responses.calls[0].request.headers["Authorization"] == "Bearer token-1"


@responses.activate
def test_cookies_are_never_kept(clock: FakeClock) -> None:
    responses.get(URL, json={}, headers={"Set-Cookie": "ARRAffinity=abc; path=/"})
    transport = make_transport(clock)
    transport.read("GET", "accounts", operation="list")
    transport.read("GET", "accounts", operation="list")
    assert "Cookie" not in responses.calls[1].request.headers


@responses.activate
def test_logs_hold_no_query_body_or_token(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="connector")
    responses.patch(URL, status=503, body="planted-answer", headers={"Retry-After": "1"})
    with pytest.raises(OutcomeUnknown):
        make_transport(clock).write("PATCH", "accounts?$filter=planted-query", operation="x", body=b"planted-body")
    record = next(record for record in caplog.records if getattr(record, "event", "") == "http.request")
    assert (record.__dict__["path"], record.__dict__["status"]) == ("/api/data/v9.2/accounts", 503)
    assert not any(word in str(record.__dict__) for record in caplog.records for word in ("planted", "token-1"))


def test_every_listed_status_keeps_its_meaning_and_the_rest_fails_closed() -> None:
    for status in range(100, 600):
        read, write = meaning_of_read(status), meaning_of_write(status)
        if 200 <= status < 300:
            assert read.error is None and write.error is None
            continue
        assert read.error is not None and write.error is not None
        assert read.error is not OutcomeUnknown
        assert not write.repeat or status == 429
        if status not in READ_MEANINGS:
            assert read.error is ProtocolError and not read.repeat
        if status not in WRITE_MEANINGS and not 400 <= status < 500:
            assert write.error is OutcomeUnknown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("37", 37.0),
        (" 2.5 ", 2.5),
        ("Mon, 02 Mar 2026 14:01:00 GMT", 60.0),
        ("Mon, 02 Mar 2026 13:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("999999999", 900.0),
        ("inf", 900.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_understood_in_every_form(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, START, 900.0) == seconds


@responses.activate
def test_headers_of_the_caller_win_over_generated_ids(clock: FakeClock) -> None:
    responses.patch(URL, status=204)
    transport = make_transport(clock, correlation_header="MS-CorrelationId")
    sent: dict[str, Any] = {"MS-CorrelationId": "mine", "MS-RequestId": "req"}
    transport.write("PATCH", "accounts", operation="x", headers=sent)
    assert responses.calls[0].request.headers["MS-CorrelationId"] == "mine"
