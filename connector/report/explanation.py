"""Why a family's number is what it is, what each change waits for, and who blocks whom: in sentences and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connector.domain.decision import Accept, Decision, Hold, Wait
from connector.domain.explain import Blocker, blockers
from connector.domain.model import (
    LicenseChangeLog,
    LogId,
    NotAtProvider,
    ProviderSubscription,
    ScheduledEvent,
    ScheduledLicenseChangeLog,
    Snapshot,
    Subscription,
    SubscriptionId,
    Unreadable,
)
from connector.domain.seats import counted_quantity, order_key, pending
from connector.report.document import action_document
from connector.report.wording import counted, decision_document, instant
from connector.sync.outcome import Explanation

SCHEMA_VERSION = 1
BY_HAND = "LS-032"


@dataclass(frozen=True, slots=True)
class Standing:
    """One open log: what is decided about it, what it directly waits for, and when its time comes (None: at once)."""

    log: LicenseChangeLog
    name: str
    decision: Decision | None
    blocked_by: LogId | None
    scheduled_for: datetime | None


def standings(found: Explanation) -> tuple[Standing, ...]:
    """Every open log of the family, in the order in which they would go."""
    family = found.family
    parent_open = [log for log in _logs_of_parent(family) if log.is_open]
    by_hand = found.decision.awaits_person and bool(parent_open)
    entries: list[Standing] = []
    for log in sorted((log for log in family.logs if log.is_open), key=lambda log: order_key(log, found.calendar)):
        decision = found.decision_on(log.id)
        if isinstance(decision, Accept) and by_hand:
            waits = "a person has to provision the parent and to set its log to Provisioned"
            decision = Wait(BY_HAND, waits, blocked_by=parent_open[0].id)
        blocked_by = decision.blocked_by if isinstance(decision, Wait | Hold) else None
        entries.append(
            Standing(log, log_name(family, log), decision, blocked_by, found.calendar.scheduled_instant(log))
        )
    return tuple(entries)


def chain(found: Explanation) -> tuple[Blocker, ...]:
    """Who blocks whom, the oldest blocker first."""
    direct = {entry.log.id: entry.blocked_by for entry in standings(found) if entry.blocked_by is not None}
    return blockers([*found.family.logs, *found.family.base_logs], direct)


def log_name(family: Snapshot, log: LicenseChangeLog) -> str:
    """``New York +10``."""
    owner = names(family).get(log.subscription_id, log.subscription_id)
    return f"{owner} {log.quantity:+d}" if log.quantity is not None else f"{owner} (no quantity)"


def names(family: Snapshot) -> Mapping[SubscriptionId, str]:
    """Subscription id → name, for every row that was read for the family."""
    return {row.id: row.name for row in [*family.bases, *family.children, *([family.parent] if family.parent else [])]}


def _logs_of_parent(family: Snapshot) -> Sequence[LicenseChangeLog]:
    return family.logs_of(family.parent.id) if family.parent is not None else ()


def named(family: Snapshot, logs: Iterable[LicenseChangeLog]) -> str:
    """The logs in one line."""
    return ", ".join(log_name(family, log) for log in logs)


def why(found: Explanation) -> tuple[str, ...]:
    """The numbers in sentences: what each consists of, and what explains the differences."""
    family, books = found.family, found.decision.books
    lines: list[str] = []
    asked = next((row for row in family.children if row.id == found.asked), None)
    if asked is not None and asked.quantity is not None:
        lines.append(_child_in_words(family, asked))
    if family.parent is None:
        lines.append("It belongs to no family: it has no linked parent that could be read.")
        return tuple(lines)
    if books is None:
        reason = found.decision.stop.reason if found.decision.stop is not None else "nothing could be compared"
        lines.append(f"The seats of this family cannot be added up: {reason}.")
        return tuple(lines)
    name = family.parent.name
    open_seats = f", {books.ahead:+d} in {counted(len(books.parent_open), 'open log', 'open logs')}"
    lines.append(
        f"{name} has {books.parent_quantity} seats: {books.parent_settled} settled"
        + (open_seats if books.parent_open else "")
        + "."
    )
    lines.append(_lead_in_words(found))
    if books.ahead:
        explained = named(family, books.carried) if books.carried else ""
        lines.append(
            f"The {books.ahead:+d} that it was raised by: {explained}, carried by an earlier pass."
            if explained
            else f"Nothing explains the {books.ahead:+d} that it was changed by: somebody edited the parent."
        )
    lines.append(_provider_in_words(found))
    if found.decision.goal is not None and found.decision.goal != books.parent_quantity:
        accepted = [entry.log for entry in standings(found) if entry.log.id in found.decision.accepted]
        lines.append(f"The next run brings it to {found.decision.goal}: {named(family, accepted)}.")
    return tuple(lines)


def _child_in_words(family: Snapshot, child: Subscription) -> str:
    open_logs = [log for log in family.logs_of(child.id) if log.is_open]
    quantity, waiting = counted_quantity(child), pending(open_logs)
    state = "" if child.active else " (it is not active and counts as none)"
    if not open_logs:
        return f"{child.name} has {quantity} seats, all settled{state}."
    changes = counted(len(open_logs), "open change", "open changes")
    return f"{child.name} has {quantity} seats{state}: {quantity - waiting} settled, {waiting:+d} in {changes}."


def _lead_in_words(found: Explanation) -> str:
    books = found.decision.books
    assert books is not None
    children = f"Its children have {books.children_settled} settled"
    if books.lead == 0:
        return f"{children}, as many as the parent."
    if books.told_late:
        told = named(found.family, books.told_late)
        return f"{children}: {books.lead:+d} is confirmed at the provider and not acknowledged yet ({told})."
    return f"{children}, a drift of {books.lead:+d} that nothing explains."


def _provider_in_words(found: Explanation) -> str:
    view, books = found.family.provider, found.decision.books
    match view:
        case ProviderSubscription(quantity=seats, status=status):
            text = f"The provider has {seats} seats" + ("" if status == "active" else f", and is {status}")
            known = {*(books.waypoints() if books is not None else ()), found.decision.goal}
            return text + ("." if seats in known else ", which nothing explains: somebody changed it there.")
        case NotAtProvider(reason):
            return f"The provider does not have it: {reason}."
        case Unreadable(reason):
            return f"The provider could not be read: {reason}."
        case _:
            return "The provider reports nothing: a person provisions."


def to_do(found: Explanation) -> tuple[tuple[str, str], ...]:
    """What a person can do: (rule, remedy), what stops the whole family first, each once."""
    decisions = [found.decision.stop, *(entry.decision for entry in standings(found)), *found.decision.notices]
    remedies = [(one.rule, one.remedy) for one in decisions if one is not None and one.remedy]
    if found.decision.awaits_person:
        remedies.append((BY_HAND, "provision the seats at the provider, then set the parent's log to Provisioned"))
    return tuple(dict.fromkeys(remedies))


def scheduled_instant(found: Explanation, entry: ScheduledLicenseChangeLog) -> datetime | None:
    """When Work 365 will make the log of a scheduled change."""
    if entry.effective_on is None:
        return None
    before = _seats_of(found.family, entry.subscription_id)
    fewer = entry.quantity is not None and before is not None and entry.quantity < before
    down = entry.event is ScheduledEvent.DEACTIVATE or (entry.event is not ScheduledEvent.ACTIVATE and fewer)
    return found.calendar.scheduled_for(entry.effective_on, -1 if down else 1)


def _seats_of(family: Snapshot, subscription_id: SubscriptionId) -> int | None:
    rows = [*family.children, *([family.parent] if family.parent is not None else [])]
    return next((row.quantity for row in rows if row.id == subscription_id), None)


def explanation_document(asked: str, explanations: Sequence[Explanation]) -> Mapping[str, object]:
    """Everything for machines."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "explain",
        "asked": asked,
        "families": [_family_document(found) for found in explanations],
    }


