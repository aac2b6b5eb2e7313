"""A thin Dataverse Web API client on the one transport: pages, batches, conditional writes. It has no delete call.

Source: Microsoft docs, "Use the Microsoft Dataverse Web API" (query, page results, conditional operations, batch,
service protection limits).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from connector.crm.batch import (
    MAX_PARTS,
    BatchDamaged,
    Change,
    Part,
    boundary_of,
    build_change_set,
    build_reads,
    new_boundary,
    parse_batch,
)
from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from connector.http.redaction import redact
from connector.http.retry import Again, meaning_of_read, meaning_of_write, parse_retry_after
from connector.http.transport import Answer, Transport

Row = dict[str, Any]

SERVICE = "dataverse"
_MOST_CONCURRENT = 52
_PLAIN = "(),=$;'/:@.*"
_ODATA = {"OData-MaxVersion": "4.0", "OData-Version": "4.0"}
# Answers may come from a cache on the way unless this is asked for (Microsoft docs: "Compose HTTP requests").
_READ = {**_ODATA, "If-None-Match": "null"}
_DUPLICATE = frozenset({"0x80040237", "0x80060892", "0x80040333"})
_BUSY = frozenset(
    {"0x80044150", "0x80044151", "0x80048544", "0x80048551", "0x80048553", "0x80048559", "0x80048561", "0x80044339"}
)
_THROTTLED = frozenset({"0x80072321", "0x80072322", "0x80072326"})


def parse_dataverse_error(status: int, body: bytes) -> tuple[str, str]:
    """(code, text) of an error body; codes are often empty and gateways answer in HTML, so nothing is relied on."""
    try:
        error = json.loads(body.decode("utf-8-sig"))["error"]
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def classify_dataverse(status: int, code: str) -> type[RemoteError] | None:
    """Where a code says more than its status: duplicates behind 412, transient database trouble behind 400."""
    known = code.lower()
    if status == 412 and known in _DUPLICATE:
        return Rejected
    # 429 itself is left to HTTP's meaning: definitely not done, and sent again once the pause is over.
    if 400 <= status < 500 and status != 429 and known in _BUSY | _THROTTLED:
        return Transient
    return None


COUNT = "/$count"
"""After an entity set: nothing but the number of rows, and at most 5,000 ("Count number of rows")."""


def query(
    entity_set: str, *, select: Sequence[str], where: str = "", order: Sequence[str] = (), expand: str = ""
) -> str:
    """The path of a query, percent-encoded. ``where`` and ``expand`` are OData as people write it."""
    options = [("$select", ",".join(select)), ("$filter", where), ("$orderby", ",".join(order)), ("$expand", expand)]
    shown = "&".join(f"{name}={quote(value, safe=_PLAIN)}" for name, value in options if value)
    return f"{entity_set}?{shown}" if shown else entity_set


def text_literal(value: str) -> str:
    """A string as OData writes it."""
    return "'" + value.replace("'", "''") + "'"


def is_in(column: str, values: Sequence[str]) -> str:
    """A condition that a column is one of some values that need no escaping (ids, numbers)."""
    listed = ",".join(f'"{value}"' for value in values)
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues=[{listed}])"


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Whom Dataverse takes us for; ``parallelism`` is the service's hint, if it gave one."""

    user_id: str
    organization_id: str
    parallelism: int | None


