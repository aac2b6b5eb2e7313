"""How the tables of a journal come about, step by step; forward only."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring a journal to the schema of this code (tests: to an earlier one), all or nothing.

    It happens inside the transaction that the connection is in.
    """
    config = Config()
    config.set_main_option("script_location", "connector.journal:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
