"""What all parts of the emulated Web API share: the rows, the settings, and the small answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from connector.sandbox.dataverse.call import GUID, KEY_TROUBLE, Call, Segment
from connector.sandbox.dataverse.errors import ODataError, bad_uri, missing_privilege, no_row
from connector.sandbox.dataverse.predicates import Predicates
from connector.sandbox.dataverse.rendering import Renderer
from connector.sandbox.dataverse.rowsets import RowSets
from connector.sandbox.dataverse.values import from_text
from connector.sandbox.schema import Schema, Table
from connector.sandbox.store import APPLICATION_USER_ID, Store
from connector.sandbox.wire import Response

MAX_PAGE_SIZE = 5000
JSON_TYPE = "application/json; odata.metadata=minimal"


@dataclass
class DataverseOptions:
    """Settings of the emulated environment; they may be changed while it runs."""

    page_size: int = MAX_PAGE_SIZE
    dop_hint: int = 52
    request_limit: int = 6000
    """Requests in 300 seconds before 429 0x80072322."""
    execution_time_limit: float = 1200.0
    """Seconds of work in 300 seconds before 429 0x80072321; each request is charged ``seconds_per_request``."""
    seconds_per_request: float = 0.02
    concurrency_limit: int = 52
    """Requests at the same time before 429 0x80072326."""
    change_tracking_days: int = 7
    expired_token_status: int = 400
    """Undocumented for delta tokens: 400 or 410."""
    untracked_code: str = "0x80072491"
    """Code for a table without change tracking; 0x80060888 has been seen too."""
    changeset_error_layout: Literal["nested", "flat"] = "nested"
    """Undocumented: a failed change set's error inside a ``changesetresponse_`` or directly in the batch's answer."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """Missing privileges, such as ``("Write", "account")``: 403 0x80040220."""
    may_bypass_plugins: bool = True
    reorder_ties: bool = False
    """Whether rows that an order does not tell apart change places from page to page."""
    duplicate_rules: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"account": ("name",), "contact": ("emailaddress1",)}
    )
    """Columns that duplicate detection compares, when a caller turns it on."""
    authorization_uri: str = "https://login.microsoftonline.com/common/oauth2/authorize"
    version: str = "9.2.25084.00191"


@dataclass(frozen=True, slots=True)
class Key:
    """A row as an address names it: by id, or by the values of an alternate key (``row_id`` None: no such row)."""

    table: Table
    row_id: str | None
    values: Mapping[str, Any] | None = None

    def missing(self, *, entity: bool = False) -> ODataError:
        """The 404 for this key."""
        if self.values is not None:
            return ODataError(
                404, "0x80060891", f"A record with the specified key values does not exist in {self.table.name} entity"
            )
        return no_row(self.table.name, self.row_id or "", entity=entity)


class Context:
    """The environment that a call acts on."""

    def __init__(self, store: Store, now: Callable[[], datetime], options: DataverseOptions) -> None:
        self.store = store
        self.now = now
        self.options = options
        self.schema: Schema = store.schema
        self.predicates = Predicates(store)
        self.renderer = Renderer(store, self.predicates)
        self.rowsets = RowSets(store, self.predicates, reorder_ties=lambda: options.reorder_ties)

    def demand(self, privilege: str, table: Table) -> None:
        """Raise ODataError (403) when the application user lacks a privilege such as Read on a table."""
        if (privilege, table.name) in self.options.denied:
            raise missing_privilege(f"prv{privilege}{table.schema_name}", APPLICATION_USER_ID, table)

    def key(self, table: Table, segment: Segment) -> Key:
        """The row that a segment such as ``accounts(…)`` names. Raises ODataError (400) for what is no key."""
        text = (segment.key or "").strip()
        if GUID.fullmatch(text):
            return Key(table, text.lower())
        parts = segment.parts()
        if parts is None:
            raise bad_uri(f"Bad Request - Error in query syntax: '{segment.name}({text})'.")
        values: dict[str, Any] = {}
        for name, value in parts.items():
            column = table.properties.get(name)
            if column is None:
                raise _invalid_key(table)
            if KEY_TROUBLE & set(value):
                raise bad_uri(
                    f"The value of the alternate key column '{name}' holds a character that keys cannot carry."
                )
            values[column.name] = from_text(column, value)
        if set(values) == {table.primary_id}:
            return Key(table, values[table.primary_id])
        if not any(set(values) == set(columns) for columns in table.keys.values()):
            raise _invalid_key(table)
        return Key(table, self.store.by_key(table.name, values), _as_written(table, parts))

    def page_size(self, call: Call) -> int:
        """Rows per page for a call: as it asks for, up to the most that the service gives."""
        wanted = call.preferences.page_size
        limit = self.options.page_size
        return wanted if wanted is not None and wanted <= MAX_PAGE_SIZE else limit

    def reference(self, text: str, root: str) -> Key:
        """The row that ``@odata.bind`` or ``@odata.id`` names: relative, with a slash in front, or absolute.

        Raises ODataError (400).
        """
        relative = text.strip()
        if "://" in relative or relative.startswith("/api/"):
            at = relative.lower().find("/api/data/v")
            relative = relative[at:].split("/", 4)[-1] if at >= 0 else relative
        name, bracket, rest = relative.lstrip("/").partition("(")
        table = self.schema.by_set.get(name)
        if table is None or not bracket or not rest.endswith(")"):
            raise bad_uri(f"Invalid resource reference '{text}': an entity set and a key were expected.")
        return self.key(table, Segment(name, rest[:-1]))


def answer(status: int, document: object, *headers: tuple[str, str]) -> Response:
    """A JSON answer in UTF-8."""
    body = json.dumps(document, ensure_ascii=False).encode("utf-8")
    return Response(status, (("Content-Type", JSON_TYPE), ("OData-Version", "4.0"), *headers), body)


def empty(*headers: tuple[str, str], status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status, (("OData-Version", "4.0"), *headers))


def number(count: int) -> Response:
    """The plain text answer of ``/$count``, which begins with a byte order mark."""
    body = b"\xef\xbb\xbf" + str(count).encode("ascii")
    return Response(200, (("OData-Version", "4.0"), ("Content-Type", "text/plain")), body)


def failure(error: ODataError, *, annotated: bool = False) -> Response:
    """The answer for an error; with annotations asked for, it carries the documented details."""
    detail: dict[str, Any] = {"code": error.code, "message": error.message}
    if annotated and error.plugin:
        code = error.code.removeprefix("0x")
        detail |= {
            "@Microsoft.PowerApps.CDS.ErrorDetails.OperationStatus": "1",
            "@Microsoft.PowerApps.CDS.ErrorDetails.SubErrorCode": "0",
            "@Microsoft.PowerApps.CDS.HelpLink": "http://go.microsoft.com/fwlink/?LinkID=398563&error="
            f"Microsoft.Crm.CrmException%3a{code}&client=platform",
            "@Microsoft.PowerApps.CDS.TraceText": f"\r\n[Sandbox.Plugins: {uuid.uuid4()}]\r\n",
            "@Microsoft.PowerApps.CDS.InnerError.Message": error.message,
        }
    return answer(error.status, {"error": detail}, *error.headers)


def _as_written(table: Table, parts: Mapping[str, str]) -> Mapping[str, Any]:
    """Key values as a new row takes them."""
    written: dict[str, Any] = {}
    for name, value in parts.items():
        column = table.properties[name]
        written[column.name] = value if column.type == "String" else from_text(column, value)
    return written


def _invalid_key(table: Table) -> ODataError:
    kind = f"'Microsoft.Dynamics.CRM.{table.name}'"
    return bad_uri(
        f"The key in the request URI is not valid for resource {kind}. Ensure that the names and number of key "
        f"properties match the declared or alternate key properties for the resource {kind}."
    )
