"""A journal that an earlier linksub wrote opens, is brought to the present schema, and is as it was written."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, insert, update

from connector.journal import open_journal, open_rehearsal, schema
from connector.journal.migrations import upgrade
from connector.journal.seals import link
from connector.sync.ports import AuditEntry, IntentKind, IntentState
from tests.unit.test_journal_port import FAMILY, LATER, NOW

TERMS = {
    "id": "intent-1",
    "run_id": "run-1",
    "family": FAMILY,
    "provider": "partner_center",
    "tenant": "tenant-1",
    "provider_subscription": "ps-1",
    "before": 50,
    "target": 60,
    "log_ids": ["log-1"],
    "request_id": "request-1",
    "created_at": "2026-03-02T14:00:00+00:00",
}
STEPS = [("planned", 0), ("sending", 1), ("sending", 2), ("unknown", 2), ("sending", 3), ("confirmed", 3)]
"""The first linksub sent an intent again, under the same request id."""


def old_seal() -> str:
    """What schema 0001 sealed: no purpose, no group."""
    document = {"kind": "intent", **TERMS, "state": "confirmed", "attempts": 3, "note": ""}
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def written_under_0001(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
        connection.execute(
            insert(schema.runs).values(
                id="run-1", operator="ops@host", command="run", version="0.1.0", started_at=NOW, report="{}"
            )
        )
        row = {key: value for key, value in TERMS.items() if key not in ("before", "target", "log_ids", "created_at")}
        row |= {"seats_before": 50, "seats_target": 60, "log_ids": '["log-1"]', "created_at": NOW}
        row |= {"state": "confirmed", "attempts": 3, "note": "", "seal": old_seal()}
        connection.execute(insert(schema.intents).values(**row))
        previous = "0" * 64
        for seq, (state, attempts) in enumerate(STEPS, 1):
            connection.execute(
                insert(schema.intent_events).values(
                    intent_id="intent-1", at=NOW, state=state, attempts=attempts, note=""
                )
            )
            detail = TERMS if state == "planned" else {"attempts": attempts}
            entry = AuditEntry(NOW, "run-1", f"intent.{state}", FAMILY, "intent-1", detail)
            previous = link(previous, seq, entry)
            connection.execute(
                insert(schema.audit).values(
                    seq=seq,
                    at=NOW,
                    run_id="run-1",
                    event=entry.event,
                    family=FAMILY,
                    intent_id="intent-1",
                    detail=json.dumps(detail, sort_keys=True, separators=(",", ":")),
                    hash=previous,
                )
            )
        connection.execute(update(schema.audit_head).values(length=len(STEPS), hash=previous))
        connection.exec_driver_sql("PRAGMA user_version = 1")
    engine.dispose()


def test_a_journal_of_schema_0001_is_upgraded_and_everything_in_it_still_verifies(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    written_under_0001(path)
    with open_journal(path, now=LATER) as journal:
        assert journal.recovered_from is None
        intent = journal.get_intent("intent-1")
        assert (intent.kind, intent.group, intent.state) == (IntentKind.QUANTITY, "", IntentState.CONFIRMED)
        assert journal.verify() == []
        assert (
            [one.id for one in journal.unanswered(NOW)] == [one.id for one in journal.sent(FAMILY, NOW)] == ["intent-1"]
        )
        found = journal.last_confirmed(FAMILY)
        assert found is not None
        assert found[1] == NOW
        assert journal.settle("intent-1", LATER, "looked", "ann@desk").state is IntentState.SETTLED
        assert journal.verify() == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM linksub_journal_version").fetchall() == [("0002",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_journal_of_schema_0001_can_be_looked_at_without_being_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    written_under_0001(path)
    path.chmod(0o600)
    before = path.read_bytes()
    with open_journal(path, now=LATER, read_only=True) as journal:
        assert journal.verify() == []
    with open_rehearsal(path, now=LATER) as dry:
        assert [one.id for one in dry.unanswered(NOW)] == ["intent-1"]
    assert path.read_bytes() == before
