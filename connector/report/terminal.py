"""Plans and runs on a terminal: tables and short lines, wide or narrow. What comes from outside is shown as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from connector.domain.decision import Accept, Decision, Hold, Objection, Refuse, Skip, Wait
from connector.domain.model import LogId
from connector.domain.plan import (
    Acknowledge,
    FailLogs,
    FamilyPlan,
    Plan,
    SafetyVerdict,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.safety import in_words
from connector.report.layout import Line, Rows, plain
from connector.report.wording import change, counted, decision_word, money_effect
from connector.sync.outcome import NEEDS_ATTENTION, TRY_LATER, FamilyOutcome, FamilyState, RunResult

_STYLES = {"goes": "green", "refused": "red", "waits": "yellow", "held": "magenta", "not ours": "dim"}


def plan_view(plan: Plan) -> RenderableType:
    """A plan: one row per family that changes, then every change with its reason, then the sums."""
    if not plan.families:
        nothing = Text("Nothing to do: no licence change is awaiting provisioning.", style="green")
        return nothing if plan.verdict.is_safe else Group(nothing, verdict_view(plan.verdict))
    parts: list[RenderableType] = []
    changing = [family for family in plan.families if family.actions]
    if changing:
        parts.append(_plan_table(changing))
    parts.extend(family_view(family) for family in plan.families)
    parts.append(Line(_sums(plan), style="bold"))
    parts.append(verdict_view(plan.verdict))
    return Group(*parts)


def verdict_view(verdict: SafetyVerdict) -> RenderableType:
    """Whether a real run would start writing, and what stands in its way."""
    if verdict.is_safe:
        return Text(f"Safety: within {counted(len(verdict.checks), 'limit', 'limits')}.", style="green")
    lines: list[RenderableType] = [
        Text("Safety: a real run stops before its first write (exit code 4).", style="bold red")
    ]
    if verdict.kill_switch is not None:
        lines.append(Line(f"the kill switch is on: {verdict.kill_switch}", 2, style="red", whole=True))
    lines += [Line(plain(in_words(check), "red"), 2) for check in verdict.violations]
    return Group(*lines)


def _sums(plan: Plan) -> str:
    changing = sum(1 for family in plan.families if family.actions)
    return (
        f"{counted(changing, 'family', 'families')} of {len(plan.families)} would change:"
        f" +{plan.seats_added} and -{plan.seats_removed} seats at providers, money per month: {money_effect(plan.money)}"
    )


def _plan_table(families: Iterable[FamilyPlan]) -> Rows:
    columns = ("Parent subscription", "Parent seats", "At provider", "Bought", "Money / month")
    table = Rows(columns, "Plan", right=(1, 2, 3, 4), style=box.HEAVY_HEAD)
    for family in families:
        parent = [action for action in family.actions if isinstance(action, SetParentQuantity)]
        provider = [action for action in family.actions if isinstance(action, SetProviderQuantity)]
        first = family.rounds[0].books
        before = first.parent_quantity if first is not None else None
        seats = family.seats_at_provider
        by_person = family.seats_by_person
        table.add_row(
            plain(family.name),
            change(before, parent[-1].target if parent else None),
            change(family.provider_quantity, provider[-1].target if provider else None)
            if family.provider_quantity is not None
            else "by a person",
            f"{seats:+d}" if seats else (f"{by_person:+d} by hand" if by_person else "0"),
            money_effect(family.money) if seats else "-",
        )
    return table


def family_view(family: FamilyPlan) -> RenderableType:
    """One family's changes with their reasons."""
    lines: list[RenderableType] = [Line(family.name, style="bold")]
    lines += decision_lines(family.decisions, family.log_names)
    if not family.decisions and family.stop is not None:
        lines.append(_reason(decision_word(family.stop), "", family.stop))
    lines += [Line(Text(text, style="dim"), 4) for text in _action_lines(family)]
    lines += _notice_lines(family.notices)
    return Group(*lines)


