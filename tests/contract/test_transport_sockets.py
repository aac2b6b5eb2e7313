"""What only a real connection shows: cut answers, redirects, refused connections, the observer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from connector.errors import OutcomeUnknown, ProtocolError, Transient
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import Transport, TransportSettings
from tests.contract.http_fakes import FakeClock, make_transport

Serve = Callable[[list[bytes]], tuple[str, list[bytes]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server on loopback that answers each connection with the next raw answer, then closes it."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def start(answers: list[bytes]) -> tuple[str, list[bytes]]:
        listener = socket.create_server(("127.0.0.1", 0))
        heard: list[bytes] = []

        def run() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        servers.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}", heard

    yield start
    for listener, thread in servers:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def transport_to(url: str, clock: FakeClock, **more: Any) -> Transport:
    return make_transport(clock, origin=Origin(url, allow_http_on_loopback=True), **more)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\nConnection: close\r\n\r\n{"
CUT_CHUNK = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{"a":\r\n'


@pytest.mark.parametrize("answer", [CUT, CUT_CHUNK, b""])
def test_a_cut_answer_is_repeated_for_a_read_and_unknown_for_a_write(serve: Serve, answer: bytes) -> None:
    url, heard = serve([answer, OK])
    assert transport_to(url, FakeClock()).read("GET", "x", operation="read").json() == {}
    assert len(heard) == 2
    url, heard = serve([answer, OK])
    with pytest.raises(OutcomeUnknown):
        transport_to(url, FakeClock()).write("PATCH", "x", operation="write", body=b"{}")
    assert len(heard) == 1


def test_a_refused_connection_is_known_not_to_have_sent_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    clock = FakeClock()
    with pytest.raises(Transient, match="cannot be reached"):
        transport_to(f"http://127.0.0.1:{port}", clock).write("PATCH", "x", operation="write")
    assert len(clock.slept) == 4


def test_a_redirect_is_not_followed_and_the_other_server_never_hears_of_it(serve: Serve) -> None:
    other, heard_by_other = serve([OK])
    redirect = f"HTTP/1.1 302 Found\r\nLocation: {other}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    url, _ = serve([redirect])
    with pytest.raises(ProtocolError):
        transport_to(url, FakeClock()).read("GET", "x", operation="read")
    assert heard_by_other == []


def test_an_answer_that_never_ends_is_given_up_at_the_cap(serve: Serve) -> None:
    url, _ = serve([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000])
    with pytest.raises(ProtocolError, match="more than 100000 bytes"):
        transport_to(url, FakeClock(), settings=TransportSettings(max_bytes=100_000)).read("GET", "x", operation="read")


def test_the_observer_sees_each_exchange_and_may_end_the_process_there(serve: Serve) -> None:
    class Crash(BaseException):
        pass

    class CrashAfterFirst:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def before(self, request: requests.PreparedRequest) -> None:
            self.seen.append(f"before {request.method}")

        def after(self, response: requests.Response) -> None:
            self.seen.append(f"after {response.status_code}")
            raise Crash

    url, heard = serve([OK])
    observer = CrashAfterFirst()
    clock = FakeClock()
    transport = transport_to(url, clock, session=make_session(observer=observer))
    with pytest.raises(Crash):
        transport.read("GET", "x", operation="read")
    assert observer.seen == ["before GET", "after 200"]
    assert len(heard) == 1
