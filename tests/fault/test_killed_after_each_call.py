"""The whole pass, over TLS and with its durable journal: killed after every single call, then run again.

Sign-in, metadata and gathering included: nothing here is shared between the two passes but what survives a process.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from connector.cli.rehearsal import CRASHED, Rehearsal
from connector.cli.rehearse import builtin_directory
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import build_scenario

pytestmark = pytest.mark.usefixtures("quiet_logs")

STORIES = {
    "new_york_grows": [{"change": {"subscription": "ny-e3", "quantity": 35}}],
    "seats_move": [{"change": {"subscription": "atl-e3", "by": -5}}, {"change": {"subscription": "ny-e3", "by": 5}}],
    "decrease_inside_window": [{"change": {"subscription": "ny-e3", "by": -4}}],
    "manual_parent": [{"change": {"subscription": "ny-e3", "by": 10}}],
}
CONFIRM = {"set_lcl": {"subscription": "p-e3", "index": -1, "status": "Provisioned"}}


def _rehearsal(story: str) -> Rehearsal:
    """The shipped scenario's world with only what its people do at first."""
    document = yaml.safe_load((builtin_directory() / f"{story}.yaml").read_text(encoding="utf-8"))
    steps = [*STORIES[story], CONFIRM] if story == "manual_parent" else STORIES[story]
    return Rehearsal(build_scenario({**document, "steps": steps}))


def _begin(rehearsal: Rehearsal, story: str) -> None:
    for step in rehearsal.scenario.steps[: len(STORIES[story])]:
        rehearsal.sandbox.perform(step)


def _finish(rehearsal: Rehearsal, story: str) -> None:
    """A manual parent needs a person's word before its children can follow."""
    if story == "manual_parent":
        rehearsal.sandbox.perform(rehearsal.scenario.steps[-1])
        assert rehearsal.run(RunStep()) == 0


def _end(rehearsal: Rehearsal) -> dict[str, Any]:
    described = rehearsal.sandbox.describe()
    found: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_plain(described["subscriptions"])))
    return found


def _plain(value: Any) -> Any:
    """Without what differs from run to run: instants, messages and the names of rows."""
    if isinstance(value, dict):
        return {
            str(key): _plain(each)
            for key, each in value.items()
            if key not in ("created_on", "provisioned_on", "message", "updates", "effective", "provision_on", "id")
        }
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@cache
def _undisturbed(story: str) -> tuple[int, dict[str, Any], int]:
    """(calls of the pass, the world at the end, provider writes) when nothing goes wrong."""
    with _rehearsal(story) as rehearsal:
        _begin(rehearsal, story)
        assert rehearsal.run(RunStep()) == 0
        calls = rehearsal.calls[-1]
        _finish(rehearsal, story)
        return calls, _end(rehearsal), rehearsal.sandbox.writes().provider


@pytest.mark.parametrize(
    ("story", "forget"),
    [*((story, False) for story in STORIES), ("new_york_grows", True)],
    ids=lambda value: value if isinstance(value, str) else "journal lost" if value else "journal kept",
)
def test_killed_after_any_call_a_second_pass_ends_where_an_undisturbed_one_does(story: str, forget: bool) -> None:
    calls, end, provider_writes = _undisturbed(story)
    assert calls > 5
    for killed_after in range(1, calls + 1):
        with _rehearsal(story) as rehearsal:
            _begin(rehearsal, story)
            assert rehearsal.run(RunStep(crash_after=killed_after)) == CRASHED
            if forget:
                rehearsal.forget_state()
            assert rehearsal.run(RunStep()) == 0, f"killed after call {killed_after}"
            _finish(rehearsal, story)
            assert _end(rehearsal) == end, f"killed after call {killed_after}"
            assert rehearsal.sandbox.writes().provider == provider_writes, f"killed after call {killed_after}"
            before = rehearsal.sandbox.writes()
            assert rehearsal.run(RunStep()) == 0
            assert rehearsal.sandbox.writes() == before, f"killed after call {killed_after}: a third pass wrote"
            assert rehearsal.crashes_of_the_sandbox == []
