"""An explanation on a terminal: the numbers, the open changes, who blocks whom, what a person can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
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
from connector.report.terminal import plain
from connector.report.wording import decision_word
from connector.sync.outcome import Explanation


def explanation_view(explanations: Sequence[Explanation]) -> RenderableType:
    """Everything for a terminal."""
    return Group(*(_family_view(found) for found in explanations))


def _family_view(found: Explanation) -> RenderableType:
    family, decision = found.family, found.decision
    subject = family.parent or family.children[0]
    parts: list[RenderableType] = [Text.assemble(plain(subject.name, "bold"), (f"  {subject.id}", "dim"))]
    parts += _indented(why(found))
    if found.decision.books is not None:
        parts.append(Padding(_seats_table(found), (1, 0, 0, 2), expand=False))
    if decision.stop is not None:
        head = f"The family is stopped: {decision.stop.reason} [{decision.stop.rule}]"
        parts.append(Padding(plain(head, "magenta"), (1, 0, 0, 0), expand=False))
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
        parts += [Padding(plain(f"{remedy} [{rule}]", "cyan"), (0, 0, 0, 2), expand=False) for rule, remedy in todo]
    return Group(*parts)


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0), expand=False)


def _indented(lines: Iterable[str]) -> list[RenderableType]:
    return [Padding(plain(line), (0, 0, 0, 2), expand=False) for line in lines]


def _seats_table(found: Explanation) -> Table:
    family = found.family
    table = Table(header_style="bold", title_justify="left")
    table.add_column("Subscription", overflow="fold")
    for heading in ("Seats", "Open", "Settled"):
        table.add_column(heading, justify="right")
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
    lines: list[RenderableType] = [Padding(plain(head), (0, 0, 0, 2), expand=False)]
    if log.message:
        lines.append(Padding(plain(f"its message: {log.message}", "dim"), (0, 0, 0, 4), expand=False))
    if decision is not None:
        retry = "if it is set to Awaiting: " if log.id not in found.decision.decisions else ""
        reason = f": {decision.reason} [{decision.rule}]" if decision.rule else ""
        lines.append(Padding(plain(f"{retry}{decision_word(decision)}{reason}"), (0, 0, 0, 4), expand=False))
    told = isinstance(decision, Wait) and decision.until is not None
    if entry.scheduled_for is not None and entry.scheduled_for > found.now and not told:
        lines.append(Padding(plain(f"scheduled for {_local(found, entry.scheduled_for)}"), (0, 0, 0, 4), expand=False))
    return lines


def _blocker_view(found: Explanation, blocker: Blocker) -> RenderableType:
    status = blocker.log.status.value if blocker.log.status is not None else "no status"
    text = f"{log_name(found.family, blocker.log)} ({status} since {_local(found, blocker.log.created_on)})"
    text += f" blocks {named(found.family, blocker.blocked)}"
    return Padding(plain(text), (0, 0, 0, 2), expand=False)


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
