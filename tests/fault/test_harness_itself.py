"""The harness is an instrument: what it takes for granted is shown here."""

from __future__ import annotations

import json

import pytest

from connector.sandbox.app import Sandbox
from tests.harness.bench import Bench
from tests.harness.checkpoint import Checkpoint
from tests.harness.faults import Fault, Kind
from tests.harness.history import observe
from tests.harness.oracle import violations
from tests.harness.records import Run, Trouble
from tests.harness.stories import EDITS, STORIES

pytestmark = pytest.mark.usefixtures("quiet_logs")


@pytest.mark.parametrize("story", STORIES)
def test_a_world_that_was_put_back_is_the_world_that_was_built(story: str) -> None:
    scenario = STORIES[story].scenario
    fresh, used = Sandbox(scenario), Sandbox(scenario)
    start = Checkpoint(used)
    for step in (*scenario.steps, EDITS[0].step, EDITS[3].step):
        used.perform(step)
    assert observe(used) != observe(fresh)
    start.restore()
    assert observe(used) == observe(fresh)
    assert json.dumps(used.describe(), default=str) == json.dumps(fresh.describe(), default=str)
    for step in scenario.steps:
        used.perform(step)
        fresh.perform(step)
    assert observe(used) == observe(fresh)
    assert used.store.version == fresh.store.version


def test_what_is_looked_up_is_what_would_have_happened() -> None:
    shared = Bench(STORIES["increase"])
    calls = shared.run(Trouble()).converged_at
    for call in (4, calls - 1):
        for kind in Kind:
            for edit, position in ((None, 0), (EDITS[0], calls + 2)):
                trouble = Trouble((Fault(call, kind),), edit, position)
                looked_up, played = shared.run(trouble), _unremembered(trouble)
                assert looked_up.history.states == played.history.states, str(trouble)
                assert [str(event) for event in looked_up.history.events] == [
                    str(event) for event in played.history.events
                ]
                assert violations(looked_up) == violations(played)


_ALONE = Bench(STORIES["increase"])


def _unremembered(trouble: Trouble) -> Run:
    _ALONE.forget()
    return _ALONE.run(trouble)


@pytest.mark.parametrize("kind", Kind)
def test_each_fault_strikes_once_and_exactly_where_it_should(kind: Kind) -> None:
    bench = Bench(STORIES["increase"])
    undisturbed = bench.run(Trouble())
    write = undisturbed.history.provider_calls[-1].call
    run = bench.run(Trouble((Fault(write, kind),)))
    assert [record.disturbed for record in run.passes].count(True) == 1
    assert run.passes[0].disturbed
    assert (run.passes[0].result is None) == (kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER))
    applied = [event.call for event in run.history.events if event.before.provider != event.after.provider]
    assert len(applied) == 1
    assert (applied[0] == write) == kind.is_done
    assert violations(run) == []


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_each_edit_is_made_once(edit: object) -> None:
    bench = Bench(STORIES["increase"])
    run = bench.run(Trouble((), edit, bench.run(Trouble()).converged_at + 1))  # type: ignore[arg-type]
    assert run.edited
    assert [event.actor for event in run.history.events].count("person") == 1
    assert violations(run) == []
