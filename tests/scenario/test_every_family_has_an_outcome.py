"""Whatever ends a run early: every family of its plan has an outcome."""

from __future__ import annotations

from pathlib import Path

import connector.sandbox
from connector.cli.rehearsal import Rehearsal
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import build_step, load_scenario
from connector.sync.outcome import FamilyState

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"


def base_and_addon(*faults):
    with Rehearsal(load_scenario(SCENARIOS / "addon_after_base.yaml")) as rehearsal:
        for step in (*rehearsal.scenario.steps[:2], *(build_step(each, rehearsal.scenario) for each in faults)):
            rehearsal.sandbox.perform(step)
        rehearsal.run(RunStep())
        return rehearsal.results[-1]


def test_a_family_whose_stage_is_never_reached_is_told_as_not_started():
    fault = {"service": "partner_center", "method": "PATCH", "status": 401, "times": 9}
    result = base_and_addon({"fault": fault})
    assert result.error is not None
    assert {outcome.family for outcome in result.outcomes} == {family.family for family in result.plan.families}
    assert FamilyState.NOT_STARTED in {outcome.state for outcome in result.outcomes}
