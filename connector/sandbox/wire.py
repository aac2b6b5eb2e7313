"""One HTTP message in, one out: all that the emulated services know of the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: ``path`` and ``query`` are still percent-encoded, header names are lower-case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    origin: str = ""
    """Scheme, host and port under which the service was reached, such as ``https://127.0.0.1:8443`` (for links)."""

    def header(self, name: str) -> str | None:
        """A header's value by name, without regard to case."""
        return self.headers.get(name.lower())

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body.decode("utf-8"))


@dataclass(frozen=True, slots=True)
class Response:
    """A response; ``headers`` keep their order and may repeat."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of a header, without regard to case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Service(Protocol):
    """One emulated service."""

    def handle(self, request: Request) -> Response:
        """Answer one request. Thread-safe."""


def json_response(
    status: int, payload: object, *headers: tuple[str, str], content_type: str = "application/json"
) -> Response:
    """A response with a JSON body in UTF-8."""
    body = json.dumps(payload, ensure_ascii=False).encode("utf-8")
    return Response(status, (("Content-Type", f"{content_type}; charset=utf-8"), *headers), body)