class DataverseClient:
    """The Web API of one environment. The transport's origin is ``…/api/data/v9.x``."""

    def __init__(self, transport: Transport, *, page_size: int = 5000, parts_per_batch: int = 50) -> None:
        self._transport = transport
        self._preference = f"odata.maxpagesize={page_size}"
        self._per_batch = max(1, min(parts_per_batch, MAX_PARTS))

    @property
    def address(self) -> str:
        """The address of the Web API, which names the environment."""
        return self._transport.origin.base_url

    def who_am_i(self) -> WhoAmI:
        """Check sign-in and take the service's hint about parallelism into the gate (never above 52)."""
        answer = self._transport.read("GET", "WhoAmI", operation="who am I", headers=_READ)
        body = self._object(answer)
        hint = answer.headers.get("x-ms-dop-hint", "")
        parallelism = int(hint) if hint.isdigit() and int(hint) > 0 else None
        if parallelism is not None:
            self._transport.gate.set_concurrency(min(parallelism, _MOST_CONCURRENT))
        return WhoAmI(str(body.get("UserId", "")), str(body.get("OrganizationId", "")), parallelism)

    def get(self, path: str, *, operation: str) -> Row:
        """One row or resource. Raises Rejected with status 404 when there is none."""
        answer = self._transport.read("GET", path, operation=operation, headers=_READ, check=self._check_object)
        return self._object(answer)

    def iter_pages(self, path: str, *, operation: str, kind: str | None = None) -> Iterator[list[Row]]:
        """The pages of a query, one at a time; nothing is kept. A page that fails raises, it is never left out.

        Links are followed byte for byte and only on the configured origin; a link that comes twice raises
        ProtocolError instead of reading in circles.
        """
        link: str | None = path
        seen: set[str] = set()
        headers = {**_READ, "Prefer": self._preference}
        while link is not None:
            answer = self._transport.read(
                "GET", link, operation=operation, headers=headers, kind=kind, check=self._check_page
            )
            rows, link = self._page(answer.json())
            self._guard(link, seen, operation)
            yield rows

    def read_all(self, path: str, *, operation: str, kind: str | None = None) -> list[Row]:
        """All rows of a query: all pages, or it raises."""
        return [row for page in self.iter_pages(path, operation=operation, kind=kind) for row in page]

    def read_many(self, paths: Sequence[str], *, operation: str) -> list[list[Row]]:
        """The rows of several queries, in order, through as few ``$batch`` requests as their pages allow.

        A path that asks for ``/$count`` gives one row with the number (at most 5,000) under ``@odata.count``.
        """
        rows: list[list[Row]] = [[] for _ in paths]
        seen: list[set[str]] = [set() for _ in paths]
        links = dict(enumerate(paths))
        while links:
            numbers = list(links)
            parts = self._read_parts([links[number] for number in numbers], operation=operation, page=True)
            links = {}
            for number, part in zip(numbers, parts, strict=True):
                if part.status == 404:
                    raise self._failed(part, operation)
                page, link = self._page_or_count(part.json(), counts=COUNT in paths[number].partition("?")[0])
                rows[number] += page
                self._guard(link, seen[number], operation)
                if link is not None:
                    links[number] = link
        return rows

    def get_many(self, paths: Sequence[str], *, operation: str) -> list[Row | None]:
        """Several resources through ``$batch``; None where there is none (404)."""
        parts = self._read_parts(paths, operation=operation, page=False)
        return [None if part.status == 404 else part.json() for part in parts]

    def patch(self, path: str, etag: str, values: Mapping[str, object], *, operation: str, kind: str) -> None:
        """Change columns of one row if it is still the one that was read. Raises as ``Transport.write`` does."""
        self._require_etag(etag, operation)
        self._transport.write(
            "PATCH",
            path,
            operation=operation,
            kind=kind,
            headers={**_ODATA, "If-Match": etag, "Content-Type": "application/json"},
            body=json.dumps(values).encode("ascii"),
        )

    def change_set(self, changes: Sequence[Change], *, operation: str) -> None:
        """Several conditional PATCHes, in order, all or nothing.

        Raises PreconditionFailed when a row moved, Rejected and Transient when nothing was done, OutcomeUnknown when
        the answer was lost, damaged, or does not account for every change.
        """
        if not changes:
            return
        for change in changes:
            self._require_etag(change.etag, operation)
        if len(changes) > MAX_PARTS:
            raise Rejected(
                f"{len(changes)} changes do not fit into one change set of {MAX_PARTS}",
                service=SERVICE,
                operation=operation,
            )
        rooted = [Change(self._inner(change.path), change.etag, change.values) for change in changes]
        boundary = new_boundary("batch")
        answer = self._transport.write(
            "POST",
            "$batch",
            operation=operation,
            kind="$batch (change set)",
            headers={**_ODATA, "Content-Type": f'multipart/mixed; boundary="{boundary}"'},
            body=build_change_set(rooted, boundary, new_boundary("changeset")),
            accept=(400,),
        )
        content_type = answer.headers.get("Content-Type", "")
        if boundary_of(content_type) is None and answer.status == 400:
            # The service refused the batch as a whole before it ran anything.
            raise self._failed(Part(400, {}, answer.body), operation, writes=True)
        try:
            parts = parse_batch(content_type, answer.body)
        except BatchDamaged as damaged:
            raise self._unknown(operation, str(damaged)) from damaged
        failed = next((part for part in parts if part.status >= 400), None)
        if failed is not None:
            raise self._failed(failed, operation, writes=True)
        if len(parts) != len(changes) or any(not 200 <= part.status < 300 for part in parts):
            raise self._unknown(operation, f"{len(parts)} answers to {len(changes)} changes")

    def _read_parts(self, paths: Sequence[str], *, operation: str, page: bool) -> list[Part]:
        """One final answer per path (2xx or 404); parts that were throttled or failed are asked again."""
        answered: dict[int, Part] = {}
        numbers = list(range(len(paths)))
        for start in range(0, len(numbers), self._per_batch):
            pending = numbers[start : start + self._per_batch]

            def attempt(_: int, pending: list[int] = pending) -> None:
                self._ask([number for number in pending if number not in answered], paths, answered, operation, page)

            self._transport.policy.run(attempt, stop_before=self._transport.stop_before)
        return [answered[number] for number in numbers]

    def _ask(
        self, numbers: list[int], paths: Sequence[str], answered: dict[int, Part], operation: str, page: bool
    ) -> None:
        if not numbers:
            return
        boundary = new_boundary("batch")
        inner = {"Accept": "application/json", **_READ}
        if page:
            inner["Prefer"] = self._preference
        answer = self._transport.read(
            "POST",
            "$batch",
            operation=operation,
            kind="$batch",
            headers={
                **_ODATA,
                "Content-Type": f'multipart/mixed; boundary="{boundary}"',
                "Prefer": "odata.continue-on-error",
            },
            body=build_reads([self._inner(paths[number]) for number in numbers], boundary, inner),
            accept=(400,),
            check=lambda whole: self._check_batch(whole, len(numbers), operation, page),
        )
        parts = parse_batch(answer.headers.get("Content-Type", ""), answer.body)
        troubled: Part | None = None
        for number, part in zip(numbers, parts, strict=False):
            if 200 <= part.status < 300 or part.status == 404:
                answered[number] = part
            elif self._meaning(part, writes=False)[1]:
                troubled = troubled or part
            else:
                raise self._failed(part, operation)
        if troubled is not None or len(parts) < len(numbers):
            error = self._failed(troubled or Part(503, {}, b""), operation)
            if error.retry_after is not None:
                self._transport.gate.close_for(error.retry_after)
            raise Again(error, reason="a part of a batch was not answered", wait=error.retry_after)

    def _check_batch(self, answer: Answer, expected: int, operation: str, page: bool) -> None:
        content_type = answer.headers.get("Content-Type", "")
        if answer.status == 400 and boundary_of(content_type) is None:
            raise self._failed(Part(400, {}, answer.body), operation)
        try:
            parts = parse_batch(content_type, answer.body)
            for part in parts:
                if 200 <= part.status < 300:
                    value = part.json()
                    if page and not isinstance(value, int):
                        self._page(value)
        except BatchDamaged as damaged:
            raise self._protocol(operation, f"a batch that cannot be read: {damaged}") from damaged
        # Without continue-on-error the service stops at the first failure; then the last part says why.
        stopped = bool(parts) and len(parts) < expected and parts[-1].status >= 400
        if len(parts) != expected and not stopped:
            raise self._protocol(operation, f"{len(parts)} answers to a batch of {expected} requests")

    def _meaning(self, part: Part, *, writes: bool) -> tuple[type[RemoteError], bool]:
        """(error, may be repeated) of an inner answer that is not a success."""
        code, _ = parse_dataverse_error(part.status, part.body)
        special = classify_dataverse(part.status, code)
        if special is not None:
            return special, issubclass(special, Transient)
        meaning = meaning_of_write(part.status) if writes else meaning_of_read(part.status)
        return meaning.error or ProtocolError, meaning.repeat

    def _failed(self, part: Part, operation: str, *, writes: bool = False) -> RemoteError:
        kind, _ = self._meaning(part, writes=writes)
        code, text = parse_dataverse_error(part.status, part.body)
        code, text = redact(code)[:200], redact(text)
        now = self._transport.clock.now()
        wait = parse_retry_after(part.headers.get("retry-after"), now, self._transport.settings.max_retry_after)
        hints: dict[type[RemoteError], str] = {
            AuthError: "Check the security role of the application user in Dataverse.",
            PreconditionFailed: "Somebody changed the row meanwhile: it is read and decided again.",
            OutcomeUnknown: "Whether it was done is not known: the next run reads back before it sends anything.",
        }
        return kind(
            f"{SERVICE} answered '{operation}' with status {part.status}"
            + (f" ({code})" if code else "")
            + (f": {text[:500]}" if text else ""),
            service=SERVICE,
            operation=operation,
            status=part.status,
            code=code,
            text=text[:2000],
            request_id=redact(part.headers.get("x-ms-service-request-id") or part.headers.get("req_id") or "") or None,
            retry_after=wait,
            hint=hints.get(kind),
        )

    def _inner(self, path: str) -> str:
        """The request target inside a batch: our own paths from the root, links of the service as they came."""
        if "://" in path.partition("?")[0]:
            return self._transport.origin.resolve(path)
        resolved = self._transport.origin.resolve(path)
        return resolved[resolved.index("/", resolved.index("://") + 3) :]

    def _guard(self, link: str | None, seen: set[str], operation: str) -> None:
        if link is None:
            return
        self._transport.origin.resolve(link)
        if link in seen:
            raise self._protocol(operation, "a next link that it gave before")
        seen.add(link)

    @staticmethod
    def _page(value: object) -> tuple[list[Row], str | None]:
        rows = value.get("value") if isinstance(value, dict) else None
        link = value.get("@odata.nextLink") if isinstance(value, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ProtocolError(
                f"{SERVICE} answered a query without a list of rows", service=SERVICE, operation="read page"
            )
        if link is not None and not (isinstance(link, str) and link):
            raise ProtocolError(
                f"{SERVICE} gave a next link that is no address", service=SERVICE, operation="read page"
            )
        return rows, link

    @classmethod
    def _page_or_count(cls, value: object, *, counts: bool) -> tuple[list[Row], str | None]:
        return ([{"@odata.count": value}], None) if counts and isinstance(value, int) else cls._page(value)

    @classmethod
    def _check_page(cls, answer: Answer) -> None:
        cls._page(answer.json())

    @staticmethod
    def _object(answer: Answer) -> Row:
        value = answer.json()
        if not isinstance(value, dict):
            raise ProtocolError(
                f"{SERVICE} answered '{answer.operation}' with something else than a row",
                service=SERVICE,
                operation=answer.operation,
            )
        return value

    @classmethod
    def _check_object(cls, answer: Answer) -> None:
        cls._object(answer)

    @staticmethod
    def _require_etag(etag: str, operation: str) -> None:
        if not etag.strip() or etag.strip() == "*" or any(character in etag for character in "\r\n"):
            raise ProtocolError(
                f"refused '{operation}' without the ETag of the row as it was read",
                service=SERVICE,
                operation=operation,
            )

    @staticmethod
    def _protocol(operation: str, what: str) -> ProtocolError:
        return ProtocolError(f"{SERVICE} answered '{operation}' with {what}", service=SERVICE, operation=operation)

    @staticmethod
    def _unknown(operation: str, what: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"whether '{operation}' was done is not known: {what}",
            service=SERVICE,
            operation=operation,
            hint="The next run reads back before it sends anything.",
        )
