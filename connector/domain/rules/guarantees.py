"""What the unit of work keeps by the way it is built: rules without a function, each shown by a scenario."""

from __future__ import annotations

from connector.domain.rules.registry import Rule, Scope, Severity, Stage


def _guarantee(rule_id: str, statement: str, source: str, severity: Severity = Severity.INFO) -> Rule:
    return Rule(rule_id, statement, Scope.GUARANTEE, Stage.POST_OPERATION, 100, source, severity=severity)


RULES = (
    _guarantee(
        "LS-001",
        "Only Awaiting logs are worked on, archived or not; other statuses are never touched.",
        "work365 facts §9.1",
    ),
    _guarantee(
        "LS-006",
        "Logs are taken in the order of effective instant, created on and id: the same on every run.",
        "work365 facts §9.6",
    ),
    _guarantee(
        "LS-022",
        "A child's change is pushed as one parent change, one provider change, the parent's log and then the child's.",
        "work365 facts §9.22, §9.31",
    ),
    _guarantee(
        "LS-027",
        "Changes that are due together are netted; with netting off, increases go first and decreases after them.",
        "work365 facts §9.27",
    ),
    _guarantee(
        "LS-032",
        "A manual parent gets its quantity and log, no provider is called, and the children follow a person's confirmation.",
        "work365 facts §9.32",
    ),
    _guarantee(
        "LS-033",
        "A final no of the provider makes the parent's log Failed with its text; the children's stay Awaiting.",
        "work365 facts §9.33",
    ),
    _guarantee(
        "LS-061",
        "A pass carries as many changes as the parent's Order Reference can name; the rest goes in the next round.",
        "design §4 step 1",
    ),
)
