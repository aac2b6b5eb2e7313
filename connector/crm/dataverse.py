"""A thin Dataverse Web API client on the one transport: pages, batches, conditional writes. It has no delete call.

Source: Microsoft docs, "Use the Microsoft Dataverse Web API" (query, page results, conditional operations, batch,
service protection limits).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from connector.crm.batch import (
    MAX_PARTS,
    BatchDamaged,
    Change,
    Creation,
    Part,
    boundary_of,
    build_change_set,
    build_reads,
    new_boundary,
    parse_batch,
    parse_leading,
    split_set,
)
from connector.crm.meanings import (
    SERVICE,
    failure_of,
    meaning_of_part,
    not_known,
    not_understood,
    parse_dataverse_error,
    refused,
)
from connector.errors import ProtocolError, Rejected, RemoteError
from connector.http.retry import Again
from connector.http.transport import Answer, Transport

Row = dict[str, Any]

logger = logging.getLogger(__name__)

ROWS_PER_PART = 500
"""Rows in a page of a query inside a batch: as many as one query has ids for, so most need no second page."""
ROWS_PER_BATCH = 15_000
"""Rows that one batch may bring: at 1 to 2 KB a row well below what the transport takes as one answer."""
_MOST_CONCURRENT = 52
_PLAIN = "(),=$;'/:@.*"
_ODATA = {"OData-MaxVersion": "4.0", "OData-Version": "4.0"}
# Answers may come from a cache on the way unless this is asked for (Microsoft docs: "Compose HTTP requests").
_READ = {**_ODATA, "If-None-Match": "null"}

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
        inner = min(page_size, ROWS_PER_PART)
        self._inner_preference = f"odata.maxpagesize={inner}"
        self._per_read = max(1, min(self._per_batch, ROWS_PER_BATCH // inner))

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

    def read_many(self, paths: Sequence[str], *, operation: str, closing: Sequence[int] = ()) -> list[list[Row]]:
        """The rows of several queries, in order, through as few ``$batch`` requests as their pages allow.

        A path that asks for ``/$count`` gives one row with the number (at most 5,000) under ``@odata.count``.
        ``closing`` are the last queries (their places): they are answered after everything else, and asked once more if
        further pages or parts that failed at first came behind them.
        """
        rows, seen = [list[Row]() for _ in paths], [set[str]() for _ in paths]
        if self._read_on(dict(enumerate(paths)), paths, rows, seen, operation):
            self._close(closing, paths, rows, operation)
        return rows

    def _close(self, closing: Sequence[int], paths: Sequence[str], rows: list[list[Row]], operation: str) -> None:
        """Ask the closing queries once more."""
        again = self.read_many([paths[number] for number in closing], operation=operation)
        for number, found in zip(closing, again, strict=True):
            rows[number] = found

    def _read_on(
        self,
        links: dict[int, str],
        paths: Sequence[str],
        rows: list[list[Row]],
        seen: list[set[str]],
        operation: str,
    ) -> bool:
        """Follow the links of queries (number → link) to their ends, those of all in common batches.

        Whether anything was answered later than what stands behind it.
        """
        late = False
        while links:
            parts, repeated = self._read_parts(list(links.values()), operation=operation, page=True)
            links = self._take_pages(dict(zip(links, parts, strict=True)), paths, rows, seen, operation)
            late = late or repeated or bool(links)
        return late

    def _take_pages(
        self,
        parts: Mapping[int, Part],
        paths: Sequence[str],
        rows: list[list[Row]],
        seen: list[set[str]],
        operation: str,
    ) -> dict[int, str]:
        """Keep a page of each query; which of them go on, and where."""
        links: dict[int, str] = {}
        for number, part in parts.items():
            if part.status == 404:
                raise self._failed(part, operation)
            page, link = self._page_or_count(part.json(), counts=COUNT in paths[number].partition("?")[0])
            rows[number] += page
            self._guard(link, seen[number], operation)
            if link is not None:
                links[number] = link
        return links

    def get_many(self, paths: Sequence[str], *, operation: str) -> list[Row | None]:
        """Several resources through ``$batch``; None where there is none (404)."""
        parts, _ = self._read_parts(paths, operation=operation, page=False)
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

    def change_set(
        self,
        changes: Sequence[Change | Creation],
        *,
        operation: str,
        then_read: Sequence[str] = (),
        closing: Sequence[int] = (),
    ) -> list[list[Row]] | None:
        """Several conditional PATCHes, in order, all or nothing; then, in the same request, what :meth:`read_many` reads.

        Raises PreconditionFailed when a row moved, Rejected and Transient when nothing was done, OutcomeUnknown when
        the answer was lost, damaged, or does not account for every change. Once the changes are known to be done
        nothing is raised any more: None when not every query was answered to its last page, or none was asked.
        """
        if not changes:
            return None
        for change in changes:
            if isinstance(change, Change):
                self._require_etag(change.etag, operation)
        if len(changes) > MAX_PARTS:
            raise Rejected(
                f"{len(changes)} changes do not fit into one change set of {MAX_PARTS}",
                service=SERVICE,
                operation=operation,
            )
        fits = len(then_read) <= min(self._per_read, MAX_PARTS - len(changes))
        reads = list(then_read) if fits else []
        boundary = new_boundary("batch")
        answer = self._transport.write(
            "POST",
            "$batch",
            operation=operation,
            kind="$batch (change set)",
            headers={**_ODATA, "Content-Type": f'multipart/mixed; boundary="{boundary}"'},
            # Without continue-on-error: a set that fails ends the batch before its reads.
            body=build_change_set(
                [replace(change, path=self._inner(change.path)) for change in changes],
                boundary,
                new_boundary("changeset"),
                [self._inner(path) for path in reads],
                self._inner_headers(page=True),
            ),
            accept=(400,),
        )
        content_type = answer.headers.get("Content-Type", "")
        if boundary_of(content_type) is None and answer.status == 400:
            if not any(parse_dataverse_error(400, answer.body)):
                # A page of something in between: the service itself says why it refuses.
                raise not_known(operation, "an answer with status 400 that is not the service's own")
            # The service refused the batch as a whole before it ran anything.
            raise self._failed(Part(400, {}, answer.body), operation, writes=True)
        try:
            parts = parse_leading(content_type, answer.body) if reads else parse_batch(content_type, answer.body)
            failed, following = split_set(parts, len(changes), reads=bool(reads))
        except BatchDamaged as damaged:
            raise not_known(operation, str(damaged)) from damaged
        if failed is not None:
            raise self._failed(failed, operation, writes=True)
        return self._after_set(reads, closing, following, operation) if reads else None

    def _after_set(
        self, paths: Sequence[str], closing: Sequence[int], parts: Sequence[Part], operation: str
    ) -> list[list[Row]] | None:
        """The rows of queries that followed a change set, all pages; None if anything of them is missing."""
        try:
            for part in parts:
                if not 200 <= part.status < 300:
                    raise self._closing_gate(self._failed(part, operation))
            if len(parts) != len(paths):
                raise not_understood(operation, f"{len(parts)} answers to {len(paths)} queries")
            rows, seen = [list[Row]() for _ in paths], [set[str]() for _ in paths]
            links = self._take_pages(dict(enumerate(parts)), paths, rows, seen, operation)
            if links:
                self._read_on(links, paths, rows, seen, operation)
                self._close(closing, paths, rows, operation)
        except (BatchDamaged, RemoteError) as trouble:
            logger.info("%s: done, and what was to be read after it is read again: %s", operation, trouble)
            return None
        return rows

    def _closing_gate(self, error: RemoteError) -> RemoteError:
        """The same error; if it names a wait, nobody sends anything before that is over."""
        if error.retry_after is not None:
            self._transport.gate.close_for(error.retry_after)
        return error

    def _inner_headers(self, *, page: bool) -> dict[str, str]:
        """The headers of a read inside a batch."""
        return {"Accept": "application/json", **_READ, **({"Prefer": self._inner_preference} if page else {})}

    def _failed(self, part: Part, operation: str, *, writes: bool = False) -> RemoteError:
        longest = self._transport.settings.max_retry_after
        return failure_of(part, operation, now=self._transport.clock.now(), longest_wait=longest, writes=writes)

    def _read_parts(self, paths: Sequence[str], *, operation: str, page: bool) -> tuple[list[Part], bool]:
        """One final answer per path (2xx or 404); parts that were throttled or failed are asked again, which is said."""
        repeated = False
        answered: dict[int, Part] = {}
        numbers = list(range(len(paths)))
        most = self._per_read if page else self._per_batch
        for start in range(0, len(numbers), most):
            pending = numbers[start : start + most]

            def attempt(turn: int, pending: list[int] = pending) -> None:
                nonlocal repeated
                repeated = repeated or turn > 1
                self._ask([number for number in pending if number not in answered], paths, answered, operation, page)

            self._transport.policy.run(attempt, stop_before=self._transport.stop_before)
        return [answered[number] for number in numbers], repeated

    def _ask(
        self, numbers: list[int], paths: Sequence[str], answered: dict[int, Part], operation: str, page: bool
    ) -> None:
        if not numbers:
            return
        boundary = new_boundary("batch")
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
            body=build_reads(
                [self._inner(paths[number]) for number in numbers], boundary, self._inner_headers(page=page)
            ),
            accept=(400,),
            check=lambda whole: self._check_batch(whole, len(numbers), operation, page),
        )
        parts = parse_batch(answer.headers.get("Content-Type", ""), answer.body)
        troubled: Part | None = None
        for number, part in zip(numbers, parts, strict=False):
            if 200 <= part.status < 300 or part.status == 404:
                answered[number] = part
            elif meaning_of_part(part, writes=False)[1]:
                troubled = troubled or part
            else:
                raise self._failed(part, operation)
        if troubled is not None or len(parts) < len(numbers):
            error = self._closing_gate(self._failed(troubled or Part(503, {}, b""), operation))
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
            raise not_understood(operation, f"a batch that cannot be read: {damaged}") from damaged
        # Without continue-on-error the service stops at the first failure; then the last part says why.
        stopped = bool(parts) and len(parts) < expected and parts[-1].status >= 400
        if len(parts) != expected and not stopped:
            raise not_understood(operation, f"{len(parts)} answers to a batch of {expected} requests")

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
            raise not_understood(operation, "a next link that it gave before")
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
            raise refused(operation, "without the ETag of the row as it was read")
