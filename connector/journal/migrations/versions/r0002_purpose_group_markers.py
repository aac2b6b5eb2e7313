"""What an intent is for, the marker's group that it belongs to, and the markers that were written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; every intent so far was a change of seats and belonged to no group, as its seal says."""
    op.add_column("intents", sa.Column("purpose", sa.Text, nullable=False, server_default="quantity"))
    op.add_column("intents", sa.Column("marker_group", sa.Text, nullable=False, server_default=""))
    op.create_index("ix_intent_events_state_at", "intent_events", ["state", "at"])
    op.create_table(
        "markers",
        sa.Column("family", sa.Text, primary_key=True),
        sa.Column("texts", sa.Text, nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
    )
