"""The MIME of ``$batch``: strict where the service is strict, down to CRLF at the end of every line.

Sources: "Execute batch operations using the Web API", "Dataverse Web API client errors" (line feeds alone are refused).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise

from connector.sandbox.dataverse.errors import PAYLOAD_ERROR, ODataError, bad_payload
from connector.sandbox.wire import Response

MAX_REQUESTS = 1000
_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)"?', re.IGNORECASE)
_ENTITY_SET = re.compile(rb"/api/data/v[\d.]+/(\w+)")


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a batch: ``address`` as written, header names in lower case, ``content_id`` in change sets."""

    method: str
    address: str
    headers: Mapping[str, str]
    body: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Requests that succeed or fail together."""

    parts: tuple[Part, ...]


def parse_batch(content_type: str, body: bytes) -> list[Part | ChangeSet]:
    """Read a batch. Raises ODataError (400) for anything that is not exactly as it should be."""
    items: list[Part | ChangeSet] = []
    for text in _pieces(content_type, body, body, outermost=True):
        headers, content = _headers(text, body)
        kind = headers.get("content-type", "")
        if kind.lower().startswith("multipart/mixed"):
            items.append(ChangeSet(tuple(_part(piece, body) for piece in _pieces(kind, content, body))))
        else:
            items.append(_part(text, body))
    if sum(len(item.parts) if isinstance(item, ChangeSet) else 1 for item in items) > MAX_REQUESTS:
        raise _malformed(f"The current batch message contains more than {MAX_REQUESTS} requests, which is the maximum.")
    return items


def rendered(boundary: str, pieces: Iterable[bytes]) -> bytes:
    """A multipart body of pieces that carry their own headers."""
    mark = b"--" + boundary.encode("ascii")
    return b"".join(mark + b"\r\n" + piece + b"\r\n" for piece in pieces) + mark + b"--\r\n"


def rendered_answer(response: Response, *, content_id: str | None = None) -> bytes:
    """An answer as a part of a batch's answer. JSON is written in ASCII: the parts carry no character set."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    body = response.body
    if (response.header("Content-Type") or "").startswith("application/json") and body:
        body = json.dumps(json.loads(body)).encode("ascii")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def rendered_set(boundary: str, pieces: Iterable[bytes]) -> bytes:
    """A change set's answers as one part of a batch's answer."""
    head = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode("ascii")
    return head + rendered(boundary, pieces).removesuffix(b"\r\n")


def _malformed(message: str) -> ODataError:
    return ODataError(400, PAYLOAD_ERROR, message)


def _unreadable(whole: bytes) -> ODataError:
    found = _ENTITY_SET.search(whole)
    return bad_payload(found[1].decode("ascii") if found else "", "System.ArgumentException: Stream was not readable.")


def _pieces(content_type: str, body: bytes, whole: bytes, *, outermost: bool = False) -> list[bytes]:
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise _malformed("The content-type header of a batch must name its boundary.")
    mark = b"--" + match[1].encode("ascii", "replace")
    if b"\n" + mark in body.replace(b"\r\n" + mark, b"") or body.startswith(mark + b"\n"):
        raise _unreadable(whole)
    lines = body.split(b"\r\n")
    at = [position for position, line in enumerate(lines) if line.rstrip(b" \t") in (mark, mark + b"--")]
    if not at or lines[at[-1]].rstrip(b" \t") != mark + b"--" or (outermost and at[-1] == len(lines) - 1):
        raise _unreadable(whole)
    return [b"\r\n".join(lines[start + 1 : end]) for start, end in pairwise(at)]


def _headers(text: bytes, whole: bytes) -> tuple[dict[str, str], bytes]:
    lines = text.split(b"\r\n")
    if b"" not in lines:
        raise _unreadable(whole)
    end = lines.index(b"")
    found = {}
    for line in lines[:end]:
        if b"\n" in line or b":" not in line:
            raise _unreadable(whole)
        name, _, value = line.decode("utf-8", "replace").partition(":")
        found[name.strip().lower()] = value.strip()
    return found, b"\r\n".join(lines[end + 1 :])


def _part(text: bytes, whole: bytes) -> Part:
    outer, content = _headers(text, whole)
    if not outer.get("content-type", "").lower().startswith("application/http"):
        raise _malformed("The media type of a part of a batch must be 'application/http' or 'multipart/mixed'.")
    first, line_end, rest = content.partition(b"\r\n")
    line = first.decode("utf-8", "replace")
    method, _, behind = line.partition(" ")
    address, _, version = behind.rpartition(" ")
    if not line_end or not method.isalpha() or not address or not version.startswith("HTTP/") or "\n" in line:
        raise _unreadable(whole)
    headers, body = _headers(rest, whole)
    if address.split("?")[0].rstrip("/").endswith("/$batch") or address.startswith("$batch"):
        raise _malformed("A batch cannot hold another batch.")
    return Part(method.upper(), address.strip(), headers, body, outer.get("content-id") or headers.get("content-id"))
