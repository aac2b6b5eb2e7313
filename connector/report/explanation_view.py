"""An explanation on a terminal: the numbers, the open changes, who blocks whom, what a person can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from connector.domain.decision import Wait
from connector.domain.explain import Blocker
from connector.domain.model import ProviderSubscription, ScheduledLicenseChangeLog
from connector.domain.seats import counted_quantity, pending
from connector.report.explanation import (
    Standing,
    chain,
    log_name,
    named,
    names,
    scheduled_instant,
    standings,
    to_do,
    why,
)
from connector.report.layout import Line, Rows, plain
from connector.report.wording import decision_word
from connector.sync.outcome import Explanation


def explanation_view(explanations: Sequence[Explanation]) -> RenderableType:
    """Everything for a terminal."""
    return Group(*(_family_view(found) for found in explanations))


def _family_view(found: Explanation) -> RenderableType:
    family, decision = found.family, found.decision
    subject = family.subject
    parts: list[RenderableType] = [
        Line(Text.assemble(plain(subject.name, "bold"), ("  ", "dim"), plain(subject.id, "dim")))
    ]
    parts += _indented(why(found))
    if found.decision.books is not None:
        parts += [Text(""), _seats_table(found)]
    if decision.stop is not None:
        head = f"The family is stopped: {decision.stop.reason} [{decision.stop.rule}]"
        parts += [Text(""), Line(head, style="magenta")]
    entries = standings(found)
    parts.append(_heading("Open changes, in their order" if entries else "No change is open."))
    for entry in entries:
        parts += _standing_view(found, entry)
    links = chain(found)
    if links:
        parts.append(_heading("Who blocks whom, the oldest first"))
        parts += [_blocker_view(found, each) for each in links]
    if family.scheduled:
        parts.append(_heading("Scheduled by Work 365"))
        parts += _indented(_scheduled_line(found, entry) for entry in family.scheduled)
    if decision.notices:
        parts.append(_heading("Worth knowing"))
        parts += _indented(f"{notice.reason} [{notice.rule}]" for notice in decision.notices)
    todo = to_do(found)
    if todo:
        parts.append(_heading("What you can do"))
        parts += [Line(f"{remedy} [{rule}]", 2, style="cyan") for rule, remedy in todo]
    return Group(*parts)


def _heading(text: str) -> RenderableType:
    return Group(Text(""), Text(text, style="bold"))


def _indented(lines: Iterable[str]) -> list[RenderableType]:
    return [Line(line, 2) for line in lines]


def _seats_table(found: Explanation) -> Rows:
    family = found.family
    table = Rows(("Subscription", "Seats", "Open", "Settled"), right=(1, 2, 3), style=box.HEAVY_HEAD, indent=2)
    rows = [("parent: ", row) for row in (family.parent,) if row is not None] + [("", row) for row in family.children]
    for prefix, row in rows:
        waiting = pending(family.logs_of(row.id))
        seats = counted_quantity(row)
        name = plain(f"{prefix}{row.name}" + ("" if row.active else " (not active)"))
        table.add_row(name, str(seats), f"{waiting:+d}" if waiting else "–", str(seats - waiting))
    if isinstance(family.provider, ProviderSubscription):
        table.add_section()
        table.add_row("provider", str(family.provider.quantity), "", "")
    return table


def _standing_view(found: Explanation, entry: Standing) -> list[RenderableType]:
    log, decision = entry.log, entry.decision
    status = log.status.value if log.status is not None else "no status"
    mark = "→ " if log.id == found.asked_log else ""
    head = f"{mark}{entry.name}  {status} since {_local(found, log.created_on)}  {log.id}"
    lines: list[RenderableType] = [Line(head, 2)]
    if log.message:
        lines.append(Line(f"its message: {log.message}", 4, style="dim"))
    if decision is not None:
        retry = "if it is set to Awaiting: " if log.id not in found.decision.decisions else ""
        reason = f": {decision.reason} [{decision.rule}]" if decision.rule else ""
        lines.append(Line(f"{retry}{decision_word(decision)}{reason}", 4))
    told = isinstance(decision, Wait) and decision.until is not None
    if entry.scheduled_for is not None and entry.scheduled_for > found.now and not told:
        lines.append(Line(f"scheduled for {_local(found, entry.scheduled_for)}", 4))
    return lines


def _blocker_view(found: Explanation, blocker: Blocker) -> RenderableType:
    status = blocker.log.status.value if blocker.log.status is not None else "no status"
    text = f"{log_name(found.family, blocker.log)} ({status} since {_local(found, blocker.log.created_on)})"
    text += f" blocks {named(found.family, blocker.blocked)}"
    return Line(text, 2)


def _scheduled_line(found: Explanation, entry: ScheduledLicenseChangeLog) -> str:
    due = scheduled_instant(found, entry)
    name = names(found.family).get(entry.subscription_id, entry.subscription_id)
    what = entry.event.value if entry.event is not None else "change"
    seats = f" to {entry.quantity} seats" if entry.quantity is not None else ""
    when = f"on {_local(found, due)}" if due is not None else "on no date"
    state = f" ({entry.status.value})" if entry.status is not None else ""
    return f"{name}: {what}{seats} {when}{state}"


def _local(found: Explanation, moment: datetime) -> str:
    zone = found.calendar.zone
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"
