"""Every kind of write, with every fault at every call of the pass that makes it: the end is that of the undisturbed story.

Beside orders these are: a child's log set to Failed, the parent's after the provider's no, the parent's log that linksub
makes (alone, or in the change set of the raise), a decrease promised for the renewal, and what was scheduled, written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from zlib import crc32

import pytest

from connector.domain.policy import Policy
from connector.sandbox.faults import Fault
from tests.harness.faults import Kind
from tests.harness.scenarios import SIZE
from tests.support.deaths import Play, Steps, World

pytestmark = pytest.mark.usefixtures("quiet_logs")

GROW, SHRINK = {"change": {"subscription": "ny", "by": 10}}, {"change": {"subscription": "ny", "by": -4}}
NO_CREDIT = Fault(
    "status",
    status=403,
    body={
        "code": "800023",
        "description": "Credit limit exceeded for this partner.",
        "data": [],
        "source": "PartnerFD",
    },
)
RETRIED = [{"refusal": None}, {"set_lcl": {"subscription": "parent", "index": -1, "status": "Awaiting"}}]
TOUCHED = [{"refusal": None}, {"change": {"subscription": "atlanta", "by": 1}}]
MAY_MAKE_IT = {"policy": {"parent_log": "create"}}

THE_SAME, WITHOUT_JOURNAL, ANOTHER, ANOTHER_FIRST = (
    "the same host",
    "the same host without its journal",
    "another host",
    "another host and then the same one",
)


@dataclass(frozen=True, slots=True)
class Story:
    """What people do before the pass that is disturbed, what that pass leaves, and how they bring it to its end.

    ``after``: who may go on. What is scheduled is remembered in the journal of the host that deleted it.
    """

    world: World
    before: Steps
    leaves: Mapping[str, Any]
    then: Steps = ()
    earlier: Steps = ()
    """What people do before a pass that is not disturbed."""
    after: tuple[str, ...] = (THE_SAME, WITHOUT_JOURNAL, ANOTHER)
    ends: Mapping[str, Any] = field(default_factory=dict)


def _log(quantity: int, status: str, message: str = "") -> tuple[int, str, str]:
    return quantity, status, message


TOO_LATE = "earliest on"
STORIES = {
    "a child is refused": Story(
        World(),
        [SHRINK],
        {"ny": (21, [(-4, "Failed", TOO_LATE)]), "parent": (50, []), "provider": (50, None, True)},
    ),
    "a child is refused and another one goes": Story(
        World(),
        [SHRINK, {"change": {"subscription": "atlanta", "by": 2}}],
        {
            "ny": (21, [(-4, "Failed", TOO_LATE)]),
            "atlanta": (12, [_log(2, "Provisioned")]),
            "provider": (52, None, True),
        },
    ),
    "the provider says no": Story(
        World(refusal=NO_CREDIT),
        [GROW],
        {
            "ny": (35, [_log(10, "Awaiting")]),
            "parent": (60, [(10, "Failed", "Credit limit exceeded")]),
            "provider": (50, None, True),
        },
        then=RETRIED,
        ends={"ny": (35, [_log(10, "Provisioned")]), "provider": (60, None, True), "reference": "SO-4711"},
    ),
    "the provider says no, and children fail with their parent": Story(
        World(refusal=NO_CREDIT, policy=Policy(child_when_parent_fails="failed")),
        [GROW],
        {
            "ny": (35, [(10, "Failed", "Credit limit exceeded")]),
            "parent": (60, [(10, "Failed", "Credit limit exceeded")]),
            "provider": (50, None, True),
        },
    ),
    "the provider says no where no log can say it": Story(
        World({"parent_log": "none"}, refusal=NO_CREDIT),
        [GROW],
        {"ny": (35, [_log(10, "Awaiting")]), "parent": (60, []), "provider": (50, None, True)},
        then=TOUCHED,
        ends={"ny": (35, [_log(10, "Provisioned")]), "provider": (61, None, True), "reference": "SO-4711"},
    ),
    "the parent's log is made with the raise": Story(
        World({"parent_log": "none"}, policy=Policy(parent_log="create")),
        [GROW],
        {
            "ny": (35, [_log(10, "Provisioned")]),
            "parent": (60, [_log(10, "Provisioned")]),
            "provider": (60, None, True),
        },
    ),
    "the parent's log is made with the raise, for a person": Story(
        World({"parent_log": "none"}, provider="manual", policy=Policy(parent_log="create")),
        [GROW],
        {"ny": (35, [_log(10, "Awaiting")]), "parent": (60, [_log(10, "Awaiting")])},
        then=[{"set_lcl": {"subscription": "parent", "index": -1, "status": "Provisioned"}}],
        ends={"ny": (35, [_log(10, "Provisioned")]), "reference": "SO-4711"},
    ),
    "the parent's log is made later": Story(
        World({"parent_log": "none"}, provider="manual"),
        [MAY_MAKE_IT],
        {"ny": (35, [_log(10, "Awaiting")]), "parent": (60, [_log(10, "Awaiting")])},
        earlier=[GROW],
        then=[{"set_lcl": {"subscription": "parent", "index": -1, "status": "Provisioned"}}],
        ends={"ny": (35, [_log(10, "Provisioned")]), "reference": "SO-4711"},
    ),
    "a decrease is promised for the renewal": Story(
        World(policy=Policy(refused_decrease="schedule")),
        [SHRINK],
        {"ny": (21, [_log(-4, "Awaiting")]), "parent": (50, []), "provider": (50, 46, True)},
    ),
    "a promise moves with a purchase": Story(
        World(policy=Policy(refused_decrease="schedule")),
        [{"change": {"subscription": "atlanta", "by": 2}}],
        {
            "ny": (21, [_log(-4, "Awaiting")]),
            "atlanta": (12, [_log(2, "Provisioned")]),
            "provider": (52, 48, True),
        },
        earlier=[SHRINK],
    ),
    "what a person scheduled moves with a purchase": Story(
        World(bought={"scheduled": {"quantity": 40}}),
        [GROW],
        {"ny": (35, [_log(10, "Provisioned")]), "provider": (60, 50, True)},
        after=(THE_SAME, ANOTHER_FIRST),
    ),
    "what a person scheduled moves with seats given back": Story(
        World(bought={"scheduled": {"quantity": 40}, "batches": [{"quantity": 12, "until": "2026-03-08T14:00:00Z"}]}),
        [SHRINK],
        {"ny": (21, [_log(-4, "Provisioned")]), "provider": (46, 36, True)},
        after=(THE_SAME, ANOTHER_FIRST),
    ),
}
"""Each names a write; the oracle is `leaves` and `ends`, written by hand from the documents."""

PART = 9
"""In CI size every ninth of these faults is played, another ninth of each story; LINKSUB_FAULTS=full plays all."""


def _is_as_said(found: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    return all(_matches(found[key], expected) for key, expected in said.items())


def _matches(found: Any, expected: Any) -> bool:
    """A text of a log need only occur."""
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(_matches(*pair) for pair in zip(found, expected, strict=True))
    if isinstance(expected, str) and expected:
        return isinstance(found, str) and expected in found
    return bool(found == expected)


def _prepared(story: Story) -> Play:
    play = Play(story.world)
    if story.earlier:
        play.do(story.earlier)
        play.settle(0)
    play.do(story.before)
    return play


def _goes_on(play: Play, after: str) -> None:
    if after == WITHOUT_JOURNAL:
        play.hosts[0].forget()
    play.wait()
    play.settle(1 if after in (ANOTHER, ANOTHER_FIRST) else 0)
    if after == ANOTHER_FIRST:
        play.wait()
        play.settle(0)


@cache
def _undisturbed(name: str) -> tuple[int, int]:
    """(calls of the pass that will be disturbed, orders that the provider accepted to the end)."""
    story = STORIES[name]
    play = _prepared(story)
    assert play.run(0)
    calls = play.calls
    play.settle(0)
    assert _is_as_said(play.end(), story.leaves), play.end()
    play.do(story.then)
    play.settle(0)
    assert _is_as_said(play.end(), story.ends), play.end()
    return calls, play.orders()


@pytest.mark.parametrize("name", STORIES)
def test_whatever_happens_to_any_call_of_it_each_write_is_done_once_and_told_as_it_was(name: str) -> None:
    story = STORIES[name]
    calls, orders = _undisturbed(name)
    every = [
        (call, kind, after)
        for call in range(1, calls + 1)
        for kind in Kind
        for after in (story.after if kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER) else story.after[:1])
    ]
    for call, kind, after in every if SIZE != "ci" else every[crc32(name.encode()) % PART :: PART]:
        what = f"{kind.value} at call {call}, then {after}"
        play = _prepared(story)
        play.run(0, (call, kind))
        _goes_on(play, after)
        assert _is_as_said(play.end(), story.leaves), f"{what}: {play.end()}"
        play.do(story.then)
        play.settle(1 if after == ANOTHER else 0)
        assert _is_as_said(play.end(), story.ends), f"{what}, to the end: {play.end()}"
        assert play.orders() <= orders, f"{what}: {play.orders()} orders"
