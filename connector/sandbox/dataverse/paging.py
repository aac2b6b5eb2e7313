"""Page cookies: where the next page begins, in the shape that Dataverse gives its ``$skiptoken``.

A cookie names the columns of the order and the primary key with their values in the first and the last row of the page
("Page results"). Clients must follow it as it is; what stands in it is the service's own affair, so the state of a walk
over changes travels in it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape, unescape
from urllib.parse import quote, unquote

from connector.sandbox.dataverse.errors import bad_uri

_OUTER = re.compile(r'<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" istracking="(True|False)" ?/>', re.IGNORECASE)
_INNER = re.compile(r"<cookie ([^>]*)>(.*)</cookie>", re.DOTALL)
_ELEMENT = re.compile(r"<([\w]+) ([^>]*?) ?/>")
_ATTRIBUTE = re.compile(r'([\w]+)="([^"]*)"')


@dataclass(frozen=True)
class Cookie:
    """``page`` is the number of the page to come; ``last`` the last row's values by column (None: empty)."""

    page: int
    last: Mapping[str, str | None] = field(default_factory=dict)
    first: Mapping[str, str | None] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    tracking: bool = False

    def inner(self) -> str:
        """The inner cookie, as FetchXML's ``paging-cookie`` attribute takes it."""
        head = "".join(f' {name}="{escape(value)}"' for name, value in self.state.items())
        columns = "".join(
            f"<{name}{_shown('last', value)}{_shown('first', self.first.get(name))} />"
            for name, value in self.last.items()
        )
        return f'<cookie page="{self.page - 1}"{head}>{columns}</cookie>'

    def token(self) -> str:
        """The value of ``$skiptoken``, encoded for a link."""
        return quote(self._outer(lower_quote(self.inner())), safe="=/")

    def annotation(self) -> str:
        """The value of the FetchXML paging cookie annotation, whose inner cookie is encoded twice."""
        return self._outer(lower_quote(lower_quote(self.inner())))

    def _outer(self, inner: str) -> str:
        return f'<cookie pagenumber="{self.page}" pagingcookie="{inner}" istracking="{self.tracking}" />'


def parse_token(text: str) -> Cookie:
    """Read a ``$skiptoken`` that was decoded once. Raises ODataError (400)."""
    match = _OUTER.fullmatch(text.strip())
    if match is None:
        raise bad_uri("Malformed XML in the Paging Cookie.")
    return parse_inner(unquote(match[2]), page=int(match[1]), tracking=match[3].lower() == "true")


def parse_inner(text: str, *, page: int, tracking: bool = False) -> Cookie:
    """Read an inner cookie. Raises ODataError (400)."""
    match = _INNER.fullmatch(text.strip())
    if match is None:
        raise bad_uri("Malformed XML in the Paging Cookie.")
    state = {name: unescape(value) for name, value in _ATTRIBUTE.findall(match[1]) if name != "page"}
    last = {}
    for name, attributes in _ELEMENT.findall(match[2]):
        values = dict(_ATTRIBUTE.findall(attributes))
        last[name] = None if "lastnull" in values else unescape(values.get("last", ""))
    return Cookie(page, last, state=state, tracking=tracking)


def lower_quote(text: str) -> str:
    """Percent-encode everything that is not a letter, digit or ``-._~``, with lower-case digits."""
    return re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(text, safe=""))


def braced(row_id: str) -> str:
    """A GUID as cookies write it."""
    return f"{{{row_id.upper()}}}"


def unbraced(text: str) -> str:
    """A GUID out of a cookie."""
    return text.strip("{}").lower()


def _shown(name: str, value: str | None) -> str:
    return f' {name}null="1"' if value is None else f' {name}="{escape(value)}"'
