"""One call as the service understands it: the address in segments, the query options and the preferences.

Sources: Microsoft's "Query data using the Web API", "Compose HTTP requests", "Use alternate keys to reference rows".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from connector.sandbox.dataverse.errors import bad_payload, bad_uri, no_resource

BASE = re.compile(r"/api/data/v9\.\d+(?=/|$)", re.IGNORECASE)
MAX_URL = 32_768
MAX_URL_IN_BATCH = 65_536
MAX_SEGMENT = 260
KEY_TROUBLE = frozenset("/<>*%&:\\?+")
_QUERY_OPTIONS = frozenset(
    {"$select", "$expand", "$filter", "$orderby", "$apply", "$top", "$count", "$skiptoken", "$deltatoken"}
)
_REFUSED = frozenset({"$skip", "$search", "$format"})
_PREFERENCE = re.compile(r'([\w.\-]+)\s*(?:=\s*("[^"]*"|[^,;]*))?')
_KEY_PART = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*('(?:[^']|'')*'|[^,']*)\s*(?:,|$)")
GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a path: its name and what stands in parentheses behind it, without them (None: no parentheses)."""

    name: str
    key: str | None = None

    def parts(self) -> Mapping[str, str] | None:
        """A key of named parts as texts without quotes; None when the key is no such thing."""
        text, found, at = self.key or "", {}, 0
        while at < len(text):
            match = _KEY_PART.match(text, at)
            if match is None:
                return None
            value = match[2]
            found[match[1]] = value[1:-1].replace("''", "'") if value.startswith("'") else value
            at = match.end()
        return found or None


@dataclass(frozen=True)
class Preferences:
    """What the ``Prefer`` header asks for."""

    asked: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, header: str | None) -> Preferences:
        """Read a header that may hold several preferences, separated by commas."""
        found = {match[1].lower(): (match[2] or "").strip().strip('"') for match in _PREFERENCE.finditer(header or "")}
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self.asked

    @property
    def page_size(self) -> int | None:
        """Rows per page as asked for; what is no positive number is not asked for."""
        text = self.asked.get("odata.maxpagesize", "")
        return int(text) if text.isdigit() and int(text) > 0 else None

    @property
    def representation(self) -> bool:
        """Whether a write is to be answered with the row."""
        return self.asked.get("return") == "representation"

    @property
    def annotations(self) -> str:
        """The annotations asked for, as written; empty when none."""
        return self.asked.get("odata.include-annotations", "")

    def annotated(self, name: str) -> bool:
        """Whether an annotation was asked for: by name, by ``*`` or by a prefix (``OData.*``)."""
        patterns = [pattern.strip() for pattern in self.annotations.split(",") if pattern.strip()]
        for pattern in patterns:
            if pattern == "*" or pattern == name or (pattern.endswith(".*") and name.startswith(pattern[:-1])):
                return "-" + name not in patterns
        return False

    def applied(self, *names: str) -> tuple[tuple[str, str], ...]:
        """The ``Preference-Applied`` header for those of the names that were asked for, in the order of the names."""
        tokens = []
        for name in names:
            if name in self.asked:
                value = self.asked[name]
                quoted = f'"{value}"' if name == "odata.include-annotations" else value
                tokens.append(f"{name}={quoted}" if value else name)
        return (("Preference-Applied", ",".join(tokens)),) if tokens else ()


