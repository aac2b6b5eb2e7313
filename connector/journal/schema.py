"""The tables of a journal, the same on SQLite and PostgreSQL.

Migrations are the truth of how they come about; a test compares both. Instants are timestamps with time zone on
PostgreSQL and UTC text on SQLite; lists and documents are canonical JSON text, because hashes cover them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

VERSION_TABLE = "linksub_journal_version"
REVISIONS = ("0001", "0002")
"""Every schema this code knows, oldest first; the last one is the one that it works with."""
HEAD = REVISIONS[-1]


class UtcInstant(TypeDecorator[datetime]):
    """An instant: aware and in UTC on both ways, whatever the database makes of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes with ValueError; SQLite stores no zone, so it gets the UTC wall time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        instant = value.astimezone(UTC)
        return instant.replace(tzinfo=None) if dialect.name == "sqlite" else instant

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back the instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_Sequence = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", UtcInstant, nullable=False),
    Column("ended_at", UtcInstant),
    Column("exit_code", Integer),
    Column("report", Text, nullable=False, server_default="{}"),
    Index("ix_runs_started_at", "started_at"),
)

intents = Table(
    "intents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", name="fk_intents_run"), nullable=False),
    Column("family", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("provider_subscription", Text, nullable=False),
    Column("seats_before", Integer, nullable=False),
    Column("seats_target", Integer, nullable=False),
    Column("log_ids", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("seal", Text, nullable=False),
    Column("purpose", Text, nullable=False, server_default="quantity"),
    Column("marker_group", Text, nullable=False, server_default=""),
    # One request id belongs to one payload for ever: the provider would take a second one for a repetition.
    UniqueConstraint("request_id", name="uq_intents_request_id"),
    CheckConstraint(
        "state IN ('planned', 'sending', 'confirmed', 'rejected', 'unknown', 'settled')", name="ck_intents_state"
    ),
    Index("ix_intents_state", "state"),
    Index("ix_intents_family", "family"),
    Index("ix_intents_created_at", "created_at"),
)

intent_events = Table(
    "intent_events",
    metadata,
    Column("seq", _Sequence, primary_key=True),
    Column("intent_id", Text, ForeignKey("intents.id", name="fk_intent_events_intent"), nullable=False),
    Column("at", UtcInstant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_intent_events_intent_id", "intent_id"),
    Index("ix_intent_events_state_at", "state", "at"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=False),
    Column("at", UtcInstant, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("family", Text),
    Column("intent_id", Text),
    Column("detail", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("ix_audit_run_id", "run_id"),
    Index("ix_audit_family", "family"),
    Index("ix_audit_intent_id", "intent_id"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("length", _Sequence, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="ck_audit_head_single"),
)

deferrals = Table(
    "deferrals",
    metadata,
    Column("family", Text, primary_key=True),
    Column("until", UtcInstant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("family", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", UtcInstant, nullable=False),
    Column("token", Text, nullable=False),
)

markers = Table(
    "markers",
    metadata,
    Column("family", Text, primary_key=True),
    Column("texts", Text, nullable=False),
    Column("noted_at", UtcInstant, nullable=False),
)

cache = Table(
    "cache",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
