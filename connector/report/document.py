"""Plans and runs as one JSON document: an interface for machines, versioned by ``schema_version``."""

from __future__ import annotations

from collections.abc import Mapping

from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyPlan,
    MakeParentLog,
    Plan,
    SafetyVerdict,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.errors import ConnectorError, RemoteError
from connector.report.wording import decision_document, instant
from connector.sync.outcome import FamilyOutcome, RunResult

SCHEMA_VERSION = 1


def action_document(action: Action) -> Mapping[str, object]:
    """One action of a plan."""
    match action:
        case FailLogs():
            return {
                "action": "fail_logs",
                "logs": [log.id for log in action.logs],
                "message": action.message,
                "rule": action.rule,
            }
        case SetParentQuantity():
            return {
                "action": "set_parent_quantity",
                "subscription": action.parent,
                "before": action.before,
                "target": action.target,
                "carries": list(action.carries),
                "takes_back": action.takes_back,
                "marker": str(action.marker),
            }
        case MakeParentLog():
            return {"action": "make_parent_log", "subscription": action.parent, "quantity": action.quantity}
        case SetProviderQuantity():
            return {
                "action": "set_provider_quantity",
                "provider": action.provider,
                "tenant": action.tenant,
                "subscription": action.subscription,
                "before": action.before,
                "target": action.target,
                "carries": list(action.carries),
            }
        case ScheduleAtRenewal():
            return {
                "action": "schedule_at_renewal",
                "provider": action.provider,
                "tenant": action.tenant,
                "subscription": action.subscription,
                "before": action.before,
                "target": action.target,
                "logs": list(action.logs),
            }
        case Acknowledge():
            return {
                "action": "acknowledge",
                "parent_logs": [log.id for log in action.parent_logs if not log.id.startswith("simulated-")],
                "child_logs": [log.id for log in action.child_logs],
                "new_parent_log": action.new_parent_log,
            }


def family_document(family: FamilyPlan) -> Mapping[str, object]:
    """One family of a plan."""
    money = family.money
    stop = family.stop
    return {
        "family": family.family,
        "name": family.name,
        "customer": family.customer,
        "provider_quantity": family.provider_quantity,
        "seats_at_provider": family.seats_at_provider,
        "seats_by_person": family.seats_by_person,
        "money_per_month_minor": dict(money.per_month),
        "seats_without_price": money.seats_without_price,
        "stop": decision_document(stop) if stop is not None else None,
        "notices": [decision_document(notice) for notice in family.notices],
        "logs": [
            {"log": log_id, "name": family.log_names.get(log_id, ""), **decision_document(found)}
            for log_id, found in family.decisions.items()
        ],
        "actions": [action_document(action) for action in family.actions],
    }


def plan_document(plan: Plan) -> Mapping[str, object]:
    """A plan, without the run around it."""
    money = plan.money
    return {
        "has_changes": plan.has_changes,
        "seats_added": plan.seats_added,
        "seats_removed": plan.seats_removed,
        "money_per_month_minor": dict(money.per_month),
        "seats_without_price": money.seats_without_price,
        "safety": verdict_document(plan.verdict),
        "families": [family_document(family) for family in plan.families],
    }


def verdict_document(verdict: SafetyVerdict) -> Mapping[str, object]:
    """The safety verdict of a plan. ``found`` is null when it cannot be known, which counts as beyond the limit."""
    return {
        "is_safe": verdict.is_safe,
        "kill_switch": verdict.kill_switch,
        "checks": [
            {
                "limit": check.limit,
                "allowed": check.allowed,
                "found": check.found,
                "unit": check.unit,
                "where": check.where,
                "detail": check.detail,
                "exceeded": check.is_exceeded,
            }
            for check in verdict.checks
        ],
    }


def outcome_document(outcome: FamilyOutcome) -> Mapping[str, object]:
    """What became of one family."""
    return {
        "family": outcome.family,
        "name": outcome.name,
        "state": outcome.state.value,
        "reason": outcome.reason,
        "remedy": outcome.remedy,
        "rule": outcome.rule,
        "until": instant(outcome.until) if outcome.until is not None else None,
        "notices": [decision_document(notice) for notice in outcome.notices],
        "effects": [{"effect": effect.kind, "text": effect.text, **effect.detail} for effect in outcome.effects],
        "logs": [
            {"log": log_id, "name": outcome.log_names.get(log_id, ""), **decision_document(found)}
            for log_id, found in outcome.decisions.items()
        ],
    }


def error_document(error: ConnectorError) -> Mapping[str, object]:
    """An error that ended a run."""
    document: dict[str, object] = {"error": type(error).__name__, "message": str(error), "hint": error.hint}
    if isinstance(error, RemoteError):
        document |= {
            "service": error.service,
            "operation": error.operation,
            "status": error.status,
            "code": error.code,
            "request_id": error.request_id,
            "correlation_id": error.correlation_id,
        }
    problems = getattr(error, "problems", ())
    if problems:
        document["problems"] = list(problems)
    return document


def run_document(result: RunResult, command: str) -> Mapping[str, object]:
    """One pass, whole."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "run_id": result.run_id,
        "started_at": instant(result.started_at),
        "finished_at": instant(result.finished_at),
        "dry_run": result.dry_run,
        "time_zone": result.time_zone,
        "exit_code": int(result.exit_code),
        "plan": plan_document(result.plan),
        "outcomes": [outcome_document(outcome) for outcome in result.outcomes],
        "requests": {service: dict(kinds) for service, kinds in result.requests.items()},
        "oldest_waiting": _oldest_waiting(result),
        "error": error_document(result.error) if result.error is not None else None,
    }


def _oldest_waiting(result: RunResult) -> Mapping[str, object] | None:
    if result.oldest_waiting is None:
        return None
    log, since = result.oldest_waiting
    return {"log": log, "since": instant(since)}
