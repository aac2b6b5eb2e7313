"""The rule book as people and machines read it: a table, one rule whole, Markdown for ``docs/rules.md``, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from connector.domain.rules.registry import Rule, Scope
from connector.report.layout import Line, Rows, Terms, plain
from connector.report.wording import counted

SCHEMA_VERSION = 1

_GROUPS: tuple[tuple[str, str, str], ...] = (
    ("LS-001", "LS-053", "Linked subscriptions: what Work 365's documents say and what follows from them"),
    ("LS-054", "LS-~", "Linked subscriptions: what linksub adds"),
    ("PC-001", "PC-~", "Partner Center"),
)
_OTHERS = "Rules of other packages"


@dataclass(frozen=True, slots=True)
class ListedRule:
    """A rule with what shows it: the file names (without ending) of scenarios that name it, and tests."""

    rule: Rule
    scenarios: tuple[str, ...] = ()
    tests: tuple[str, ...] = field(default=())

    @property
    def is_shown(self) -> bool:
        """Whether anything shows the rule."""
        return bool(self.scenarios or self.tests)


def listed(rules: Iterable[Rule], scenarios: Mapping[str, Sequence[str]]) -> tuple[ListedRule, ...]:
    """The rules by id, each with the scenarios that name it; ``scenarios`` is scenario → rule ids."""
    return tuple(
        ListedRule(rule, tuple(sorted(name for name, ids in scenarios.items() if rule.id in ids)), rule.shown_by)
        for rule in sorted(rules, key=lambda rule: rule.id)
    )


def nearest(wanted: str, ids: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The ids that a mistyped one may have meant: those with the fewest differing characters, then the nearest number."""

    def distance(known: str) -> tuple[int, int]:
        mine, theirs = _digits(wanted), _digits(known)
        return _edits(wanted.upper(), known.upper()), abs(mine - theirs) if mine and theirs else 10**9

    return tuple(sorted(ids, key=lambda known: (*distance(known), known))[:count])


def _digits(text: str) -> int:
    return int("0" + "".join(sign for sign in text if sign in "0123456789"))


def _edits(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, start=1):
        above, row = row, [i]
        for j, right in enumerate(second, start=1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (left != right)))
    return row[-1]


def _when(rule: Rule) -> str:
    """Where in the pipeline a rule stands."""
    return "kept throughout" if rule.scope is Scope.GUARANTEE else f"{rule.stage.label} · {rule.message.value}"


def rules_view(rules: Sequence[ListedRule]) -> RenderableType:
    """A table of rules for a terminal."""
    table = Rows(("Rule", "What it says", "When", "Severity"), style=box.HEAVY_HEAD)
    for entry in rules:
        statement = plain(entry.rule.statement)
        if entry.rule.missing:
            statement.append(" (not kept yet)", style="yellow")
        table.add_row(entry.rule.id, statement, _when(entry.rule), entry.rule.severity.value)
    return Group(table, Line(f"{counted(len(rules), 'rule', 'rules')}; linksub rules ID shows one whole", style="dim"))


def rule_view(entry: ListedRule) -> RenderableType:
    """One rule whole, for a terminal."""
    rule = entry.rule
    head = Line(Text.assemble((rule.id, "bold"), "  ", plain(rule.statement)))
    return Group(head, Terms(_facts(entry), indent=2))


def _facts(entry: ListedRule) -> Iterable[tuple[str, str]]:
    rule = entry.rule
    if rule.scope is Scope.GUARANTEE:
        yield "kind", "guarantee: kept by the way linksub is built"
    else:
        yield (
            "kind",
            f"step on {rule.message.value}, {rule.stage.label}, rank {rule.rank}, judges one {_SCOPES[rule.scope]}",
        )
    if rule.columns:
        yield "looks at", ", ".join(rule.columns)
    yield "severity", rule.severity.value
    yield "source", rule.source
    if rule.kept_by:
        yield "kept by", rule.kept_by
    if rule.missing:
        yield "not yet", rule.missing
    if rule.remedy:
        yield "what to do", rule.remedy
    for number, name in enumerate(entry.scenarios):
        yield ("shown by" if number == 0 else ""), f"scenario {name}"
    for number, test in enumerate(entry.tests):
        yield ("shown by" if number == 0 and not entry.scenarios else ""), f"test {test}"


_SCOPES = {Scope.LOG: "log", Scope.FAMILY: "family", Scope.CHANGE: "net change of a family"}


def rule_document(entry: ListedRule) -> Mapping[str, object]:
    """One rule for machines."""
    rule = entry.rule
    return {
        "id": rule.id,
        "statement": rule.statement,
        "scope": rule.scope.value,
        "message": rule.message.value,
        "stage": rule.stage.label,
        "rank": rule.rank,
        "columns": list(rule.columns),
        "severity": rule.severity.value,
        "source": rule.source,
        "remedy": rule.remedy,
        "kept_by": rule.kept_by,
        "missing": rule.missing,
        "scenarios": list(entry.scenarios),
        "tests": list(entry.tests),
    }


def rules_document(rules: Sequence[ListedRule]) -> Mapping[str, object]:
    """Rules for machines."""
    return {"schema_version": SCHEMA_VERSION, "command": "rules", "rules": [rule_document(entry) for entry in rules]}


_PREFACE = """# Rules

<!-- Made by `linksub rules --markdown`; a test compares it. Change the rules, not this file. -->

Every decision of linksub is made by a rule with a number, and every number that a report, a log's message or
`linksub explain` shows is listed here. `linksub rules LS-014` shows one on the terminal.

A rule is a plug-in step as Dynamics developers register them: it listens to a *message*, at a *stage* of the pipeline
(PreValidation may refuse or find that it is not this change's turn, PreOperation may wait or hold), in the order of its
rank, and is a pure function of what was read. A rule that is *kept throughout* is no step: it holds by the way linksub is
built, and *kept by* says what does it. A rule that is not kept yet says so. Another package adds rules through the
entry-point group `linksub.rules`.

Scenarios are the files in `connector/sandbox/scenarios/`; `linksub rehearse --builtin` plays them all.
"""


def rules_markdown(rules: Sequence[ListedRule]) -> str:
    """The whole of ``docs/rules.md``."""
    parts = [_PREFACE]
    for title, group in _grouped(rules):
        parts.append(f"## {title}\n\n{_markdown_table(group)}\n")
    return "\n".join(parts)


def _grouped(rules: Sequence[ListedRule]) -> Iterable[tuple[str, list[ListedRule]]]:
    left = list(rules)
    for first, last, title in _GROUPS:
        group = [entry for entry in left if first <= entry.rule.id <= last]
        left = [entry for entry in left if entry not in group]
        if group:
            yield title, group
    if left:
        yield _OTHERS, left


def _markdown_table(rules: Sequence[ListedRule]) -> str:
    lines = [
        "| id | rule | stage · message | severity | source | shown by | what a person can do |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in rules:
        rule = entry.rule
        statement = rule.statement
        if rule.kept_by:
            statement += f" *Kept by:* {rule.kept_by}."
        if rule.missing:
            statement += f" **Not kept yet:** {rule.missing}."
        shown = [f"`{name}`" for name in entry.scenarios] + [_short(test) for test in entry.tests]
        cells = (
            f'<a id="{rule.id.lower()}"></a>{rule.id}',
            statement,
            _when(rule),
            rule.severity.value,
            rule.source,
            "<br>".join(shown) or "–",
            rule.remedy or "–",
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _short(test: str) -> str:
    """A test as a readable sentence with its file."""
    path, _, name = test.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')} ({path.removeprefix('tests/')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
