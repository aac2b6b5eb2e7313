"""What the audit trail says of each thing that happens in a journal. Pure.

Details are plain JSON values and hold no secrets: ids, quantities, request ids, and the notes that the run gave.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from connector.domain.model import SubscriptionId
from connector.journal.records import RunRecord, intent_terms, storable, utc
from connector.journal.seals import sha256_of
from connector.sync.ports import AuditEntry, Intent, RunInfo


def planned_entry(intent: Intent) -> AuditEntry:
    """What the audit trail says of a new intent: its terms in full."""
    return AuditEntry(
        at=intent.created_at,
        run_id=intent.run_id,
        event="intent.planned",
        family=intent.family,
        intent_id=intent.id,
        detail=intent_terms(intent),
    )


def step_entry(
    intent: Intent, at: datetime, note: str, *, run_id: str | None = None, operator: str | None = None
) -> AuditEntry:
    """What the audit trail says of a step; ``run_id`` is the run that made it, which a crash makes another one."""
    detail: dict[str, object] = {
        "attempts": intent.attempts,
        "before": intent.before,
        "target": intent.target,
        "request_id": intent.request_id,
    }
    if note:
        detail["note"] = storable(note)
    if operator is not None:
        detail["operator"] = operator
    return AuditEntry(
        at=at,
        run_id=run_id or intent.run_id,
        event=f"intent.{intent.state.value}",
        family=intent.family,
        intent_id=intent.id,
        detail=detail,
    )


def started_entry(run: RunInfo) -> AuditEntry:
    """What the audit trail says of the start of a run."""
    detail = {"operator": run.operator, "command": run.command, "version": run.version}
    return AuditEntry(at=run.started_at, run_id=run.id, event="run.started", detail=detail)


def ended_entry(run: RunRecord, at: datetime) -> AuditEntry:
    """What the audit trail says of the end of a run; the report itself is kept with the run, here is its digest."""
    detail = {"exit_code": run.exit_code, "report_sha256": sha256_of(run.report)}
    return AuditEntry(at=at, run_id=run.info.id, event="run.ended", detail=detail)


def taken_over_entry(
    family: SubscriptionId,
    former: str,
    until: datetime,
    holder: str | None,
    now: datetime,
    run_id: str | None,
) -> AuditEntry:
    """What the audit trail says when a lease went from a holder to another one, or to nobody."""
    detail = {"former": former, "until": utc(until).isoformat(), "holder": holder}
    event = "lease.dropped" if holder is None else "lease.taken_over"
    return AuditEntry(at=now, run_id=run_id or "", event=event, family=family, detail=detail)


def recovered_entry(damage: str, moved_to: Path, now: datetime) -> AuditEntry:
    """What the first line of a fresh journal says when a damaged one was set aside."""
    return AuditEntry(
        at=now, run_id="", event="journal.recovered", detail={"damage": damage, "moved_to": str(moved_to)}
    )
