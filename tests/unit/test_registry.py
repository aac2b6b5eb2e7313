"""Rules as registered steps: unique ids, a fixed order, signed objections."""

from __future__ import annotations

import pytest

from connector.domain.decision import Hold, Refuse
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import ChangeObjection, Context, Rule, RuleBook, Scope, Stage, hold, refuse
from tests.families import environment, family, parent

CONTEXT = Context(family(parent(50)), environment())


def rule(name, rank=1, *, stage=Stage.PRE_VALIDATION, scope=Scope.FAMILY, function=lambda ctx: None, **more):
    return Rule(name, f"{name} holds.", scope, stage, rank, "a test", function=function, **more)


def test_two_rules_of_the_same_id_are_not_registered():
    with pytest.raises(ValueError, match="X-1"):
        RuleBook([rule("X-1"), rule("X-1", 2)])
    with pytest.raises(ValueError, match="LS-015"):
        BUILTIN.extended([rule("LS-015")])


def test_steps_run_by_stage_then_rank_then_id_in_whatever_order_they_were_registered():
    rules = [rule("X-4", stage=Stage.PRE_OPERATION), rule("X-0", 3), rule("X-3", 2), rule("X-2"), rule("X-1")]
    for given in (rules, rules[::-1]):
        assert [each.id for each in RuleBook(given).steps(Scope.FAMILY)] == ["X-1", "X-2", "X-3", "X-0", "X-4"]
    assert [each.id for each in RuleBook(rules).steps(Scope.FAMILY, Stage.PRE_OPERATION)] == ["X-4"]


def test_the_first_objection_wins_and_is_signed_with_its_rule_and_remedy():
    book = RuleBook(
        [
            rule("X-1"),
            rule("X-2", 2, function=lambda ctx: refuse("no", seats=3), remedy="mend it"),
            rule("X-3", 3, function=lambda ctx: hold("later")),
        ]
    )
    assert book.first_objection(CONTEXT, Scope.FAMILY) == Refuse("X-2", "no", {"seats": 3}, "mend it")
    assert book.without("X-2").first_objection(CONTEXT, Scope.FAMILY) == Hold("X-3", "later")
    assert book.without("X-2", "X-3").first_objection(CONTEXT, Scope.FAMILY) is None


def test_a_step_may_give_a_better_remedy_than_its_rule():
    book = RuleBook([rule("X-1", function=lambda ctx: refuse("no", "do this"), remedy="do that")])
    assert book.first_objection(CONTEXT, Scope.FAMILY).remedy == "do this"


def test_a_change_step_answers_with_the_sign_of_the_offenders():
    step = rule("X-1", scope=Scope.CHANGE, function=lambda ctx: ChangeObjection(hold("no"), -1), remedy="wait")
    found = RuleBook([step]).first_change_objection(CONTEXT)
    assert found == ChangeObjection(Hold("X-1", "no", remedy="wait"), -1)


def test_a_step_that_answers_in_the_form_of_another_scope_is_found_out():
    with pytest.raises(AssertionError, match="X-1"):
        RuleBook([rule("X-1", function=lambda ctx: ChangeObjection(hold("no")))]).first_objection(CONTEXT, Scope.FAMILY)
    with pytest.raises(AssertionError, match="X-1"):
        RuleBook([rule("X-1", scope=Scope.CHANGE, function=lambda ctx: hold("no"))]).first_change_objection(CONTEXT)


def test_a_rule_has_a_function_and_a_guarantee_has_none():
    with pytest.raises(ValueError, match="X-1"):
        rule("X-1", function=None)
    with pytest.raises(ValueError, match="X-1"):
        rule("X-1", scope=Scope.GUARANTEE)


def test_a_rule_is_found_whatever_its_letters_case_and_the_book_lists_by_id():
    assert BUILTIN.get("ls-015") is BUILTIN.get("LS-015") is not None
    assert BUILTIN.get("LS-999") is None
    ids = [each.id for each in BUILTIN]
    assert ids == sorted(ids)
    assert len(ids) == len(BUILTIN)


def test_a_smaller_or_larger_book_leaves_the_first_as_it_was():
    before = len(BUILTIN)
    assert BUILTIN.without("LS-015").get("LS-015") is None
    assert len(BUILTIN.extended([rule("X-1")])) == before + 1
    assert len(BUILTIN) == before


@pytest.mark.parametrize("each", list(BUILTIN), ids=lambda each: each.id)
def test_every_shipped_rule_is_one_sentence_with_a_source(each):
    assert each.statement.endswith(".")
    assert each.source
    if each.function is not None and each.severity == "error":
        assert each.remedy or each.id in ("LS-019",), "a person must learn what to do; LS-019 says it case by case"


def test_the_stages_have_the_numbers_and_names_of_the_platform():
    assert [(stage.value, stage.label) for stage in Stage] == [
        (10, "PreValidation"),
        (20, "PreOperation"),
        (40, "PostOperation"),
    ]
