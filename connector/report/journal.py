"""The journal and the state of things on a terminal, wide or narrow, from the documents of :mod:`connector.bookkeeping`.

What people wrote (notes, reasons, names) is shown as plain text, never as markup or terminal escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from connector.report.layout import Line, Rows, Terms, plain

Document = Mapping[str, Any]

_STATES = {"confirmed": "green", "settled": "green", "rejected": "dim", "unknown": "red", "sending": "yellow"}


def intents_view(document: Document) -> RenderableType:
    """``journal list``: one row per money write."""
    if document["missing"]:
        return Line(f"There is no journal yet at {document['journal']}: nothing was ever sent from here.", whole=True)
    if not document["intents"]:
        return Text("No intent matches.")
    return _intents(document["intents"])


def _intents(intents: Iterable[Document]) -> Rows:
    table = Rows(("Intent", "Planned (UTC)", "State", "Seats", "Subscription at provider", "Run by", "Note"))
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
    steps = Rows(("At (UTC)", "State", "Sends", "Note"))
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
    return Group(Terms(terms), steps, _trail(document["audit"]))


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
    return Group(Terms(terms), intents, _trail(document["audit"]))


def _trail(entries: Iterable[Document]) -> Rows:
    table = Rows(("#", "At (UTC)", "Event", "Detail"), "Audit trail")
    for entry in entries:
        detail = ", ".join(f"{key} {value}" for key, value in entry["detail"].items() if value not in ("", None, []))
        table.add_row(str(entry["seq"]), short_instant(entry["at"]), plain(entry["event"]), plain(detail))
    return table


def settled_view(document: Document) -> RenderableType:
    """``journal settle``: what was written down."""
    one = document["intent"]
    return Line(f"Intent {one['id']} is settled by {document['operator']}: {one['note']}")


def verified_view(document: Document) -> RenderableType:
    """``journal verify``: every problem, or that there is none."""
    if document["missing"]:
        return Line(f"There is no journal yet at {document['journal']}.", whole=True)
    if document["sound"]:
        entries = document["entries"]
        return Line(f"The journal {document['journal']} is as it was written ({entries} audit entries).", whole=True)
    problems = [Line(problem, 2, style="red") for problem in document["problems"]]
    head = Line(f"The journal {document['journal']} is not as it was written:", style="bold red", whole=True)
    return Group(head, *problems)


# --- status ------------------------------------------------------------------------------------------------------

_PLACES = frozenset({"journal", "kill switch", "set aside"})
"""What names a file: a path may hold spaces, and is copied whole."""


def status_view(document: Document) -> RenderableType:
    """``status``: what wants attention first, then how the last runs went."""
    parts: list[RenderableType] = [Terms(_state_of_things(document), whole=_PLACES)]
    if document["runs"]:
        parts.append(_runs(document["runs"]))
    if document["open_intents"]:
        parts.append(Line("Open intents: what became of these is not settled yet", style="bold red"))
        parts.append(_intents(document["open_intents"]))
    if document["attention"]:
        table = Rows(("Family", "State", "Why", "What to do"), "For a person (last run)")
        for one in document["attention"]:
            table.add_row(plain(one["name"]), one["state"], plain(one["reason"]), plain(one["remedy"]))
        parts.append(table)
    if document["deferred"]:
        table = Rows(("Family", "Not before (UTC)", "Tries", "Why"), "Deferred")
        for one in document["deferred"]:
            until = short_instant(one["until"]) + (" (over: the next run tries)" if one["over"] else "")
            table.add_row(plain(one["name"] or one["family"]), until, str(one["tries"]), plain(one["reason"]))
        parts.append(table)
    if document["leases"]:
        table = Rows(("Family", "Holder", "Until (UTC)"), "Leases")
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
    table = Rows(("Started (UTC)", "Run", "Command", "Exit", "Seconds", "Families", "Error"), "Last runs")
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
