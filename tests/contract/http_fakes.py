"""What the contract tests of the edges share: a clock that waiting moves, tokens, a transport, and a small Dataverse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import responses

from connector.crm.meanings import classify_dataverse, parse_dataverse_error
from connector.http.counter import RequestCounter
from connector.http.gate import RateGate
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import Transport, TransportSettings
from connector.mapping import CrmMapping

ORG = "https://contoso.crm.dynamics.com"
API = f"{ORG}/api/data/v9.2"
START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


class FakeClock:
    """Waiting moves it; ``slept`` is what was waited for."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


class FakeTokens:
    """``token-1``, and the next number after each refresh."""

    def __init__(self) -> None:
        self.number = 1

    def token(self) -> str:
        return f"token-{self.number}"

    def refresh(self) -> None:
        self.number += 1


def make_transport(clock: FakeClock, **more: Any) -> Transport:
    """A transport to a fictitious Dataverse, without jitter."""
    options: dict[str, Any] = {
        "service": "dataverse",
        "origin": Origin(API, service="dataverse"),
        "session": make_session(),
        "auth": FakeTokens(),
        "gate": RateGate(clock),
        "clock": clock,
        "counter": RequestCounter(),
        "settings": TransportSettings(),
        "parse_error": parse_dataverse_error,
        "classify": classify_dataverse,
        "jitter": lambda: 0.0,
    }
    return Transport(**{**options, **more})


Reply = tuple[int, dict[str, str], str]


def multipart(parts: list[Reply], boundary: str = "batchresponse_1") -> tuple[str, bytes]:
    """(content type, body) of a batch answer."""
    text = "".join(_part(*part, boundary=boundary) for part in parts)
    return f"multipart/mixed; boundary={boundary}", (text + f"--{boundary}--\r\n").encode()


BATCH_KIND = "multipart/mixed; boundary=batchresponse_1"


def _part(status: int, headers: dict[str, str], body: str, boundary: str = "batchresponse_1") -> str:
    text = f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return text + f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + f"\r\n{body}\r\n"


