"""Runs, intents and their history, the audit trail, deferrals, leases and the cache."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_GENESIS = "0" * 64
_APPEND_ONLY = ("audit", "intent_events")


def upgrade() -> None:
    """Create every table, and refuse changes to what is append-only in the database itself."""
    sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("ended_at", instant),
        sa.Column("exit_code", sa.Integer),
        sa.Column("report", sa.Text, nullable=False, server_default="{}"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_table(
        "intents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", name="fk_intents_run"), nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("provider_subscription", sa.Text, nullable=False),
        sa.Column("seats_before", sa.Integer, nullable=False),
        sa.Column("seats_target", sa.Integer, nullable=False),
        sa.Column("log_ids", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
        sa.UniqueConstraint("request_id", name="uq_intents_request_id"),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'confirmed', 'rejected', 'unknown', 'settled')", name="ck_intents_state"
        ),
    )
    op.create_index("ix_intents_state", "intents", ["state"])
    op.create_index("ix_intents_family", "intents", ["family"])
    op.create_index("ix_intents_created_at", "intents", ["created_at"])
    op.create_table(
        "intent_events",
        sa.Column("seq", sequence, primary_key=True),
        sa.Column("intent_id", sa.Text, sa.ForeignKey("intents.id", name="fk_intent_events_intent"), nullable=False),
        sa.Column("at", instant, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("ix_intent_events_intent_id", "intent_events", ["intent_id"])
    op.create_table(
        "audit",
        sa.Column("seq", sequence, primary_key=True, autoincrement=False),
        sa.Column("at", instant, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("family", sa.Text),
        sa.Column("intent_id", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    op.create_index("ix_audit_run_id", "audit", ["run_id"])
    op.create_index("ix_audit_family", "audit", ["family"])
    op.create_index("ix_audit_intent_id", "audit", ["intent_id"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("length", sequence, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_audit_head_single"),
    )
    op.bulk_insert(head, [{"id": 1, "length": 0, "hash": _GENESIS}])
    op.create_table(
        "deferrals",
        sa.Column("family", sa.Text, primary_key=True),
        sa.Column("until", instant, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("family", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", instant, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
    )
    op.create_table(
        "cache",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _refuse_changes()


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in _APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION linksub_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION linksub_append_only()"
        )