def _action_lines(family: FamilyPlan) -> Iterable[str]:
    for action in family.actions:
        match action:
            case FailLogs():
                yield "CRM: the refused log becomes Failed with the reason"
            case SetParentQuantity():
                yield f"CRM: parent {action.before} → {action.target} seats"
            case SetProviderQuantity():
                yield f"{action.provider}: {action.before} → {action.target} seats"
            case ScheduleAtRenewal():
                yield f"{action.provider}: {action.target} seats from the renewal on"
            case Acknowledge():
                whose = "the parent's log, then " if action.parent_logs or action.new_parent_log else ""
                children = counted(len(action.child_logs), "child log", "child logs")
                yield f"CRM: {whose}{children} → Provisioned, all or nothing"


def decision_lines(decisions: Mapping[LogId, Decision], names: Mapping[LogId, str]) -> list[RenderableType]:
    """One block per log: what happens to it, why, and what a person can do."""
    return [_reason(decision_word(found), names.get(log_id, log_id), found) for log_id, found in decisions.items()]


def _reason(word: str, name: str, found: Decision) -> RenderableType:
    head = Line(Text.assemble((f"{word:<8}", _STYLES[word]), " ", plain(name)), 2)
    if isinstance(found, Accept):
        return head
    parts: list[RenderableType] = [head]
    parts.append(Line(plain(f"{found.reason} [{found.rule}]"), 11))
    if found.remedy and isinstance(found, Refuse | Hold | Wait) and not isinstance(found, Skip):
        parts.append(Line(plain(f"what to do: {found.remedy}", "cyan"), 11))
    return Group(*parts)


def run_view(result: RunResult) -> RenderableType:
    """What a run did, family by family, and what it left."""
    if not result.outcomes:
        if result.error is not None:
            return Text("")
        return Text("Nothing to do: no licence change is awaiting provisioning.", style="green")
    return Group(*(outcome_view(outcome) for outcome in result.outcomes), Line(_run_sums(result), style="bold"))


def outcome_view(outcome: FamilyOutcome) -> RenderableType:
    """One family: its confirmed writes, then what stands in the way."""
    style = "green" if outcome.state is FamilyState.DONE else "dim"
    if outcome.state in NEEDS_ATTENTION:
        style = "red"
    elif outcome.state in TRY_LATER or outcome.state is FamilyState.WAITING:
        style = "yellow"
    lines: list[RenderableType] = [Line(Text.assemble(plain(outcome.name, "bold"), ": ", (outcome.state.value, style)))]
    lines += [Line(plain(effect.text), 4) for effect in outcome.effects]
    open_decisions = {key: found for key, found in outcome.decisions.items() if not isinstance(found, Accept)}
    if outcome.reason and not any(found.reason == outcome.reason for found in open_decisions.values()):
        rule = f" [{outcome.rule}]" if outcome.rule else ""
        lines.append(Line(plain(f"{outcome.reason}{rule}"), 4))
        if outcome.remedy:
            lines.append(Line(plain(f"what to do: {outcome.remedy}", "cyan"), 4))
    lines += decision_lines(open_decisions, outcome.log_names)
    lines += _notice_lines(outcome.notices)
    return Group(*lines)


def _notice_lines(notices: Iterable[Objection]) -> list[RenderableType]:
    """What is worth telling besides; it stands in nothing's way."""
    return [Line(plain(f"note: {found.reason} [{found.rule}]", "dim"), 4) for found in notices]


def _run_sums(result: RunResult) -> str:
    counts: dict[str, int] = {}
    for outcome in result.outcomes:
        counts[outcome.state.value] = counts.get(outcome.state.value, 0) + 1
    families = ", ".join(f"{count} {state}" for state, count in counts.items())
    writes = [effect for outcome in result.outcomes for effect in outcome.effects]
    bought = sum(1 for effect in writes if effect.kind == "provider.quantity")
    return (
        f"{counted(len(result.outcomes), 'family', 'families')}: {families};"
        f" {counted(len(writes), 'write', 'writes')} confirmed, {bought} at providers"
    )


def requests_view(requests: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Requests by service and kind (``-v``)."""
    table = Rows(("Service", "Kind", "Count"), "Requests", right=(2,), style=box.HEAVY_HEAD)
    total = 0
    for service, kinds in sorted(requests.items()):
        for kind, count in sorted(kinds.items()):
            table.add_row(service, kind, str(count))
            total += count
    table.add_section()
    table.add_row("all", "", str(total))
    return table