def _family_document(found: Explanation) -> Mapping[str, object]:
    family, decision, books = found.family, found.decision, found.decision.books
    subject = family.subject
    return {
        "family": subject.id,
        "name": subject.name,
        "asked_subscription": found.asked,
        "asked_log": found.asked_log,
        "at": instant(found.now),
        "time_zone": found.calendar.zone.key,
        "why": list(why(found)),
        "parent": _subscription_document(family, family.parent) if family.parent is not None else None,
        "children": [_subscription_document(family, row) for row in family.children],
        "provider": _provider_document(family),
        "books": None
        if books is None
        else {
            "parent_quantity": books.parent_quantity,
            "parent_settled": books.parent_settled,
            "children_settled": books.children_settled,
            "lead": books.lead,
            "lead_explained_by": None if books.told_late is None else [log.id for log in books.told_late],
            "ahead": books.ahead,
            "ahead_explained_by": None if books.carried is None else [log.id for log in books.carried],
            "goal": decision.goal,
        },
        "stop": decision_document(decision.stop) if decision.stop is not None else None,
        "awaits_person": decision.awaits_person,
        "notices": [decision_document(notice) for notice in decision.notices],
        "logs": [_standing_document(entry) for entry in standings(found)],
        "blockers": [_blocker_document(family, each) for each in chain(found)],
        "scheduled_changes": [_scheduled_document(found, entry) for entry in family.scheduled],
        "next_actions": [action_document(action) for action in decision.actions],
        "what_to_do": [{"rule": rule, "remedy": remedy} for rule, remedy in to_do(found)],
    }


