"""The journal and the state of things on a terminal, wide or narrow, from the documents of :mod:`connector.bookkeeping`.

What people wrote (notes, reasons, names) is shown as plain text, never as markup or terminal escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from connector.report.terminal import plain

Document = Mapping[str, Any]

_STATES = {"confirmed": "green", "settled": "green", "rejected": "dim", "unknown": "red", "sending": "yellow"}


def intents_view(document: Document) -> RenderableType:
    """``journal list``: one row per money write."""
    if document["missing"]:
        return Text(f"There is no journal yet at {document['journal']}: nothing was ever sent from here.")
    if not document["intents"]:
        return Text("No intent matches.")
    return _intents(document["intents"])


def _intents(intents: Iterable[Document]) -> Rows:
    table = _table(("Intent", "Planned (UTC)", "State", "Seats", "Subscription at provider", "Run by", "Note"))
    for one in intents:
        table.add_row(
            one["id"][:12],
            short_instant(one["created_at"]),
            Text(one["state"], style=_STATES.get(one["state"], "")),
            f"{one['before']} → {one['target']}",
            plain(one["provider_subscription"]),
            plain(one["operator"] or "?"),
            plain(one["note"]),
        )
    return table


def show_view(document: Document) -> RenderableType:
    """``journal show``: one intent or one run, whole."""
    return _intent_view(document) if "intent" in document else _run_view(document)


def _intent_view(document: Document) -> RenderableType:
    one = document["intent"]
    steps = _table(("At (UTC)", "State", "Sends", "Note"))
    for event in document["history"]:
        steps.add_row(short_instant(event["at"]), event["state"], str(event["attempts"]), plain(event["note"]))
    terms = [
        ("intent", one["id"]),
        ("state", one["state"] + (" (open)" if one["open"] else "")),
        ("seats", f"{one['before']} → {one['target']}"),
        ("provider", f"{one['provider']}, tenant {one['tenant']}, subscription {one['provider_subscription']}"),
        ("family", one["family"]),
        ("carries", ", ".join(one["log_ids"]) or "nothing"),
        ("request id", one["request_id"]),
        ("run", f"{one['run_id']} by {one['operator'] or '?'}"),
        ("note", one["note"] or "none"),
    ]
    return Group(_terms(terms), steps, _trail(document["audit"]))


def _run_view(document: Document) -> RenderableType:
    run = document["run"]
    terms = [
        ("run", run["id"]),
        ("command", f"{run['command']} by {run['operator']}, linksub {run['version']}"),
        ("started", short_instant(run["started_at"])),
        ("ended", _ending(run)),
        ("families", str(run["families"])),
    ]
    if run["error"]:
        terms.append(("error", run["error"]))
    intents: RenderableType = _intents(document["intents"]) if document["intents"] else Text("It sent nothing.")
    return Group(_terms(terms), intents, _trail(document["audit"]))


def _trail(entries: Iterable[Document]) -> Rows:
    table = _table(("#", "At (UTC)", "Event", "Detail"), title="Audit trail")
    for entry in entries:
        detail = ", ".join(f"{key} {value}" for key, value in entry["detail"].items() if value not in ("", None, []))
        table.add_row(str(entry["seq"]), short_instant(entry["at"]), plain(entry["event"]), plain(detail))
    return table


def settled_view(document: Document) -> RenderableType:
    """``journal settle``: what was written down."""
    one = document["intent"]
    return plain(f"Intent {one['id']} is settled by {document['operator']}: {one['note']}")


def verified_view(document: Document) -> RenderableType:
    """``journal verify``: every problem, or that there is none."""
    if document["missing"]:
        return Text(f"There is no journal yet at {document['journal']}.")
    if document["sound"]:
        return Text(f"The journal {document['journal']} is as it was written ({document['entries']} audit entries).")
    problems = [Padding(plain(problem, "red"), (0, 0, 0, 2), expand=False) for problem in document["problems"]]
    return Group(Text(f"The journal {document['journal']} is not as it was written:", style="bold red"), *problems)


# --- status ------------------------------------------------------------------------------------------------------


def status_view(document: Document) -> RenderableType:
    """``status``: what wants attention first, then how the last runs went."""
    parts: list[RenderableType] = [_terms(_state_of_things(document))]
    if document["runs"]:
        parts.append(_runs(document["runs"]))
    if document["open_intents"]:
        parts += [Text("Open intents: what became of these is not settled yet", style="bold red")]
        parts.append(_intents(document["open_intents"]))
    if document["attention"]:
        table = _table(("Family", "State", "Why", "What to do"), title="For a person (last run)")
        for one in document["attention"]:
            table.add_row(plain(one["name"]), one["state"], plain(one["reason"]), plain(one["remedy"]))
        parts.append(table)
    if document["deferred"]:
        table = _table(("Family", "Not before (UTC)", "Tries", "Why"), title="Deferred")
        for one in document["deferred"]:
            until = short_instant(one["until"]) + (" (over: the next run tries)" if one["over"] else "")
            table.add_row(plain(one["name"] or one["family"]), until, str(one["tries"]), plain(one["reason"]))
        parts.append(table)
    if document["leases"]:
        table = _table(("Family", "Holder", "Until (UTC)"), title="Leases")
        for one in document["leases"]:
            until = short_instant(one["until"]) + (" (ran out)" if one["expired"] else "")
            table.add_row(one["family"], plain(one["holder"]), until)
        parts.append(table)
    return Group(*parts)


def _state_of_things(document: Document) -> Sequence[tuple[str, str]]:
    health, switch, oldest = document["health"], document["kill_switch"], document["oldest_waiting"]
    rows = [
        ("journal", f"{health['state']} ({health['journal']})"),
        ("running now", document["running"] or "nothing"),
        ("kill switch", f"ON: {switch['file']} {switch['text'] or ''}".rstrip() if switch["on"] else "off"),
        (
            "oldest waiting change",
            "none"
            if oldest is None
            else f"{span(oldest['age_seconds'])}, log {oldest['log']} (by the last run's report)",
        ),
    ]
    if health["problem"]:
        rows += [("problem", health["problem"]), ("what to do", health["hint"] or "see docs/runbook.md")]
    rows += [("set aside", path) for path in document["set_aside"]]
    rows += [
        (cache["name"].partition(":")[0], f"{span(cache['age_seconds'])} old")
        for cache in document["caches"]
        if cache["age_seconds"] is not None
    ]
    return rows


def _runs(runs: Iterable[Document]) -> Rows:
    table = _table(("Started (UTC)", "Run", "Command", "Exit", "Seconds", "Families", "Error"), title="Last runs")
    for run in runs:
        code = run["exit_code"]
        table.add_row(
            short_instant(run["started_at"]),
            run["id"][:12],
            plain(run["command"]),
            Text("not ended" if code is None else str(code), style="green" if code == 0 else "yellow"),
            "–" if run["seconds"] is None else str(run["seconds"]),
            str(run["families"]),
            plain(run["error"] or ""),
        )
    return table


def _ending(run: Document) -> str:
    if run["ended_at"] is None:
        return "not yet, or its process died"
    return f"{short_instant(run['ended_at'])} with exit code {run['exit_code']} after {run['seconds']} s"


# --- shared ------------------------------------------------------------------------------------------------------


def short_instant(text: str) -> str:
    """An instant of a document to the second: 2026-03-02 14:00:00."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: int | None) -> str:
    """How long something lasted, in the two largest units: ``3 h 5 min``."""
    if seconds is None:
        return "unknown"
    for unit, size, below, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{seconds} s"


_NARROW = 100
"""Below this many columns of a terminal, a row of a wide table is shown as a block of its own."""


class Rows:
    """A table where there is room for one, else one block per row. Nothing is ever cut off."""

    def __init__(self, columns: Sequence[str], title: str | None = None) -> None:
        self._columns = columns
        self._title = title
        self._rows: list[tuple[Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """One cell per column; a Text is linksub's own, everything else is shown as plain text."""
        self._rows.append(tuple(cell if isinstance(cell, Text) else plain(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if len(self._columns) <= 3 or options.max_width >= _NARROW:
            table = Table(title=self._title, title_justify="left", box=box.SIMPLE_HEAD, safe_box=True, pad_edge=False)
            for column in self._columns:
                table.add_column(column, overflow="fold")
            for row in self._rows:
                table.add_row(*row)
            yield table
            return
        if self._title is not None:
            yield Text(self._title, style="italic")
        for row in self._rows:
            yield Padding(_terms([pair for pair in zip(self._columns, row, strict=True) if str(pair[1])]), (0, 0, 1, 2))


def _table(columns: Sequence[str], *, title: str | None = None) -> Rows:
    return Rows(columns, title)


def _terms(rows: Iterable[tuple[str, str | Text]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else plain(value))
    return table
