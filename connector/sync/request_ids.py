"""Request ids that follow from what they are for: no chance, so that a run can be played again to the letter."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from uuid import UUID


def request_id(now: datetime, *parts: object) -> str:
    """A GUID for one request: the same for the same instant and parts, another for anything else."""
    seed = "|".join((now.isoformat(), *(str(part) for part in parts)))
    return str(UUID(bytes=sha256(seed.encode()).digest()[:16], version=4))
