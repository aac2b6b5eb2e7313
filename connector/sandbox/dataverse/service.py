"""The emulated Dataverse Web API as one service: who may call, what an address means, which headers go back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime

from connector.sandbox.dataverse.batch import Batch
from connector.sandbox.dataverse.bulk import Bulk
from connector.sandbox.dataverse.call import BASE, MAX_URL, Call, Segment
from connector.sandbox.dataverse.context import Context, DataverseOptions, answer, failure
from connector.sandbox.dataverse.errors import (
    ODataError,
    bad_uri,
    missing_privilege,
    no_property,
    no_resource,
    no_segment,
    not_emulated,
)
from connector.sandbox.dataverse.fetchxml import FetchReader
from connector.sandbox.dataverse.metadata import Metadata
from connector.sandbox.dataverse.predicates import PREFIX
from connector.sandbox.dataverse.reading import Reader
from connector.sandbox.dataverse.throttle import Throttle
from connector.sandbox.dataverse.tracking import Tracker
from connector.sandbox.dataverse.writing import Writer
from connector.sandbox.schema import Table
from connector.sandbox.store import APPLICATION_USER_ID, BUSINESS_UNIT_ID, ORGANIZATION_ID, Store
from connector.sandbox.wire import Request, Response

_MESSAGES = ("Create", "CreateMultiple", "Delete", "Update", "UpdateMultiple", "Upsert", "UpsertMultiple")


class DataverseService:
    """Answers requests under ``/api/data/v9.x/``.

    ``authorize`` judges the Authorization header: ``ok``, ``missing``, ``expired``, ``wrong_audience``,
    ``not_a_member``, ``disabled`` or ``no_privilege:<name>``. Thread-safe.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime],
        authorize: Callable[[str | None], str],
        options: DataverseOptions | None = None,
    ) -> None:
        self.options = options or DataverseOptions()
        self._authorize = authorize
        self._context = Context(store, now, self.options)
        self._throttle = Throttle(now, self.options)
        self._reader = Reader(self._context)
        self._writer = Writer(self._context)
        self._bulk = Bulk(self._context, self._writer)
        self._tracker = Tracker(self._context)
        self._fetch = FetchReader(self._context)
        self._metadata = Metadata(self._context)
        self._batch = Batch(self._context, self._dispatch)
        self.first_items = self._batch.first_items
        _add_base_rows(store)

    def expire_delta_tokens(self) -> None:
        """Make all delta tokens given out so far answer that they expired."""
        self._tracker.expire_tokens()

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        annotated = "include-annotations" in (request.header("prefer") or "")
        try:
            refusal = self._refusal(request)
            response = refusal if refusal is not None else self._admitted(request)
        except ODataError as error:
            response = failure(error, annotated=annotated)
        except RecursionError:
            response = failure(bad_uri("The query is nested too deeply."))
        request_id = str(uuid.uuid4())
        headers = (
            *response.headers,
            *self._throttle.headers(),
            ("REQ_ID", request_id),
            ("x-ms-service-request-id", request_id),
        )
        return Response(response.status, headers, response.body)

    def _refusal(self, request: Request) -> Response | None:
        verdict, _, privilege = self._authorize(request.header("authorization")).partition(":")
        if verdict in ("missing", "expired", "wrong_audience"):
            challenge = f"Bearer authorization_uri={self.options.authorization_uri}, resource_id={request.origin}/"
            return Response(401, (("WWW-Authenticate", challenge),))
        if verdict == "not_a_member":
            raise ODataError(403, "0x80072560", "The user is not a member of the organization.")
        if verdict == "disabled":
            raise ODataError(403, "0x80040225", "The specified user is either disabled or is not a member of any role.")
        if verdict == "no_privilege":
            raise missing_privilege(privilege, APPLICATION_USER_ID)
        return None

    def _admitted(self, request: Request) -> Response:
        with self._throttle.request():
            match = BASE.match(request.path)
            if match is None:
                raise no_resource(request.origin + request.path)
            if len(request.origin + request.path) + len(request.query) > MAX_URL:
                raise bad_uri("Invalid URI: The Uri scheme is too long.")
            call = Call(
                method=request.method.upper(),
                root=f"{request.origin}{match[0]}/",
                path=request.path[match.end() :].lstrip("/"),
                query=request.query,
                headers=request.headers,
                body=request.body,
            )
            if call.path.lower() in ("$batch", "%24batch"):
                if call.method != "POST":
                    raise no_resource(call.address)
                return self._batch.answer(call, request.origin)
            return self._dispatch(call)

    def _dispatch(self, call: Call) -> Response:
        with self._context.store.transaction():
            segments = call.segments
            if not segments:
                return self._document(call)
            first = segments[0]
            special = self._special(call, first, segments)
            if special is not None:
                return special
            table = self._context.schema.by_set.get(first.name)
            if table is None:
                raise no_segment(first.name)
            if first.key is None:
                return self._set(call, table, segments[1:])
            return self._row(call, table, segments)

    def _special(self, call: Call, first: Segment, segments: tuple[Segment, ...]) -> Response | None:
        if self._metadata.concerns(first.name):
            if call.method != "GET":
                raise not_emulated("changes of metadata")
            return self._metadata.answer(call, segments)
        if first.name == "BulkDelete":
            if call.method != "POST":
                raise no_resource(call.address)
            return self._bulk.delete(call)
        functions = {
            "WhoAmI": self._who_am_i,
            "RetrieveVersion": self._version,
            "RetrieveTotalRecordCount": self._totals,
        }
        function = functions.get(first.name)
        if function is None:
            return None
        if call.method != "GET" or len(segments) > 1:
            raise no_resource(call.address)
        return function(call, first)

    def _set(self, call: Call, table: Table, rest: tuple[Segment, ...]) -> Response:
        if rest:
            name = rest[0].name
            if name == "$count" and call.method == "GET":
                tracked = "$deltatoken" in call.options
                return self._tracker.count(call, table) if tracked else self._reader.count(call, table)
            if name.startswith(PREFIX) and len(rest) == 1:
                return self._bulk.act(call, table, name)
            raise no_segment(name)
        if call.method == "POST":
            return self._writer.create(call, table)
        if call.method != "GET":
            raise _not_allowed(call)
        if "fetchXml" in call.options:
            return self._fetch.rows(call, table)
        if "sql" in call.options:
            raise not_emulated("?sql=")
        if self._tracker.concerns(call):
            return self._tracker.rows(call, table)
        return self._reader.rows(call, table)

    def _row(self, call: Call, table: Table, segments: tuple[Segment, ...]) -> Response:
        key = self._context.key(table, segments[0])
        rest = segments[1:]
        if not rest:
            if call.method == "GET":
                return self._reader.row(call, key)
            if call.method == "PATCH":
                return self._writer.patch(call, key)
            if call.method == "DELETE":
                return self._writer.delete(call, key)
            raise _not_allowed(call)
        if call.method == "GET":
            return self._reader.inside(call, key, rest)
        if rest[-1].name == "$ref" and len(rest) == 2 and call.method in ("PUT", "POST", "DELETE"):
            return self._writer.reference(call, key, rest[0])
        if rest[0].name.startswith(PREFIX):
            raise not_emulated(f"the action {rest[0].name}")
        column = table.properties.get(rest[0].name)
        if column is None and rest[0].name not in table.navigations:
            raise no_property(rest[0].name, table.name)
        if column is None or len(rest) > 1 or call.method not in ("PUT", "DELETE"):
            raise not_emulated(f"{call.method} on {call.path}")
        return self._writer.column(call, key, column)

    def _document(self, call: Call) -> Response:
        if call.method != "GET":
            raise no_resource(call.address)
        sets = [{"name": name, "kind": "EntitySet", "url": name} for name in sorted(self._context.schema.by_set)]
        return answer(200, {"@odata.context": f"{call.root}$metadata", "value": sets})

    def _who_am_i(self, call: Call, _: Segment) -> Response:
        document = {
            "@odata.context": f"{call.root}$metadata#{PREFIX}WhoAmIResponse",
            "BusinessUnitId": BUSINESS_UNIT_ID,
            "UserId": APPLICATION_USER_ID,
            "OrganizationId": ORGANIZATION_ID,
        }
        return answer(200, document, ("x-ms-dop-hint", str(self.options.dop_hint)))

    def _version(self, call: Call, _: Segment) -> Response:
        kind = f"{call.root}$metadata#{PREFIX}RetrieveVersionResponse"
        return answer(200, {"@odata.context": kind, "Version": self.options.version})

    def _totals(self, call: Call, segment: Segment) -> Response:
        text = (segment.key or "").partition("=")[2]
        text = call.aliases.get(text.strip(), text)
        names = [name.strip(" '\"") for name in text.strip("[] ").split(",") if name.strip()]
        unknown = [name for name in names if name not in self._context.schema.tables]
        if not names or unknown:
            raise no_segment(unknown[0] if unknown else "EntityNames")
        counts = [self._context.store.count(name) for name in names]
        document = {
            "@odata.context": f"{call.root}$metadata#{PREFIX}RetrieveTotalRecordCountResponse",
            "EntityRecordCountCollection": {
                "Count": len(names),
                "IsReadOnly": False,
                "Keys": names,
                "Values": counts,
            },
        }
        return answer(200, document)


def _not_allowed(call: Call) -> ODataError:
    return ODataError(405, "", f"The requested resource does not support http method '{call.method}'.")


def _add_base_rows(store: Store) -> None:
    """The rows that every environment has: the organisation, the application user, and which messages tables take."""
    with store.silent():
        if store.get("organization", ORGANIZATION_ID) is None:
            store.create("organization", {"name": "Sandbox", "expirechangetrackingindays": 7}, ORGANIZATION_ID)
        if store.get("systemuser", APPLICATION_USER_ID) is None:
            store.create("systemuser", {"fullname": "# Sandbox application"}, APPLICATION_USER_ID)
        if store.count("sdkmessage"):
            return
        for message in _MESSAGES:
            message_id = store.create("sdkmessage", {"name": message})
            for table in store.schema:
                values = {"primaryobjecttypecode": table.name, "sdkmessageid": message_id}
                store.create("sdkmessagefilter", values)
