"""A small world behind the emulated Dataverse, and a client of a few lines that talks to its ``handle``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from connector.sandbox.dataverse import DataverseOptions, DataverseService
from connector.sandbox.schema import Schema
from connector.sandbox.store import Store
from connector.sandbox.wire import Request, Response

ORIGIN = "https://org.example"
ROOT = ORIGIN + "/api/data/v9.2/"
START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
SCHEMA = Schema.load()


def guid(number: int, kind: str = "a") -> str:
    return f"00000000-0000-4000-8000-{kind}{number:011x}"


ACME, BOLT, CITY = guid(1), guid(2), guid(3)
JO, KIM = guid(1, "c"), guid(2, "c")
DOLLAR = guid(1, "d")


@dataclass
class Answer:
    response: Response

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def text(self) -> str:
        return self.response.body.decode("utf-8")

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.json["value"]
        return rows

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])

    def header(self, name: str) -> str | None:
        return self.response.header(name)


class World:
    """Three accounts, two contacts and a currency; the clock is moved by hand."""

    def __init__(self, *, rows: bool = True, **options: Any) -> None:
        self.time = START
        self.verdict = "ok"
        self.store = Store(SCHEMA, lambda: self.time)
        self.service = DataverseService(
            self.store, now=lambda: self.time, authorize=lambda _: self.verdict, options=DataverseOptions(**options)
        )
        if rows:
            self._fill()

    def _fill(self) -> None:
        with self.store.silent():
            currency = {"currencyname": "US Dollar", "isocurrencycode": "USD", "currencysymbol": "$"}
            self.store.create("transactioncurrency", currency, id=DOLLAR)
            self.store.create(
                "contact", {"firstname": "Jo", "lastname": "Bloggs", "emailaddress1": "jo@x.example"}, id=JO
            )
            self.store.create(
                "contact", {"firstname": "Kim", "lastname": "Łuc", "emailaddress1": "kim@x.example"}, id=KIM
            )
            for number, (row_id, name) in enumerate([(ACME, "Acme"), (BOLT, "Bolt O'Neil"), (CITY, "city")], start=1):
                values = {
                    "name": name,
                    "accountnumber": f"ACC-{number}",
                    "numberofemployees": number * 10,
                    "revenue": number * 1000,
                    "transactioncurrencyid": DOLLAR,
                    "industrycode": 7 if number == 1 else None,
                    "primarycontactid": JO if number < 3 else None,
                }
                self.store.create("account", values, id=row_id)

    def wait(self, **span: float) -> None:
        self.time += timedelta(**span)

    def send(self, method: str, address: str, body: Any = None, *, prefer: str | None = None, **headers: str) -> Answer:
        """``address`` is relative to the service root, or absolute; underscores in header names become hyphens."""
        parts = urlsplit(address if "://" in address else ROOT + address)
        sent = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if prefer is not None:
            sent["prefer"] = prefer
        if isinstance(body, (bytes, str)):
            raw = body.encode("utf-8") if isinstance(body, str) else body
        else:
            raw = b"" if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8")
        return Answer(self.service.handle(Request(method, parts.path, parts.query, sent, raw, ORIGIN)))

    def get(self, address: str, **headers: str) -> Answer:
        return self.send("GET", address, **headers)

    def etag(self, set_name: str, row_id: str) -> str:
        return str(self.get(f"{set_name}({row_id})").json["@odata.etag"])
