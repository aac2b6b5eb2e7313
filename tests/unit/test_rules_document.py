"""The rule book as a document: every rule of the sources has a row, says what it is, and is shown by something."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from connector.cli import main
from connector.cli.rules import rules_of_scenarios, scenario_directory
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import Rule, RuleBook, Scope, Severity, Stage
from connector.report.rules import listed, nearest, rules_markdown
from connector.sandbox.scenario import load_scenario

ROOT = Path(__file__).resolve().parents[2]
SHOWN = rules_of_scenarios(scenario_directory())
ENTRIES = listed(BUILTIN, SHOWN)
FACTS = [f"LS-{number:03d}" for number in range(1, 54)] + [f"PC-{number:03d}" for number in range(1, 20)]

NOT_KEPT_YET = {"LS-051"}
"""Rules of the sources that the code does not keep wholly; the document says what is missing."""


def test_every_rule_of_the_sources_has_a_row() -> None:
    ids = {entry.rule.id for entry in ENTRIES}
    assert [wanted for wanted in FACTS if wanted not in ids] == []


def test_the_document_in_the_repository_is_the_one_that_the_rules_make() -> None:
    written = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == rules_markdown(ENTRIES), "make it anew: linksub rules --markdown > docs/rules.md"


def test_the_document_has_one_row_for_each_rule() -> None:
    rows = [line for line in rules_markdown(ENTRIES).splitlines() if line.startswith("| <a id=")]
    assert len(rows) == len(ENTRIES) == len(BUILTIN)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.rule.id)
def test_a_rule_is_shown_by_a_scenario_or_a_test(entry) -> None:
    assert entry.is_shown or entry.rule.missing, f"{entry.rule.id}: name it in the rules: line of a scenario"


@pytest.mark.parametrize("path", sorted(scenario_directory().glob("*.yaml")), ids=lambda path: path.stem)
def test_a_scenario_names_the_rules_that_it_shows_and_only_such_as_there_are(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.rules, f"{path.name} names no rule: add a rules: line"
    assert list(SHOWN.get(path.stem, ())) == scenario.rules, "the rules: line must be one line of the form [LS-001, …]"
    explained = [
        rule
        for step in scenario.steps
        if step.expect is not None
        for wanted in (step.expect.explain or {}).values()
        for rule in ([wanted] if isinstance(wanted, str) else wanted or [])
    ]
    assert [rule for rule in [*scenario.rules, *explained] if BUILTIN.get(rule) is None] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.rule.id)
def test_the_tests_that_a_rule_names_exist(entry) -> None:
    for test in entry.tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{entry.rule.id} names {test}, which is not there"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.rule.id)
def test_a_rule_says_what_it_is(entry) -> None:
    rule = entry.rule
    assert rule.statement.endswith(".")
    assert rule.source
    if rule.scope is Scope.GUARANTEE:
        assert rule.kept_by or rule.missing, "a guarantee names what keeps it"
    else:
        assert not rule.kept_by
        assert not rule.missing
        if rule.severity is not Severity.INFO:
            assert rule.remedy, "whoever meets this rule wants to know what to do"


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.rule.kept_by], ids=lambda entry: entry.rule.id)
def test_the_rules_that_a_guarantee_leans_on_exist(entry) -> None:
    words = entry.rule.kept_by.replace(",", " ").replace(";", " ").replace("(", " ").replace(")", " ").split()
    named = [word.rstrip(".:") for word in words if word.startswith(("LS-", "PC-"))]
    assert [one for one in named if BUILTIN.get(one) is None] == []


def test_every_number_in_the_code_is_a_rule() -> None:
    """A number that a decision or a report shows must be one that a person can look up."""
    found = {
        (path.name, number)
        for path in (ROOT / "connector").rglob("*.py")
        for number in re.findall(r"\b(?:LS|PC)-\d{3}\b", path.read_text(encoding="utf-8"))
    }
    assert found
    assert sorted(one for one in found if BUILTIN.get(one[1]) is None) == []


def test_what_is_not_kept_yet_is_known() -> None:
    assert {entry.rule.id for entry in ENTRIES if entry.rule.missing} == NOT_KEPT_YET


def test_a_rule_without_a_scenario_and_an_unknown_rule_are_found_out(tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text("name: A story\nrules: [LS-998]\n", encoding="utf-8")
    book = RuleBook([Rule("LS-999", "Nobody shows it.", Scope.LOG, Stage.PRE_OPERATION, 1, "here", function=_agree)])
    (entry,) = listed(book, rules_of_scenarios(tmp_path))
    assert not entry.is_shown
    assert entry.scenarios == ()


def _agree(context) -> None:
    return None


@pytest.mark.parametrize(
    ("typed", "meant"), [("LS-14", "LS-014"), ("LS-0140", "LS-014"), ("PS-009", "PC-009"), ("LS-161", "LS-061")]
)
def test_a_mistyped_id_is_answered_with_near_ones(typed: str, meant: str) -> None:
    assert meant in nearest(typed, [rule.id for rule in BUILTIN])


def test_an_unknown_id_is_a_usage_error_that_names_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "LS-14"]) == 64
    assert "LS-014" in capsys.readouterr().err


def test_one_rule_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "ls-014"]) == 0
    shown = capsys.readouterr().out
    assert "The child and its log have a customer." in shown
    assert "scenario no_customer" in shown
    assert "what to do" in shown


def test_rules_are_filtered_by_stage_scope_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "customer", "--stage", "PreValidation", "--scope", "log", "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    found = {rule["id"]: rule for rule in document["rules"]}
    assert "LS-014" in found
    assert all(rule["stage"] == "PreValidation" and rule["scope"] == "log" for rule in found.values())
    assert found["LS-014"]["scenarios"] == ["no_customer"]
    assert len(found) < len(BUILTIN)


@pytest.mark.parametrize("arguments", [["--stage", "Later"], ["--scope", "world"], ["no rule says this"]])
def test_what_no_rule_can_be_is_a_usage_error(arguments: list[str]) -> None:
    assert main(["rules", *arguments]) == 64


def test_the_markdown_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--markdown"]) == 0
    assert capsys.readouterr().out == rules_markdown(ENTRIES)
