"""``$batch``: requests in order, change sets all or nothing, references to what an earlier part made.

An error ends the batch with an outer 400 that still carries the answers so far; what was done before stays done. With
``odata.continue-on-error`` everything is tried and the outer status is 200 ("Execute batch operations").
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from connector.sandbox.dataverse.call import MAX_URL_IN_BATCH, Call, Preferences, split_address
from connector.sandbox.dataverse.context import Context, failure
from connector.sandbox.dataverse.errors import PAYLOAD_ERROR, ODataError, bad_uri
from connector.sandbox.dataverse.multipart import (
    ChangeSet,
    Part,
    parse_batch,
    rendered,
    rendered_answer,
    rendered_set,
)
from connector.sandbox.dataverse.payload import missing_reference
from connector.sandbox.wire import Response

CONTINUE = "odata.continue-on-error"
_REFERENCE = re.compile(r"\$[^/?(]+")
_BODY_REFERENCE = re.compile(rb'@odata\.(?:bind|id)"\s*:\s*"(\$[^"/]+)"')


class _SetFailed(Exception):
    def __init__(self, error: ODataError, part: Part) -> None:
        super().__init__(error.message)
        self.error = error
        self.part = part


class Batch:
    """Answers batches; ``dispatch`` answers one request and raises ODataError for what fails."""

    def __init__(self, context: Context, dispatch: Callable[[Call], Response]) -> None:
        self._context = context
        self._dispatch = dispatch
        self._thread = threading.local()

    @contextmanager
    def first_items(self, count: int | None) -> Iterator[None]:
        """While inside, batches of this thread end after so many items, as if the server were cut off there."""
        self._thread.items = count
        try:
            yield
        finally:
            self._thread.items = None

    def answer(self, call: Call, origin: str) -> Response:
        """The answer to a batch. Raises ODataError (400), with nothing done, for one that cannot be understood."""
        content_type = call.headers.get("content-type", "")
        if not content_type.lower().startswith("multipart/mixed"):
            raise ODataError(400, PAYLOAD_ERROR, "The content-type of a batch must be 'multipart/mixed'.")
        items = parse_batch(content_type, call.body)
        for item in items:
            if isinstance(item, ChangeSet):
                _check(item)
        go_on = CONTINUE in call.preferences
        pieces: list[bytes] = []
        failed = False
        for item in items[: getattr(self._thread, "items", None)]:
            piece, succeeded = (
                self._set(item, call, origin) if isinstance(item, ChangeSet) else self._one(item, call, origin)
            )
            pieces.append(piece)
            if not succeeded and not go_on:
                failed = True
                break
        boundary = f"batchresponse_{uuid.uuid4()}"
        headers = (
            ("OData-Version", "4.0"),
            ("Content-Type", f"multipart/mixed; boundary={boundary}"),
            *call.preferences.applied(CONTINUE),
        )
        return Response(400 if failed else 200, headers, rendered(boundary, pieces))

    def _one(self, part: Part, outer: Call, origin: str) -> tuple[bytes, bool]:
        try:
            return rendered_answer(self._dispatch(self._call(part, outer, origin, {})), content_id=None), True
        except ODataError as error:
            return rendered_answer(self._failure(error, part)), False

    def _set(self, changes: ChangeSet, outer: Call, origin: str) -> tuple[bytes, bool]:
        boundary = f"changesetresponse_{uuid.uuid4()}"
        references: dict[str, str] = {}
        pieces = []
        try:
            with self._context.store.transaction():
                for part in changes.parts:
                    call = self._call(part, outer, origin, references)
                    try:
                        response = self._dispatch(call)
                    except ODataError as error:
                        raise _SetFailed(error, part) from error
                    made = response.header("OData-EntityId") or response.header("Location")
                    if part.content_id:
                        references[f"${part.content_id}"] = made or call.root + call.path
                    pieces.append(rendered_answer(response, content_id=part.content_id))
        except _SetFailed as failed:
            response = self._failure(failed.error, failed.part)
            if self._context.options.changeset_error_layout == "flat":
                return rendered_answer(response), False
            piece = rendered_answer(response, content_id=failed.part.content_id)
            return rendered_set(boundary, [piece]), False
        return rendered_set(boundary, pieces), True

    def _call(self, part: Part, outer: Call, origin: str, references: Mapping[str, str]) -> Call:
        address = part.address
        if len(address) > MAX_URL_IN_BATCH:
            raise bad_uri("Invalid URI: The Uri scheme is too long.")
        match = _REFERENCE.match(address)
        if match and match[0] in references:
            address = references[match[0]] + address[match.end() :]
        path, query = split_address(address, outer.root, origin=origin)
        headers = dict(part.headers)
        if "prefer" not in headers:
            inherited = {name: value for name, value in outer.preferences.asked.items() if name != CONTINUE}
            call = Call(part.method, outer.root, path, query, headers, part.body, True, references)
            return replace_preferences(call, inherited)
        return Call(part.method, outer.root, path, query, headers, part.body, True, references)

    @staticmethod
    def _failure(error: ODataError, part: Part) -> Response:
        annotated = bool(Preferences.parse(part.headers.get("prefer")).annotations)
        response = failure(error, annotated=annotated)
        return Response(response.status, (("REQ_ID", str(uuid.uuid4())), *response.headers), response.body)


def replace_preferences(call: Call, asked: Mapping[str, str]) -> Call:
    """A call with other preferences than its own header asks for."""
    header = ",".join(f'{name}="{value}"' if value else name for name, value in asked.items())
    return replace(call, headers={**call.headers, "prefer": header}) if header else call


def _check(changes: ChangeSet) -> None:
    """Refuse reads in a change set and references to parts that do not come before."""
    known: set[str] = set()
    for part in changes.parts:
        if part.method == "GET":
            raise ODataError(400, PAYLOAD_ERROR, "A change set cannot hold GET requests.")
        match = _REFERENCE.match(part.address)
        used = [match[0]] if match else []
        used += [found.decode("utf-8", "replace") for found in _BODY_REFERENCE.findall(part.body)]
        for name in used:
            if name not in known:
                raise missing_reference(name)
        if part.content_id:
            if f"${part.content_id}" in known:
                raise ODataError(400, PAYLOAD_ERROR, f"The Content-ID '{part.content_id}' stands in the batch twice.")
            known.add(f"${part.content_id}")
