"""Digests: the hash chain of the audit trail and the seal of an intent. Pure.

An entry's hash is SHA-256 over the previous hash followed by the entry's canonical JSON (keys sorted, no blanks, ASCII
only, ``seq`` included), both as ASCII text; before the first entry stand 64 zeros. Whoever has an export can check it
with a few lines of any language.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from connector.errors import JournalError
from connector.journal.records import ChainedEntry, sealed_document, utc
from connector.sync.ports import AuditEntry, Intent

GENESIS = "0" * 64
"""What stands before the first entry of a chain."""


def canonical_json(value: object) -> str:
    """One text per value. What JSON has no word for becomes its ``str``. Raises JournalError if that fails too."""
    try:
        # Through JSON and back first: only then are the keys text, and sorted the same way on every reading.
        plain = json.loads(json.dumps(value, default=str))
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"cannot journal a detail that is no JSON: {error}") from error


def sha256_of(value: object) -> str:
    """SHA-256, in hexadecimal, of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def audit_document(seq: int, entry: AuditEntry) -> dict[str, object]:
    """An audit entry in plain JSON values: what its hash covers, and what is exported beside the hash."""
    return {
        "kind": "audit",
        "seq": seq,
        "at": utc(entry.at).isoformat(),
        "run_id": entry.run_id,
        "event": entry.event,
        "family": entry.family,
        "intent_id": entry.intent_id,
        "detail": dict(entry.detail),
    }


def link(previous: str, seq: int, entry: AuditEntry) -> str:
    """The hash of the entry at place ``seq`` that follows an entry with the hash ``previous``."""
    text = previous + canonical_json(audit_document(seq, entry))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def chained_document(chained: ChainedEntry) -> Mapping[str, object]:
    """An audit entry with its hash, as exported."""
    return {**audit_document(chained.seq, chained.entry), "hash": chained.hash}


def seal(intent: Intent) -> str:
    """A digest over the whole intent as it now is: a flipped byte in its row cannot pass for another intent."""
    return sha256_of(sealed_document(intent))
