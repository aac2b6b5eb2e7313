"""Alembic's entry: runs on the connection, and in the transaction, of :func:`connector.journal.migrations.upgrade`."""

from __future__ import annotations

from alembic import context

from connector.journal.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