def _subscription_document(family: Snapshot, row: Subscription) -> Mapping[str, object]:
    waiting = pending(family.logs_of(row.id))
    return {
        "id": row.id,
        "name": row.name,
        "provider": row.provider,
        "active": row.active,
        "quantity": row.quantity,
        "pending": waiting,
        "settled": None if row.quantity is None else counted_quantity(row) - waiting,
    }


def _provider_document(family: Snapshot) -> Mapping[str, object]:
    match family.provider:
        case ProviderSubscription() as view:
            return {
                "state": "read",
                "id": view.id,
                "quantity": view.quantity,
                "status": view.status,
                "reducible_now": view.reducible_quantity,
                "scheduled_quantity": view.scheduled_quantity,
                "commitment_end": instant(view.commitment_end) if view.commitment_end is not None else None,
            }
        case NotAtProvider(reason):
            return {"state": "not at the provider", "reason": reason}
        case Unreadable(reason):
            return {"state": "unreadable", "reason": reason}
        case _:
            return {"state": "reports nothing"}


def _standing_document(entry: Standing) -> Mapping[str, object]:
    log = entry.log
    document: dict[str, object] = {
        "log": log.id,
        "name": entry.name,
        "subscription": log.subscription_id,
        "quantity": log.quantity,
        "status": log.status.value if log.status is not None else None,
        "message": log.message,
        "created_on": instant(log.created_on),
        "due": instant(entry.scheduled_for) if entry.scheduled_for is not None else None,
    }
    if entry.decision is not None:
        document |= decision_document(entry.decision)
    return document


def _blocker_document(family: Snapshot, blocker: Blocker) -> Mapping[str, object]:
    return {
        "log": blocker.log.id,
        "name": log_name(family, blocker.log),
        "status": blocker.log.status.value if blocker.log.status is not None else None,
        "message": blocker.log.message,
        "since": instant(blocker.log.created_on),
        "blocks": [{"log": log.id, "name": log_name(family, log)} for log in blocker.blocked],
    }


def _scheduled_document(found: Explanation, entry: ScheduledLicenseChangeLog) -> Mapping[str, object]:
    due = scheduled_instant(found, entry)
    return {
        "id": entry.id,
        "subscription": entry.subscription_id,
        "name": names(found.family).get(entry.subscription_id, entry.subscription_id),
        "event": entry.event.value if entry.event is not None else None,
        "status": entry.status.value if entry.status is not None else None,
        "quantity": entry.quantity,
        "effective_on": entry.effective_on.isoformat() if entry.effective_on is not None else None,
        "scheduled_for": instant(due) if due is not None else None,
        "overdue": due is not None and due < found.now,
    }
