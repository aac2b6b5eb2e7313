"""A run's report as a file: whole or not there, readable by its owner only, under a name that is never used twice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from connector.report.inert import to_json


def report_path(directory: Path, run_id: str, started_at: datetime) -> Path:
    """Where the report of a run goes; the names sort by the start of the run."""
    return directory / f"run-{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{run_id}.json"


def write_report(path: Path, document: Mapping[str, object]) -> None:
    """Write a report so that nobody ever sees half of one. Makes the directory (0700). Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    text = to_json(document, indent=2) + "\n"
    try:
        descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
