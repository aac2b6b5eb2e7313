"""What a person types, as a subscription: its primary key, that of one of its licence change logs, or part of its name."""

from __future__ import annotations

from collections.abc import Sequence

from connector.crm.dataverse import DataverseClient, query, text_literal
from connector.crm.fields import guid
from connector.crm.rows import LOG_WORDS, SUBSCRIPTION_WORDS, RowReader
from connector.domain.model import LogId
from connector.sync.ports import Match


def find_matches(client: DataverseClient, reader: RowReader, text: str, most: int) -> Sequence[Match]:
    """At most ``most`` matches, those whose whole name is the text first. One request; raises what reading raises."""
    key = guid(text)
    return _by_key(client, reader, key) if key is not None else _by_name(client, reader, text.strip(), most)


def _by_key(client: DataverseClient, reader: RowReader, key: str) -> Sequence[Match]:
    subscriptions, logs = (reader.metadata.tables[word] for word in ("subscription", "license_change_log"))
    link = logs.columns["subscription"]
    nested = ",".join(subscriptions.properties(SUBSCRIPTION_WORDS))
    rows, log_rows = client.read_many(
        [
            query(
                subscriptions.entity_set,
                select=subscriptions.properties(SUBSCRIPTION_WORDS),
                where=f"{subscriptions.primary_id} eq {key}",
            ),
            query(
                logs.entity_set,
                select=logs.properties(LOG_WORDS),
                where=f"{logs.primary_id} eq {key}",
                expand=f"{link.navigation}($select={nested})",
            ),
        ],
        operation="find subscription",
    )
    matches = [Match(found) for row in rows if (found := reader.subscription(row)) is not None]
    for row in log_rows:
        inner = row.get(link.navigation or "")
        owner = reader.subscription(inner) if isinstance(inner, dict) else None
        if owner is not None:
            matches.append(Match(owner, LogId(key)))
    return matches


def _by_name(client: DataverseClient, reader: RowReader, text: str, most: int) -> Sequence[Match]:
    table = reader.metadata.tables["subscription"]
    if not text:
        return ()
    name = table.columns["name"].property
    (rows,) = client.read_many(
        [
            query(
                table.entity_set,
                select=table.properties(SUBSCRIPTION_WORDS),
                where=f"contains({name},{text_literal(_literally(text))})",
                order=[f"{name} asc", f"{table.primary_id} asc"],
            )
        ],
        operation="find subscription",
    )
    found = [row for each in rows if (row := reader.subscription(each)) is not None]
    whole = [row for row in found if row.name.casefold() == text.casefold()]
    part = [row for row in found if row not in whole and text.casefold() in row.name.casefold()]
    return tuple(Match(row) for row in [*whole, *part][:most])


def _literally(text: str) -> str:
    """Dataverse takes ``%``, ``_`` and ``[`` inside contains() for wildcards; in brackets they are themselves."""
    return "".join(f"[{sign}]" if sign in "[%_" else sign for sign in text)
