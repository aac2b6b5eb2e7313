"""A PostgreSQL server for tests: an empty schema of one's own in the one that LINKSUB_TEST_POSTGRES names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

SERVER = os.environ.get("LINKSUB_TEST_POSTGRES")
LEFT_OUT = "left out: no PostgreSQL server (LINKSUB_TEST_POSTGRES)"


@contextmanager
def own_schema() -> Iterator[str]:
    """The URL of an empty schema, which is dropped afterwards."""
    from sqlalchemy import create_engine, make_url, text

    assert SERVER is not None
    base = make_url(SERVER).set(drivername="postgresql+psycopg")
    name = f"linksub_{uuid.uuid4().hex}"
    engine = create_engine(base)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        yield base.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()
