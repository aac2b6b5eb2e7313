"""The sandbox on the network: three loopback TLS listeners, and a small control endpoint for people and tests."""

from __future__ import annotations

import contextlib
import http
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import trustme

from connector.sandbox.actions import ActionError
from connector.sandbox.app import Sandbox
from connector.sandbox.clock import wire_instant
from connector.sandbox.faults import Dropped
from connector.sandbox.scenario import ScenarioError, build_step
from connector.sandbox.store import PluginError, StoreError
from connector.sandbox.wire import Request, Response, json_response

CONTROL = "/__sandbox__/"
SERVICES = ("dataverse", "partner_center", "sign_in")
IDLE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the sandbox listens and how to sign in. ``ca_bundle`` is a PEM file: the authority of its certificates."""

    dataverse: str
    partner_center: str
    sign_in: str
    tenant: str
    client_id: str
    client_secret: str
    ca_bundle: str

    def to_json(self) -> dict[str, str]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


class SandboxServer:
    """Serves a sandbox on 127.0.0.1 while it is entered as a context manager, or from start() to stop()."""

    def __init__(self, sandbox: Sandbox, *, ports: dict[str, int] | None = None) -> None:
        self.sandbox = sandbox
        self.crashes: list[str] = []
        """Errors of the sandbox itself, one line each. Anything in here is a bug of the sandbox."""
        self._ports = ports or {}
        self._listeners: list[_Listener] = []
        self._threads: list[threading.Thread] = []
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._endpoints: Endpoints | None = None

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens. Raises RuntimeError before it was started."""
        if self._endpoints is None:
            raise RuntimeError("the sandbox does not listen yet: start() it or enter it as a context manager")
        return self._endpoints

    def start(self) -> Endpoints:
        """Begin to listen; returns at once."""
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        certificate = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate.configure_cert(context)
        self._files = tempfile.TemporaryDirectory(prefix="linksub-sandbox-")
        bundle = Path(self._files.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        origins: dict[str, str] = {}
        for service in SERVICES:
            listener = _Listener(self, service, context, self._ports.get(service, 0))
            self._listeners.append(listener)
            origins[service] = f"https://127.0.0.1:{listener.server_port}"
            if service != "sign_in":
                audiences = self.sandbox.sign_in.audiences[service]
                audiences |= {origins[service], f"https://localhost:{listener.server_port}"}
        for listener in self._listeners:
            thread = threading.Thread(target=listener.serve_forever, args=(0.02,), name=listener.service, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._endpoints = Endpoints(
            dataverse=origins["dataverse"],
            partner_center=origins["partner_center"],
            sign_in=origins["sign_in"],
            tenant=self.sandbox.sign_in.tenant,
            client_id=self.sandbox.sign_in.client_id,
            client_secret=self.sandbox.sign_in.client_secret,
            ca_bundle=str(bundle),
        )
        return self._endpoints

    def stop(self) -> None:
        """Close every connection and listener. May be called twice."""
        for listener in self._listeners:
            listener.shutdown()
            listener.close_connections()
            listener.server_close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._listeners.clear()
        self._threads.clear()
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    def __enter__(self) -> SandboxServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, service: str, request: Request) -> Response | Dropped:
        """Answer one request; a mistake of the sandbox itself becomes a 500 that says so."""
        try:
            if service == "dataverse" and request.path.startswith(CONTROL):
                return self._control(request)
            return self.sandbox.handle(service, request)
        except Exception as error:  # noqa: BLE001 - a bug must reach the client and the test, not only a log
            text = f"{service} {request.method} {request.path}: {type(error).__name__}: {error}"
            self.crashes.append(text)
            return json_response(500, {"error": {"code": "sandbox", "message": f"the sandbox itself failed: {text}"}})

    def _control(self, request: Request) -> Response:
        what = (request.method, request.path.removeprefix(CONTROL).strip("/"))
        if what == ("GET", "trace"):
            return json_response(200, self.sandbox.trace.to_json())
        if what == ("GET", "world"):
            return json_response(200, self.sandbox.describe())
        try:
            if what == ("POST", "step"):
                return self._perform(request.json())
            if what == ("POST", "advance"):
                body = request.json() if request.body else {}
                return self._perform({"advance": body.get("by", "1m") if isinstance(body, dict) else body})
        except ValueError as error:
            return json_response(400, {"problems": [f"the body is not JSON: {error}"]})
        known = "GET trace, GET world, POST step, POST advance"
        return json_response(404, {"problems": [f"no such thing here; known under {CONTROL}: {known}"]})

    def _perform(self, document: Any) -> Response:
        try:
            self.sandbox.perform(build_step(document, self.sandbox.scenario))
        except ScenarioError as error:
            return json_response(400, {"problems": list(error.problems)})
        except (ActionError, PluginError, StoreError) as error:
            return json_response(409, {"problems": [str(error)]})
        return json_response(200, {"clock": wire_instant(self.sandbox.clock.now())})


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: SandboxServer, service: str, context: ssl.SSLContext, port: int) -> None:
        self.owner = owner
        self.service = service
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of the host's name, which may take seconds where there is no DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request.settimeout(IDLE_SECONDS)
        try:
            secured = self._context.wrap_socket(request, server_side=True)
        except (OSError, ValueError):
            return
        with self._lock:
            self._open.add(secured)
        try:
            super().finish_request(secured, client_address)
        finally:
            with self._lock:
                self._open.discard(secured)
            _close(secured)

    def close_connections(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what a sandbox is for: no word about them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower() or not length.isdigit():
            self.close_connection = True
            self._send(Response(411))
            return
        body = self.rfile.read(int(length))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host") or f"127.0.0.1:{self.server.server_port}"
        request = Request(self.command, path, query, headers, body, f"https://{host}")
        answer = self.server.owner.answer(self.server.service, request)
        if isinstance(answer, Dropped):
            self._drop(answer)
        else:
            self._send(answer)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def _drop(self, dropped: Dropped) -> None:
        self.close_connection = True
        if dropped.after:
            time.sleep(dropped.after)
        if dropped.partial is not None:
            head, body = self._bytes(dropped.partial)
            self.connection.sendall(head + body[: len(body) // 2])

    def _send(self, response: Response) -> None:
        head, body = self._bytes(response)
        self.connection.sendall(head if self.command == "HEAD" else head + body)

    def _bytes(self, response: Response) -> tuple[bytes, bytes]:
        try:
            phrase = http.HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Unknown"
        moment: datetime = self.server.owner.sandbox.clock.now()
        lines = [f"HTTP/1.1 {response.status} {phrase}", f"Date: {self.date_time_string(moment.timestamp())}"]
        lines += [f"{name}: {value}" for name, value in response.headers if name.lower() != "content-length"]
        if response.status not in (204, 304) or response.body:
            lines.append(f"Content-Length: {len(response.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"), response.body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """The trace is the log."""


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