@dataclass(frozen=True)
class Call:
    """A method on an address, with headers (lower-case names) and a body. ``root`` ends with a slash."""

    method: str
    root: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    in_batch: bool = False
    references: Mapping[str, str] = field(default_factory=dict)
    """In a change set: the address of the row that an earlier part (``$1``) made or changed."""

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The path behind the service root. Raises ODataError (400 for what IIS does not let through)."""
        found = []
        for text in _split(self.path):
            if len(text) > MAX_SEGMENT:
                raise bad_uri("The length of a path segment exceeds 260 characters.")
            found.append(_segment(text))
        return tuple(found)

    @cached_property
    def options(self) -> Mapping[str, str]:
        """Query options by name, decoded (``+`` is a space); aliases (``@p1``) among them. Raises ODataError."""
        found: dict[str, str] = {}
        for pair in self.query.split("&"):
            name, _, value = pair.partition("=")
            if name:
                found[unquote_plus(name)] = unquote_plus(value)
        for name in found:
            if name in _REFUSED:
                raise bad_uri(f"The query option '{name}' isn't supported.")
            if name.startswith("$") and name not in _QUERY_OPTIONS:
                raise bad_uri(f"The query parameter '{name}' is not supported.")
        return found

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Parameter aliases, such as ``@p1``."""
        return {name: value for name, value in self.options.items() if name.startswith("@")}

    @cached_property
    def preferences(self) -> Preferences:
        """The ``Prefer`` header."""
        return Preferences.parse(self.headers.get("prefer"))

    @property
    def if_match(self) -> str | None:
        """The ``If-Match`` header."""
        return self.headers.get("if-match")

    @property
    def if_none_match(self) -> str | None:
        """The ``If-None-Match`` header; the documented ``null`` means that there is none."""
        value = self.headers.get("if-none-match")
        return None if value is None or value.strip().lower() == "null" else value.strip()

    @property
    def address(self) -> str:
        """The whole address."""
        return self.root + self.path + (f"?{self.query}" if self.query else "")

    def document(self, table: str) -> dict[str, Any]:
        """The body as a JSON object. Raises ODataError (400)."""
        try:
            document = json.loads(self.body.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError) as wrong:
            raise bad_payload(table, f"Microsoft.OData.ODataException: Invalid JSON. {wrong}") from wrong
        if not isinstance(document, dict):
            raise bad_payload(table, "Microsoft.OData.ODataException: A JSON object was expected.")
        return document

    def link(self, **options: str) -> str:
        """This call's address with query options put in or replaced; their values are encoded already."""
        kept = [
            pair
            for pair in self.query.split("&")
            if pair and unquote_plus(pair.partition("=")[0]) not in {f"${name}" for name in options}
        ]
        pairs = kept + [f"${name}={value}" for name, value in options.items() if value]
        return (self.root + self.path + "?" + "&".join(pairs)).replace(" ", "%20")


def split_address(address: str, root: str, *, origin: str) -> tuple[str, str]:
    """Path behind the service root and query of an address, absolute or not, whose spaces need not be encoded.

    Raises ODataError (404) for an address outside the service.
    """
    text = address.replace(" ", "%20")
    if text.startswith("$"):
        text = "/" + text
    elif "://" not in text and not text.startswith("/"):
        text = urlsplit(root).path + text
    parts = urlsplit(text)
    if parts.scheme and f"{parts.scheme}://{parts.netloc}".lower() != origin.lower():
        raise no_resource(address)
    match = BASE.match(parts.path)
    path = parts.path[match.end() :] if match else parts.path if parts.path.startswith("/$") else None
    if path is None:
        raise no_resource(address)
    return path.lstrip("/"), parts.query


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _split(path: str) -> list[str]:
    """Parts between slashes, those inside quotes or parentheses left alone."""
    parts, start, depth, quoted = [], 0, 0, False
    for match in re.finditer(r"%27|'|%28|\(|%29|\)|/", path):
        token = match[0]
        if token in ("'", "%27"):
            quoted = not quoted
        elif quoted:
            continue
        elif token in ("(", "%28"):
            depth += 1
        elif token in (")", "%29"):
            depth -= 1
        elif depth == 0:
            parts.append(path[start : match.start()])
            start = match.end()
    return [part for part in [*parts, path[start:]] if part]


def _segment(text: str) -> Segment:
    decoded = unquote(text)
    name, bracket, rest = decoded.partition("(")
    if not bracket:
        return Segment(decoded)
    if not rest.endswith(")"):
        raise bad_uri(f"Bad Request - Error in query syntax: '{decoded}'.")
    return Segment(name, rest[:-1])
