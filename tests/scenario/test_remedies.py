"""What a person is told to do is what helps."""

from __future__ import annotations

from pathlib import Path

import connector.sandbox
from connector.cli.rehearsal import Rehearsal
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import load_scenario

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"


def test_where_children_fail_with_their_parent_they_are_named_first_in_the_remedy():
    with Rehearsal(load_scenario(SCENARIOS / "children_failed_with_their_parent.yaml")) as rehearsal:
        for step in rehearsal.scenario.steps[:2]:
            rehearsal.sandbox.perform(step)
        for _ in range(2):
            rehearsal.run(RunStep())
            (outcome,) = rehearsal.results[-1].outcomes
            assert "set first the children's logs" in outcome.remedy
