"""Every deciding rule matters: without it, or turned round, at least one world comes out differently."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain.decide import decide
from connector.domain.decision import Objection
from connector.domain.plan import FamilyDecision
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import ChangeObjection, Context, Rule, RuleBook, Scope, Stage, hold
from tests.unit.witnesses import HEALTHY, WITNESSES, Witness

STEPS = [rule for rule in BUILTIN if rule.scope is not Scope.GUARANTEE]


def outcome(witness: Witness, rules: RuleBook = BUILTIN) -> FamilyDecision:
    return decide(witness.snapshot, witness.env, rules)


def rules_that_spoke(found: FamilyDecision) -> set[str]:
    spoken = {decision.rule for decision in found.decisions.values()}
    spoken |= {notice.rule for notice in found.notices}
    return (spoken | {found.stop.rule} if found.stop is not None else spoken) - {""}


def turned_round(rule: Rule) -> Rule:
    """The same step, objecting where it agrees and agreeing where it objects."""
    assert rule.function is not None
    step = rule.function

    def inverse(context: Context) -> Objection | ChangeObjection | None:
        if step(context) is not None:
            return None
        objection = hold("turned round")
        return ChangeObjection(objection) if rule.scope is Scope.CHANGE else objection

    return replace(rule, function=inverse)


@pytest.mark.parametrize("rule", STEPS, ids=lambda rule: rule.id)
def test_its_witness_is_decided_by_the_rule_and_otherwise_without_it(rule: Rule) -> None:
    assert rule.id in WITNESSES, f"{rule.id} has no witness: add a small world to tests/unit/witnesses.py"
    witness = WITNESSES[rule.id]
    with_it = outcome(witness)
    assert rule.id in rules_that_spoke(with_it)
    try:
        without = outcome(witness, BUILTIN.without(rule.id))
    except (AssertionError, TypeError):
        return  # what the rule keeps out would not even be computable: the loudest red there is
    assert rule.id not in rules_that_spoke(without)
    assert (without.decisions, without.actions, without.stop, without.notices) != (
        with_it.decisions,
        with_it.actions,
        with_it.stop,
        with_it.notices,
    )


@pytest.mark.parametrize("rule", STEPS, ids=lambda rule: rule.id)
def test_a_rule_that_is_turned_round_spoils_a_healthy_world_or_its_own_witness(rule: Rule) -> None:
    book = BUILTIN.without(rule.id).extended([turned_round(rule)])
    if rule.stage is Stage.POST_OPERATION:
        assert outcome(HEALTHY, book).notices != outcome(HEALTHY).notices
        return
    spoiled = outcome(HEALTHY, book)
    assert rule.id in rules_that_spoke(spoiled), f"{rule.id} is not even asked in a healthy world"
    assert not spoiled.accepted


def test_the_healthy_world_goes_through() -> None:
    found = outcome(HEALTHY)
    assert found.stop is None
    assert [type(action).__name__ for action in found.actions] == [
        "SetParentQuantity",
        "SetProviderQuantity",
        "Acknowledge",
    ]


def test_no_witness_is_left_of_a_rule_that_is_gone() -> None:
    assert set(WITNESSES) <= {rule.id for rule in STEPS}
