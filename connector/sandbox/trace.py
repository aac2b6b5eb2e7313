"""What every client asked, in order: the evidence that tests and people look at after a run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from connector.sandbox.wire import Request, Response

_NEVER_KEPT = {"authorization", "cookie", "proxy-authorization"}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One request. ``status`` is None when it was not answered; ``applied`` counts the writes that took effect."""

    number: int
    at: str
    service: str
    method: str
    path: str
    query: str
    status: int | None
    request_id: str | None
    write: bool
    applied: int
    fault: str | None
    headers: Mapping[str, str]


class Trace:
    """A bounded list of requests (the newest are kept) and running totals that are never cut. Thread-safe."""

    def __init__(self, capacity: int = 200_000) -> None:
        self._entries: deque[TraceEntry] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._number = 0
        self._write_requests: dict[str, int] = {}
        self._applied: dict[str, int] = {}

    def record(
        self,
        *,
        at: str,
        service: str,
        request: Request,
        status: int | None,
        applied: int,
        fault: str | None,
    ) -> TraceEntry:
        """Append one request; credentials are left out here and so stand nowhere."""
        with self._lock:
            self._number += 1
            entry = TraceEntry(
                number=self._number,
                at=at,
                service=service,
                method=request.method,
                path=request.path,
                query=request.query,
                status=status,
                request_id=request.header("ms-requestid"),
                write=service != "sign_in" and is_write(request),
                applied=applied,
                fault=fault,
                headers={key: value for key, value in request.headers.items() if key not in _NEVER_KEPT},
            )
            self._entries.append(entry)
            if entry.applied:
                self._applied[service] = self._applied.get(service, 0) + applied
                self._write_requests[service] = self._write_requests.get(service, 0) + 1
            return entry

    def entries(self, service: str | None = None) -> list[TraceEntry]:
        """The requests kept, oldest first; of one service or of all."""
        with self._lock:
            return [entry for entry in self._entries if service is None or entry.service == service]

    def applied(self, service: str) -> int:
        """Write operations of clients that took effect, since the world began."""
        return self._applied.get(service, 0)

    def write_requests(self, service: str) -> int:
        """Requests in which at least one write took effect, since the world began."""
        return self._write_requests.get(service, 0)

    def to_json(self) -> list[dict[str, object]]:
        """Plain values for ``json.dumps``."""
        return [asdict(entry) for entry in self.entries()]


def is_write(request: Request) -> bool:
    """Whether a request asks for a change. A batch does only if it holds a part that is not a GET."""
    if request.method.upper() in _SAFE:
        return False
    if request.path.rstrip("/").endswith("/$batch"):
        return any(method not in _SAFE for method, _ in batch_parts(request.body))
    return True


def batch_parts(body: bytes) -> Iterable[tuple[str, str]]:
    """Method and target of every HTTP request in a multipart body."""
    for line in body.split(b"\n"):
        method, _, rest = line.strip().partition(b" ")
        if method in _METHODS and b" HTTP/1." in rest:
            yield method.decode("ascii"), rest.split(b" HTTP/1.")[0].strip().decode("utf-8", "replace")


def applied_writes(request: Request, response: Response, *, cut: bool = False) -> int:
    """How many write operations of a Dataverse request took effect, judged by its answer.

    ``cut``: the batch was carried out in part only, so what lies behind the last answer counts for nothing.
    """
    if not is_write(request):
        return 0
    if not request.path.rstrip("/").endswith("/$batch"):
        return 1 if 200 <= response.status < 300 else 0
    reads = [method in _SAFE for method, _ in batch_parts(request.body)]
    done = [status in _DONE for line in response.body.split(b"\n") if (status := _inner_status(line))]
    if cut:
        reads = reads[: len(done)]
    if len(reads) == len(done):
        return sum(ok and not read for read, ok in zip(reads, done, strict=True))
    # A change set that failed answers once for all of its parts, a batch that stopped says nothing of the rest.
    return max(0, sum(done) - sum(reads))


_METHODS = frozenset({b"GET", b"POST", b"PATCH", b"PUT", b"DELETE"})
_DONE = frozenset({b"200", b"201", b"204"})


def _inner_status(line: bytes) -> bytes:
    return line[9:12] if line.startswith(b"HTTP/1.1 ") else b""
