"""What one family is to become, as the conditional requests of one change set. Nothing else is ever written."""

from __future__ import annotations

from datetime import UTC, datetime

from connector.crm.batch import Change, Creation
from connector.crm.fields import guid
from connector.crm.meanings import refused
from connector.crm.metadata import Column, OrgMetadata, Table, number_of
from connector.crm.rows import STATUS_KEYS, marker_word
from connector.errors import ConfigError
from connector.sync.ports import FamilyChange, LogUpdate, NewLog

WRITE_FAMILY = "write family"
"""The operation's name in errors and counts."""
DEFAULT_LENGTH = 100
"""What a text column of Dataverse holds when nothing else is said."""


def requests_for(change: FamilyChange, metadata: OrgMetadata) -> list[Change | Creation]:
    """The parent first, for its version is the family's fence; then the log that is made, then those that change.

    Raises ProtocolError for a change that must not be sent: seats that are no number, or a parent's change without one.
    """
    subscriptions, logs = metadata.tables["subscription"], metadata.tables["license_change_log"]
    found: list[Change | Creation] = []
    if change.parent is not None:
        found.append(_parent(subscriptions, change))
    elif change.quantity is not None or change.marker is not None or change.new_log is not None:
        raise refused(WRITE_FAMILY, "without the parent that it is about")
    if change.new_log is not None:
        found.append(_new_log(metadata, logs, change.new_log))
    return [*found, *(_update(logs, update) for update in change.updates)]


def _parent(table: Table, change: FamilyChange) -> Change:
    """Quantity, if it changes, and the marker's column, which is always written: that moves the row's version."""
    parent = change.parent
    assert parent is not None
    values: dict[str, object] = {}
    if change.quantity is not None:
        values[table.columns["quantity"].logical_name] = _seats(change.quantity, least=0)
    column = table.columns[marker_word(table)]
    if change.marker is not None and column.max_length is not None and _units(change.marker) > column.max_length:
        raise refused(WRITE_FAMILY, f"with a marker that {column.logical_name!r} is too short for")
    text = parent.marker_text if change.marker is None else change.marker
    values[column.logical_name] = text or None
    return Change(f"{table.entity_set}({_id(parent.id)})", parent.etag, values)


def _new_log(metadata: OrgMetadata, table: Table, log: NewLog) -> Creation:
    values: dict[str, object] = {}
    for word, target, row_id in (
        ("subscription", "subscription", log.subscription),
        ("customer", "account", log.customer_id),
    ):
        if row_id is not None and table.has(word):
            bound = f"/{metadata.tables[target].entity_set}({_id(row_id)})"
            values[f"{table.columns[word].navigation}@odata.bind"] = bound
    plain: dict[str, object] = {"quantity": _seats(log.quantity), "name": log.name}
    if log.order_reference is not None:
        plain["order_reference"] = log.order_reference
    for word, value in plain.items():
        if table.has(word):
            column = table.columns[word]
            values[column.logical_name] = _fit(value, column) if isinstance(value, str) else value
    for word, key in (("kind", "update"), ("status", "awaiting")):
        values[table.columns[word].logical_name] = number_of(table.columns[word], key)
    return Creation(f"{table.entity_set}({_id(log.id)})", values)


def _update(table: Table, update: LogUpdate) -> Change:
    """Only status, message and provisioned-on are ever written to a log that is there."""
    status, message = table.columns["status"], table.columns["message"]
    values: dict[str, object] = {status.logical_name: number_of(status, STATUS_KEYS[update.status])}
    if update.message is not None:
        values[message.logical_name] = _fit(update.message, message)
    if update.provisioned_on is not None:
        values[table.columns["provisioned_on"].logical_name] = _instant(update.provisioned_on)
    return Change(f"{table.entity_set}({_id(update.log_id)})", update.etag, values)


def _seats(value: object, *, least: int | None = None) -> int:
    """Whole seats. A truth value, a fraction or a text that looks like a number is a mistake that would cost money."""
    if type(value) is not int or (least is not None and value < least):
        raise refused(WRITE_FAMILY, f"with {value!r}, which is no number of seats")
    return value


def _id(value: str) -> str:
    found = guid(value)
    if found is None:
        raise ConfigError(f"{value!r} is no primary key of Dataverse")
    return found


def _fit(text: str, column: Column) -> str:
    """At most as many UTF-16 units, which is what Dataverse counts, as the column takes; an ellipsis where it was cut."""
    length = column.max_length or DEFAULT_LENGTH
    if _units(text) <= length:
        return text
    return text.encode("utf-16-le", "surrogatepass")[: 2 * (length - 1)].decode("utf-16-le", "ignore") + "…"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
