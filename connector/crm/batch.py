"""``$batch``: many requests in one, as ``multipart/mixed`` with CRLF, built and read back without trust.

Source: Microsoft docs, "Execute batch operations using the Web API". Every part is parsed; what is missing or cut short
raises :class:`BatchDamaged`, and the caller decides what that means (a read is repeated, a write is unknown).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any
from uuid import uuid4

CRLF = b"\r\n"
_FIRST_BREAK = re.compile(rb"^\r?\n")
MAX_PARTS = 1000
"""What Dataverse takes in one batch."""


class BatchDamaged(Exception):
    """The multipart answer cannot be read to its end, or does not fit the request."""


@dataclass(frozen=True, slots=True)
class Part:
    """One inner answer; ``in_change_set`` if it came nested in a change set."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    in_change_set: bool = False

    def json(self) -> Any:
        """The body as JSON. Raises BatchDamaged."""
        try:
            return json.loads(self.body.decode("utf-8-sig"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise BatchDamaged(f"an inner answer with status {self.status} is not JSON") from error


@dataclass(frozen=True, slots=True)
class Change:
    """One conditional PATCH: ``path`` as in a request line, ``etag`` for If-Match, ``values`` by logical name."""

    path: str
    etag: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Creation:
    """A PATCH that makes the row that ``path`` names and never changes one: if it is there, the change set fails."""

    path: str
    values: Mapping[str, object] = field(default_factory=dict)


def new_boundary(kind: str) -> str:
    """A boundary that no JSON body can contain by accident."""
    return f"{kind}_{uuid4()}"


def build_reads(paths: Sequence[str], boundary: str, headers: Mapping[str, str]) -> bytes:
    """The body of a batch of GETs; ``headers`` go into every inner request. At most 1000."""
    if len(paths) > MAX_PARTS:
        raise ValueError("a batch takes at most 1000 requests")
    return CRLF.join([*_gets(paths, boundary, headers), f"--{boundary}--".encode(), b""])


def build_change_set(
    changes: Sequence[Change | Creation],
    boundary: str,
    inner_boundary: str,
    reads: Sequence[str] = (),
    read_headers: Mapping[str, str] | None = None,
) -> bytes:
    """The body of a batch: one change set of conditional PATCHes in the given order, then GETs. At most 1000 together."""
    if len(changes) + len(reads) > MAX_PARTS:
        raise ValueError("a batch takes at most 1000 requests")
    lines = [f"--{boundary}".encode(), f'Content-Type: multipart/mixed; boundary="{inner_boundary}"'.encode(), b""]
    for number, change in enumerate(changes, start=1):
        lines += [
            f"--{inner_boundary}".encode(),
            b"Content-Type: application/http",
            b"Content-Transfer-Encoding: binary",
            f"Content-ID: {number}".encode(),
            b"",
            f"PATCH {change.path} HTTP/1.1".encode("ascii"),
            b"Content-Type: application/json; type=entry",
            (f"If-Match: {change.etag}" if isinstance(change, Change) else "If-None-Match: *").encode("ascii"),
            b"",
            json.dumps(change.values, ensure_ascii=True).encode("ascii"),
        ]
    lines.append(f"--{inner_boundary}--".encode())
    return CRLF.join([*lines, *_gets(reads, boundary, read_headers or {}), f"--{boundary}--".encode(), b""])


def _gets(paths: Sequence[str], boundary: str, headers: Mapping[str, str]) -> list[bytes]:
    lines: list[bytes] = []
    for path in paths:
        lines += [
            f"--{boundary}".encode(),
            b"Content-Type: application/http",
            b"Content-Transfer-Encoding: binary",
            b"",
            f"GET {path} HTTP/1.1".encode("ascii"),
            *(f"{name}: {value}".encode("ascii") for name, value in headers.items()),
            # A request without a body still needs the empty line that ends its headers.
            b"",
            b"",
        ]
    return lines


def boundary_of(content_type: str) -> str | None:
    """The boundary of a ``multipart/mixed`` content type, quoted or not; None for anything else."""
    if not content_type.strip().lower().startswith("multipart/mixed"):
        return None
    match = re.search(r';\s*boundary="?([^";]+)"?', content_type, re.IGNORECASE)
    return match[1].strip() if match else None


def parse_batch(content_type: str, body: bytes) -> list[Part]:
    """All inner answers in order, change sets flattened. Raises BatchDamaged."""
    boundary = boundary_of(content_type)
    if boundary is None:
        raise BatchDamaged("the answer is not multipart/mixed or names no boundary")
    parts: list[Part] = []
    for headers, content in _split(body, boundary):
        parts += _item(headers, content)
    return parts


def parse_leading(content_type: str, body: bytes) -> list[Part]:
    """The inner answers from the first up to where the body is damaged or cut short; those are whole.

    A change set's answers have an end of their own, so they count even where the body ends right behind them.
    """
    boundary = boundary_of(content_type)
    if boundary is None:
        raise BatchDamaged("the answer is not multipart/mixed or names no boundary")
    parts: list[Part] = []
    marks = list(_delimiter(boundary).finditer(body))
    for mark, following in zip_longest(marks, marks[1:]):
        if mark[1] is not None:
            break
        content = body[mark.end() : following.start() if following is not None else len(body)]
        try:
            found = _item(*_headers(_FIRST_BREAK.sub(b"", content, count=1)))
        except BatchDamaged:
            break
        if following is None and not all(part.in_change_set for part in found):
            break
        parts += found
    return parts


def split_set(parts: Sequence[Part], changes: int, *, reads: bool) -> tuple[Part | None, Sequence[Part]]:
    """(what failed the change set, the answers behind it). Raises BatchDamaged when its outcome cannot be seen.

    A set that failed is answered by what failed, nested in a set or not; one that succeeded by an answer to each change.
    """
    nested = [part for part in parts if part.in_change_set]
    own = nested or list(parts[:changes])
    following = parts[len(own) :]
    failed = next((part for part in own if part.status >= 400), None)
    if failed is not None:
        return failed, following
    # Outside a set only the statuses of a write count: the answer to a read must not be taken for one.
    done = all(200 <= part.status < 300 if nested else part.status in (201, 204) for part in own)
    if len(own) != changes or not done or (following and not reads) or list(parts[: len(own)]) != own:
        raise BatchDamaged(f"{len(own) if reads else len(parts)} answers to {changes} changes")
    return None, following


def _item(headers: Mapping[str, str], content: bytes) -> list[Part]:
    kind = headers.get("content-type", "")
    inner = boundary_of(kind)
    if inner is not None:
        return [
            _answer(inner_headers, inner_content, in_change_set=True)
            for inner_headers, inner_content in _split(content, inner)
        ]
    if kind.lower().startswith("application/http"):
        return [_answer(headers, content, in_change_set=False)]
    raise BatchDamaged("a part is neither an answer nor a change set")


def _delimiter(boundary: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary.encode("latin-1")) + rb"(--)?[ \t]*(?=\r?\n|$)")


def _split(body: bytes, boundary: str) -> list[tuple[dict[str, str], bytes]]:
    """(headers, content) of each part between the boundaries; the closing one must be there."""
    marks = list(_delimiter(boundary).finditer(body))
    if not marks or marks[-1][1] is None or any(mark[1] is not None for mark in marks[:-1]):
        raise BatchDamaged("the answer ends before its closing boundary")
    parts = []
    for mark, following in pairwise(marks):
        content = body[mark.end() : following.start()]
        parts.append(_headers(_FIRST_BREAK.sub(b"", content, count=1)))
    return parts


def _headers(content: bytes) -> tuple[dict[str, str], bytes]:
    """Header lines (names lower-case) up to the empty line, and what follows it."""
    headers: dict[str, str] = {}
    rest = content
    while True:
        line, found, rest = rest.partition(b"\n")
        line = line.rstrip(b"\r")
        if not line:
            return headers, rest
        name, colon, value = line.partition(b":")
        if not colon or not found:
            raise BatchDamaged("a part's headers are cut short")
        headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()


def _answer(outer: Mapping[str, str], content: bytes, *, in_change_set: bool) -> Part:
    first, found, rest = content.partition(b"\n")
    match = re.match(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |\r|$)", first)
    if match is None or not found:
        raise BatchDamaged("a part holds no status line")
    headers, body = _headers(rest)
    length = headers.get("content-length", "")
    if length.isdigit() and len(body) < int(length):
        raise BatchDamaged("an inner answer is shorter than it says")
    return Part(int(match[1]), headers, body, in_change_set)
