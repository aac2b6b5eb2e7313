"""``linksub rules``: the rule book, or one rule whole. Needs no configuration and talks to nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.options import Context, context_of
from connector.errors import UsageError

if TYPE_CHECKING:
    from connector.report.rules import ListedRule

_STAGES = {"prevalidation": "PreValidation", "preoperation": "PreOperation", "postoperation": "PostOperation"}
_SCOPES = ("log", "family", "change", "guarantee")
_HEADER = re.compile(r"^rules:\s*\[([^\]]*)\]\s*(?:#.*)?$", re.MULTILINE)


def register(app: typer.Typer) -> None:
    """Add ``linksub rules``."""

    @app.command("rules")
    def rules(
        ctx: typer.Context,
        what: Annotated[
            str | None,
            typer.Argument(metavar="[ID|TEXT]", help="A rule's id, or words to look for.", show_default=False),
        ] = None,
        stage: Annotated[
            str | None,
            typer.Option("--stage", metavar="STAGE", help="Only PreValidation, PreOperation or PostOperation."),
        ] = None,
        scope: Annotated[
            str | None, typer.Option("--scope", metavar="SCOPE", help="Only log, family, change or guarantee.")
        ] = None,
        markdown: Annotated[bool, typer.Option("--markdown", help="All of it as Markdown: docs/rules.md.")] = False,
    ) -> int:
        """List the rules that decide, those of installed packages included, or show one whole.

        Examples:

          linksub rules

          linksub rules LS-014

          linksub rules "provider account" --stage prevalidation

          linksub rules --output json
        """
        return _rules(context_of(ctx), what, stage=stage, scope=scope, markdown=markdown)


def scenario_directory() -> Path:
    """Where the shipped scenarios are."""
    return Path(__file__).parent.parent / "sandbox" / "scenarios"


def rules_of_scenarios(directory: Path) -> Mapping[str, tuple[str, ...]]:
    """Scenario (file name without ending) → the rules that its ``rules:`` line names.

    Only that line is read: playing is ``linksub rehearse``'s business, and the sandbox need not be installed for this.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(directory.glob("*.yaml")):
        line = _HEADER.search(path.read_text(encoding="utf-8"))
        if line is not None:
            found[path.stem] = tuple(part.strip() for part in line.group(1).split(",") if part.strip())
    return found


def all_rules() -> tuple[ListedRule, ...]:
    """Every rule of this installation with what shows it. Raises ConfigError for a broken package."""
    from connector.report.rules import listed
    from connector.wiring import rule_book

    return listed(rule_book(), rules_of_scenarios(scenario_directory()))


def _rules(context: Context, what: str | None, *, stage: str | None, scope: str | None, markdown: bool) -> int:
    from connector.report.rules import rule_view, rules_document, rules_markdown, rules_view

    if stage is not None and stage.replace("-", "").casefold() not in _STAGES:
        raise UsageError(f"there is no stage {stage!r}", hint=f"it is one of {', '.join(_STAGES.values())}")
    if scope is not None and scope.casefold() not in _SCOPES:
        raise UsageError(f"there is no scope {scope!r}", hint=f"it is one of {', '.join(_SCOPES)}")
    known = all_rules()
    chosen = [
        entry
        for entry in known
        if (stage is None or entry.rule.stage.label == _STAGES[stage.replace("-", "").casefold()])
        and (scope is None or entry.rule.scope.value == scope.casefold())
    ]
    one = None
    if what is not None:
        one = _by_id(what, known)
        chosen = [one] if one is not None else [entry for entry in chosen if _mentions(entry, what)]
        if not chosen:
            raise UsageError(f"no rule mentions {what!r}", hint="linksub rules lists them all")
    if context.as_json:
        context.emit(rules_document(chosen))
    elif markdown:
        typer.echo(rules_markdown(chosen), nl=False)
    else:
        context.stdout.print(rule_view(one) if one is not None else rules_view(chosen))
    return 0


def _by_id(what: str, known: Sequence[ListedRule]) -> ListedRule | None:
    """The rule of that id; None if the text is no id at all. Raises UsageError for an id that nobody has."""
    from connector.report.rules import nearest

    for entry in known:
        if entry.rule.id.casefold() == what.strip().casefold():
            return entry
    if re.fullmatch(r"[A-Za-z]{1,8}-?\d{1,4}", what.strip()):
        close = nearest(what.strip(), [entry.rule.id for entry in known])
        raise UsageError(f"there is no rule {what.strip()}", hint=f"the nearest are {', '.join(close)}")
    return None


def _mentions(entry: ListedRule, words: str) -> bool:
    """Whether all the words stand in what a rule says of itself."""
    rule = entry.rule
    text = " ".join((rule.id, rule.statement, rule.source, rule.remedy, rule.kept_by, *rule.columns)).casefold()
    return all(word in text for word in words.casefold().split())