class FakeDataverse:
    """Just enough of a Dataverse, made from a mapping: metadata, queries as linksub sends them, batches, PATCH.

    Navigation names are upper-case and choice numbers odd, so that whoever guesses them fails.
    """

    def __init__(self, mapping: CrmMapping) -> None:
        self.mapping = mapping
        self.rows: dict[str, list[dict[str, Any]]] = {table.logical_name: [] for table in mapping.tables.values()}
        self.requests: list[tuple[str, str]] = []
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.version = 1000
        self.page_size = 5000
        self.largest = 0
        self.interfere: Callable[[str, str], Reply | None] = lambda method, path: None
        self.missing: set[str] = set()
        self.kinds: dict[str, str] = {}
        self.lengths: dict[str, int] = {}
        self.labels: dict[int, str] = {}
        self.choices: dict[str, dict[str, int]] = {}
        number = 700_001
        for choice, keys in mapping.choices.items():
            self.choices[choice] = {}
            for key, labels in keys.items():
                self.choices[choice][key] = number
                self.labels[number] = labels[0].upper()
                number += 2

    def install(self, mock: responses.RequestsMock) -> None:
        anywhere = re.compile(re.escape(API) + "/.*")
        for method in ("GET", "POST", "PATCH", "DELETE"):
            mock.add_callback(method, anywhere, callback=self._answer)

    def add(self, word: str, row_id: str, **values: Any) -> dict[str, Any]:
        """Add a row by linksub's words; choice values by key, lookups by id."""
        table = self.mapping.tables[word]
        self.version += 1
        row: dict[str, Any] = {"@odata.etag": f'W/"{self.version}"', f"{table.logical_name}id": row_id}
        for column in table.columns.values():
            row[self._property(column)] = None
        for name, value in values.items():
            column = table.columns[name]
            if column.choice is not None and isinstance(value, str):
                value = self.choices[column.choice][value]
            row[self._property(column)] = value
        self.rows[table.logical_name].append(row)
        return row

    @staticmethod
    def _property(column: Any) -> str:
        return f"_{column.column}_value" if column.lookup else column.column

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes | str]:
        assert request.url is not None and request.method is not None
        path = request.url[len(ORG) :]
        self.requests.append((request.method, path))
        special = self.interfere(request.method, path)
        if special is not None:
            return special
        if path.endswith("/$batch"):
            return self._batch(request)
        return self.one(request.method, path, request.headers.get("If-Match"), request.body or b"")

    def _batch(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        body = request.body
        assert isinstance(body, bytes) and b"\r\n" in body and b"\n" not in body.replace(b"\r\n", b"")
        text = body.decode()
        inner = re.findall(r"\r\n\r\n(GET|PATCH) (\S+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n([^\r\n]*)", text)
        changes = [part for part in inner if part[0] == "PATCH"]
        goes_on = "odata.continue-on-error" in request.headers.get("Prefer", "")
        status, whole = 200, ""
        if changes:
            status, whole = self._change_set(changes)
        for method, path, headers, _ in inner if status == 200 else ():
            if method == "GET":
                page = re.search(r"odata\.maxpagesize=(\d+)", headers)
                part = self.interfere("inner GET", path) or self.one(
                    method, path, None, b"", page=int(page[1]) if page else None
                )
                whole += _part(*part)
                if part[0] >= 400 and not goes_on:
                    status = 400
                    break
        self.largest = max(self.largest, len(whole))
        return status, {"Content-Type": BATCH_KIND}, f"{whole}--batchresponse_1--\r\n".encode()

    def _change_set(self, changes: list[tuple[str, str, str, str]]) -> tuple[int, str]:
        """(outer status, what stands in the answer for the set): all of it or nothing is done."""
        before = json.dumps(self.rows), len(self.patches)
        for _, path, headers, content in changes:
            etag = re.search(r"If-Match: (.*)\r\n", headers)
            creates = "If-None-Match: *\r\n" in headers
            status, _, answer = self.interfere("inner PATCH", path) or self.one(
                "PATCH", path, etag[1] if etag else None, content.encode(), creates=creates
            )
            if status >= 400:
                self.rows = json.loads(before[0])
                del self.patches[before[1] :]
                return 400, _part(status, {}, str(answer))
        kind, nested = multipart([(204, {}, "") for _ in changes], "changesetresponse_1")
        return 200, f"--batchresponse_1\r\nContent-Type: {kind}\r\n\r\n{nested.decode()}"

    def one(
        self,
        method: str,
        path: str,
        etag: str | None,
        body: bytes | str,
        *,
        page: int | None = None,
        creates: bool = False,
    ) -> Reply:
        parts = urlsplit(path)
        name = parts.path.split("/api/data/v9.2/")[1]
        if method == "DELETE":
            raise AssertionError("linksub never deletes")
        if method == "PATCH":
            return self._create(name, json.loads(body)) if creates else self._patch(name, etag, json.loads(body))
        options = dict(item.split("=", 1) for item in unquote(parts.query).split("&")) if parts.query else {}
        if name.startswith("EntityDefinitions"):
            return self._definition(name)
        if name == "WhoAmI":
            return 200, {"x-ms-dop-hint": "60"}, json.dumps({"UserId": "u", "OrganizationId": "o"})
        table = name.removesuffix("set")
        found = [
            self._shown(row, table, options) for row in self.rows[table] if self._matches(row, options.get("$filter"))
        ]
        start = int(options.get("$skiptoken", "0"))
        size = min(self.page_size, page or self.page_size)
        answer: dict[str, Any] = {"value": found[start : start + size]}
        if start + size < len(found):
            answer["@odata.nextLink"] = (
                f"{ORG}{parts.path}?{parts.query.split('&$skiptoken')[0]}&$skiptoken={start + size}"
            )
        return 200, {"Content-Type": "application/json"}, json.dumps(answer)

    def _create(self, name: str, values: dict[str, Any]) -> Reply:
        match = re.fullmatch(r"(\w+)set\(([0-9a-f-]+)\)", name)
        assert match is not None
        table = next(table for table in self.mapping.tables.values() if table.logical_name == match[1])
        if any(row[f"{match[1]}id"] == match[2] for row in self.rows[match[1]]):
            return 412, {}, json.dumps({"error": {"code": "0x80040237", "message": "It exists."}})
        self.version += 1
        row = {"@odata.etag": f'W/"{self.version}"', f"{match[1]}id": match[2]}
        row.update({self._property(column): None for column in table.columns.values()})
        row["createdon"] = f"{START:%Y-%m-%dT%H:%M:%SZ}"
        for key, value in values.items():
            if key.endswith("@odata.bind"):
                bound = re.fullmatch(r"/\w+set\(([0-9a-f-]+)\)", value)
                assert bound is not None
                key, value = f"_{key.removesuffix('@odata.bind').lower()}_value", bound[1]
            assert key in row, key
            row[key] = value
        self.rows[match[1]].append(row)
        self.patches.append((name, values))
        return 204, {}, ""

    def _patch(self, name: str, etag: str | None, values: dict[str, Any]) -> Reply:
        match = re.fullmatch(r"(\w+)set\(([0-9a-f-]+)\)", name)
        assert match is not None
        row = next(row for row in self.rows[match[1]] if row[f"{match[1]}id"] == match[2])
        if row["@odata.etag"] != etag:
            return 412, {}, json.dumps({"error": {"code": "0x80060882", "message": "The version does not match."}})
        assert values.keys() <= row.keys()
        self.version += 1
        row.update(values, **{"@odata.etag": f'W/"{self.version}"'})
        self.patches.append((name, values))
        return 204, {}, ""

    def _shown(self, row: dict[str, Any], table: str, options: dict[str, str]) -> dict[str, Any]:
        select = options["$select"].split(",")
        assert set(select) <= row.keys(), set(select) - row.keys()
        shown = {name: row[name] for name in ("@odata.etag", *select)}
        if "$expand" in options:
            expanded = re.fullmatch(r"([A-Z0-9_]+)\(\$select=([^;()]*)\)", options["$expand"])
            assert expanded is not None, options["$expand"]
            target = row[f"_{expanded[1].lower()}_value"]
            inner = [other for rows in self.rows.values() for other in rows if target in list(other.values())[1:2]]
            shown[expanded[1]] = {n: inner[0][n] for n in ("@odata.etag", *expanded[2].split(","))} if inner else None
        return shown

    @staticmethod
    def _matches(row: dict[str, Any], condition: str | None) -> bool:
        if condition is None:
            return True

        def value(name: str) -> Any:
            return row[name] if name in row else row[f"_{name}_value"]

        return bool(eval(_translated(condition), {"value": value}))

    def _definition(self, name: str) -> Reply:
        match = re.match(r"EntityDefinitions\(LogicalName='(\w+)'\)(?:/(.*))?$", name)
        assert match is not None
        table = next((t for t in self.mapping.tables.values() if t.logical_name == match[1]), None)
        if table is None or match[1] in self.missing:
            return 404, {}, json.dumps({"error": {"code": "0x80040217", "message": "no such table"}})
        columns = {c.column: c for c in table.columns.values() if f"{match[1]}.{c.column}" not in self.missing}
        what = (match[2] or "").split("?")[0]
        answer: dict[str, Any]
        if not what:
            answer = {"EntitySetName": f"{match[1]}set", "PrimaryIdAttribute": f"{match[1]}id"}
        elif what == "Attributes":
            answer = {
                "value": [
                    {"LogicalName": c, "AttributeType": self._kind(m), "AttributeOf": None} for c, m in columns.items()
                ]
            }
        elif what == "ManyToOneRelationships":
            answer = {
                "value": [
                    {
                        "ReferencingAttribute": c,
                        "ReferencedEntity": self.mapping.tables[m.lookup].logical_name,
                        "ReferencingEntityNavigationPropertyName": c.upper(),
                    }
                    for c, m in columns.items()
                    if m.lookup
                ]
            }
        elif what.endswith(("StringAttributeMetadata", "MemoAttributeMetadata")):
            kind = "Memo" if "Memo" in what else "String"
            answer = {
                "value": [
                    {"LogicalName": c, "MaxLength": self.lengths.get(c, 40)}
                    for c, m in columns.items()
                    if self._kind(m) == kind
                ]
            }
        else:
            kind = what.split(".")[-1].removesuffix("AttributeMetadata")
            answer = {"value": [self._options(c, m) for c, m in columns.items() if self._kind(m) == kind]}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer)

    def _kind(self, column: Any) -> str:
        if column.column in self.kinds:
            return self.kinds[column.column]
        if column.lookup:
            return "Lookup"
        if column.choice:
            return {"statecode": "State", "statuscode": "Status"}.get(column.column, "Picklist")
        return "Memo" if column.column.endswith("message") else "String"

    def _options(self, name: str, column: Any) -> dict[str, Any]:
        options = [
            {"Value": number, "Label": {"LocalizedLabels": [{"Label": self.labels[number], "LanguageCode": 1033}]}}
            for number in self.choices[column.choice].values()
        ]
        return {"LogicalName": name, "OptionSet": {"Options": options}, "GlobalOptionSet": None}


@lru_cache(maxsize=64)
def _translated(condition: str) -> Any:
    """A filter as linksub writes them, as Python over ``value(column)``."""
    pattern = r"Microsoft\.Dynamics\.CRM\.In\(PropertyName='(\w+)',PropertyValues=\[([^\]]*)\]\)"
    text = re.sub(pattern, r"(value('\1') in {\2})", condition)
    text = re.sub(r"(\b\w+) eq null", r"(value('\1') is None)", text)
    text = re.sub(r"(\b\w+) eq ('[^']*'|-?\d+)", r"(value('\1') == \2)", text)
    text = re.sub(r"startswith\((\w+),('[^']*')\)", r"(str(value('\1') or '').lower().startswith(\2))", text)
    text = re.sub(r"(\b\w+) ge ([0-9TZ:-]+)", r"(value('\1') >= '\2')", text)
    return compile(text, "<filter>", "eval")
