"""Partner Center's collections: every page or an error, by either way in which pages are linked.

The documentation prints no second page. A collection has ``links.next`` (``{uri, method, headers}``), or a
``continuationToken`` that goes back as ``MS-ContinuationToken`` with ``seekOperation=Next``, as Microsoft's own .NET
client does. Source: Microsoft's "Get a list of customers", "Get a record of Partner Center activity", the .NET SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector.errors import ProtocolError
from connector.http.transport import Answer, Transport
from connector.providers.partner_center.errors import SERVICE, is_json

_TOKEN_HEADER = "MS-ContinuationToken"  # noqa: S105 - the name of a header
_MOST_PAGES = 1000


@dataclass(frozen=True)
class _Page:
    """Where a page is: an address and the headers that lead to it (``MS-…`` only)."""

    address: str
    headers: tuple[tuple[str, str], ...] = ()


def read_collection(
    transport: Transport, path: str, *, operation: str, headers: Callable[[], Mapping[str, str]]
) -> list[Mapping[str, Any]]:
    """All items of a collection, each id once, in the order in which they came.

    ``headers`` makes the headers of one request. Raises ProtocolError when a page is not a collection, when pages lead
    back to themselves, and when there are fewer items than ``totalCount`` says: part of a list is never returned.
    """
    items: dict[str, Mapping[str, Any]] = {}
    visited: set[_Page] = set()
    total = 0
    page: _Page | None = _Page(path)
    while page is not None:
        if page in visited or len(visited) >= _MOST_PAGES:
            raise _broken(operation, f"its pages lead in a circle (page {len(visited) + 1})")
        visited.add(page)
        answer = transport.read(
            "GET",
            page.address,
            operation=operation,
            kind="GET subscriptions (list)",
            headers={**headers(), **dict(page.headers)},
            check=is_json,
        )
        before = len(items)
        found = _items_of(answer, operation)
        for item in found:
            items.setdefault(str(item["id"]).lower(), item)
        body = answer.json()
        total = max(total, _total_of(body, operation))
        page = _next_page(body, answer, path, operation)
        if page is not None and found and len(items) == before:
            raise _broken(operation, "a page repeats only what earlier pages held")
    if len(items) < total:
        raise _broken(operation, f"it announced {total} items and gave {len(items)}")
    return list(items.values())


def _items_of(answer: Answer, operation: str) -> list[Mapping[str, Any]]:
    body = answer.json()
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise _broken(operation, "the answer has no list of items")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"].strip():
            raise _broken(operation, "an item has no id")
    return items


def _total_of(body: Mapping[str, Any], operation: str) -> int:
    total = body.get("totalCount")
    if total is None:
        return 0
    if not isinstance(total, int) or isinstance(total, bool):
        raise _broken(operation, f"totalCount is {total!r}")
    return total


def _next_page(body: Mapping[str, Any], answer: Answer, path: str, operation: str) -> _Page | None:
    links = body.get("links")
    following = links.get("next") if isinstance(links, Mapping) else None
    token = body.get("continuationToken")
    if following is not None:
        return _linked_page(following, token, operation)
    if not token:
        token = answer.headers.get(_TOKEN_HEADER)
    if not token:
        return None
    if not isinstance(token, str):
        raise _broken(operation, "its continuation token is not a text")
    return _Page(f"{path}?seekOperation=Next", ((_TOKEN_HEADER, token),))


def _linked_page(link: object, token: object, operation: str) -> _Page:
    uri = link.get("uri") if isinstance(link, Mapping) else None
    if not isinstance(link, Mapping) or not isinstance(uri, str) or not uri.strip():
        raise _broken(operation, "its link to the next page has no address")
    if str(link.get("method") or "GET").upper() != "GET":
        raise _broken(operation, "its link to the next page is not a GET")
    headers: dict[str, str] = {}
    for header in link.get("headers") or ():
        key, value = (header.get("key"), header.get("value")) if isinstance(header, Mapping) else (None, None)
        if not isinstance(key, str) or not isinstance(value, str):
            raise _broken(operation, "its link to the next page has an unreadable header")
        # An answer may say where to go on, not who we are: Authorization, Host and the like are not taken from it.
        if key.lower().startswith("ms-"):
            headers[key] = value
    if isinstance(token, str) and token and _TOKEN_HEADER.lower() not in {key.lower() for key in headers}:
        headers[_TOKEN_HEADER] = token
    return _Page(_below_version(uri.strip()), tuple(sorted(headers.items())))


def _below_version(uri: str) -> str:
    """A link as a path below the API's base; printed links lack the version. Full addresses stay as they are.

    ``//host/…`` stays as well, so that the transport sees and refuses it.
    """
    if uri.startswith("//") or "://" in uri.partition("?")[0]:
        return uri
    path = uri.lstrip("/")
    return path if path.startswith("v1/") else f"v1/{path}"


def _broken(operation: str, what: str) -> ProtocolError:
    return ProtocolError(
        f"Partner Center's answer to '{operation}' cannot be used: {what}",
        service=SERVICE,
        operation=operation,
        hint="Nothing was decided on part of a list. Try again; if it stays, report it with the log of this run.",
    )
