"""Change tracking: a first full read that ends with a delta link, and what changed since ("Use change tracking").

A delta link comes on the last page only. Its token holds the row version as of the *first* page of the walk, so that
what changes during the walk is in the next delta; a delta's own pages are cut at the version of its first page for the
same reason. Rows come once, with their present state, in the order of their last write, then the deletions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.sandbox.dataverse.call import Call
from connector.sandbox.dataverse.context import Context, answer, number
from connector.sandbox.dataverse.errors import ODataError, bad_uri
from connector.sandbox.dataverse.paging import Cookie, lower_quote, parse_token
from connector.sandbox.dataverse.rowsets import Selection
from connector.sandbox.dataverse.shapes import Shape, parse_shape
from connector.sandbox.schema import Table
from connector.sandbox.wire import Response

PREFERENCE = "odata.track-changes"
_TOKEN = re.compile(r"(\d+)!(\d{2}/\d{2}/\d{4} \d{2}:\d{2}:\d{2})")
_UNSUPPORTED = ("$filter", "$orderby", "$expand", "$top")


class Tracker:
    """Answers reads with change tracking."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._valid_from = 0

    def expire_tokens(self) -> None:
        """Make every delta token given out so far worthless, as a change of the table's definition does."""
        self._context.store.skip_version()
        self._valid_from = self._context.store.version

    def concerns(self, call: Call) -> bool:
        """Whether a read of a set is one with change tracking."""
        if PREFERENCE in call.preferences or "$deltatoken" in call.options:
            return True
        return "$skiptoken" in call.options and 'istracking="True"' in call.options["$skiptoken"]

    def rows(self, call: Call, table: Table) -> Response:
        """A page of the first read or of a delta. Raises ODataError."""
        shape = self._checked(call, table)
        if "$deltatoken" in call.options:
            return self._delta(call, shape)
        return self._initial(call, shape)

    def count(self, call: Call, table: Table) -> Response:
        """How many entries the delta of a token has."""
        self._checked(call, table)
        changes = self._context.store.changes(table.name, self._version(call))
        return number(len(changes.rows) + len(changes.deletions))

    def _checked(self, call: Call, table: Table) -> Shape:
        self._context.demand("Read", table)
        for name in _UNSUPPORTED:
            if name in call.options:
                raise bad_uri(f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.')
        if not table.change_tracking:
            code = self._context.options.untracked_code
            raise ODataError(400, code, f"Entity {table.name} isn't enabled for change tracking.")
        return parse_shape(self._context.schema, table, call.options)

    def _initial(self, call: Call, shape: Shape) -> Response:
        store, table = self._context.store, shape.table
        cookie = parse_token(call.options["$skiptoken"]) if "$skiptoken" in call.options else None
        version = _state(cookie, "version") if cookie else store.version
        page = self._context.rowsets.page(Selection(table), self._context.page_size(call), cookie)
        document: dict[str, Any] = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{shape.context()}"}
        rows = self._context.renderer.rows(shape, page.rows, call.preferences, call.root)
        if page.cookie is None:
            document["@odata.deltaLink"] = self._link(call, version)
            document["value"] = rows
        else:
            state = {"version": str(version)}
            following = Cookie(page.cookie.page, page.cookie.last, page.cookie.first, state, tracking=True)
            document["value"] = rows
            document["@odata.nextLink"] = call.link(skiptoken=following.token())
        return self._answered(call, document)

    def _delta(self, call: Call, shape: Shape) -> Response:
        store, table, size = self._context.store, shape.table, self._context.page_size(call)
        cookie = parse_token(call.options["$skiptoken"]) if "$skiptoken" in call.options else None
        since = self._version(call)
        until = _state(cookie, "until") if cookie else store.version
        changes = store.changes(table.name, since, until)
        entries = [(0, *entry) for entry in changes.rows] + [(1, *entry) for entry in changes.deletions]
        if cookie is not None:
            place = (_state(cookie, "part"), _state(cookie, "version"))
            entries = [entry for entry in entries if entry[:2] > place]
        shown = entries[:size]
        context = f"{call.root}$metadata#{table.entity_set}"
        document: dict[str, Any] = {"@odata.context": f"{context}{shape.context()}/$delta"}
        present = [row for part, _, row_id in shown if not part and (row := store.get(table.name, row_id)) is not None]
        values = self._context.renderer.rows(shape, present, call.preferences, call.root)
        values += [
            {"@odata.context": f"{context}/$deletedEntity", "id": row_id, "reason": "deleted"}
            for part, _, row_id in shown
            if part
        ]
        if len(entries) <= size:
            document["@odata.deltaLink"] = self._link(call, until)
            document["value"] = values
        else:
            part, version, _ = shown[-1]
            state = {"until": str(until), "part": str(part), "version": str(version)}
            following = Cookie(cookie.page + 1 if cookie else 2, state=state, tracking=True)
            document["value"] = values
            document["@odata.nextLink"] = call.link(skiptoken=following.token())
        return self._answered(call, document)

    def _answered(self, call: Call, document: dict[str, Any]) -> Response:
        names = (PREFERENCE, "odata.maxpagesize", "odata.include-annotations")
        return answer(200, document, *call.preferences.applied(*names))

    def _link(self, call: Call, version: int) -> str:
        moment = self._context.now().astimezone(UTC).strftime("%m/%d/%Y %H:%M:%S")
        return call.link(skiptoken="", deltatoken=lower_quote(f"{version}!{moment}"))

    def _version(self, call: Call) -> int:
        text = call.options.get("$deltatoken", "")
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise bad_uri(f"The delta token '{text}' is not valid.")
        version = int(match[1])
        given = datetime.strptime(match[2], "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
        lifetime = timedelta(days=self._context.options.change_tracking_days)
        stale = self._context.now().astimezone(UTC) - given > lifetime
        if stale or not self._valid_from <= version <= self._context.store.version:
            message = "Version stamp associated with the client has expired. Please perform a full sync."
            raise ODataError(self._context.options.expired_token_status, "0x80044352", message)
        return version


def _state(cookie: Cookie, name: str) -> int:
    if not cookie.state.get(name, "").isdigit():
        raise bad_uri("The paging cookie is not one of a read with change tracking.")
    return int(cookie.state[name])
