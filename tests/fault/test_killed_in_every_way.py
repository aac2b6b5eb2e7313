"""Money stories in every kind of organisation, killed at every call, and finished by the same host or by another one.

What the organisation's Work 365 does with the parent's log is not public, so each of its ways is played. The end must be
that of the undisturbed story: quantities, statuses and the parent's own Order Reference, with as many orders.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from zlib import crc32

import pytest

from connector.domain.policy import Policy
from tests.harness.faults import Kind
from tests.harness.scenarios import SIZE
from tests.support.deaths import Play, World

pytestmark = pytest.mark.usefixtures("quiet_logs")

IN_WINDOW = {"batches": [{"quantity": 12, "until": "2026-03-08T14:00:00Z"}]}
WAYS: dict[str, dict[str, Any]] = {
    "makes it": {"parent_log": "makes"},
    "makes it late": {"parent_log": "late", "late_by": "7s"},
    "makes it Not Applicable": {"parent_log": "not_applicable"},
    "makes none": {"parent_log": "none"},
    "makes none, and linksub may": {"parent_log": "none"},
    "raises the parent itself": {"parent_log": "makes", "pushes": "yes"},
    "does not copy Order Reference": {"parent_log": "makes", "copies_order_reference": "no"},
}
GROW, SHRINK = {"change": {"subscription": "ny", "by": 10}}, {"change": {"subscription": "ny", "by": -4}}
SIBLING = {"change": {"subscription": "atlanta", "by": 3}}
STOP = {"set_lcl": {"subscription": "ny", "index": 0, "status": "Failed", "message": "ordered by mistake"}}
STORIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "more seats": ([GROW], []),
    "fewer seats": ([SHRINK], []),
    "a move and more": ([SHRINK, SIBLING, {"change": {"subscription": "memphis", "by": 4}}], []),
    "more, and more meanwhile": ([GROW], [SIBLING]),
    "more, and stopped meanwhile": ([GROW, SIBLING], [STOP]),
}
"""Name → what people do before the pass that is killed, and what they do between its death and the next one."""

KILLS = (Kind.CRASH_BEFORE, Kind.CRASH_AFTER)
PART = 7
"""In CI size every seventh of these deaths is played, another seventh of each story; LINKSUB_FAULTS=full plays all."""
AFTER = ("the same host", "the same host without its journal", "another host")


def _play(way: str) -> Play:
    policy = Policy(parent_log="create" if "linksub may" in way else "leave")
    return Play(World(WAYS[way], IN_WINDOW, policy=policy))


def _end(play: Play) -> dict[str, Any]:
    """The end without the parent's logs: one raise or two come to the same."""
    found = play.end()
    return found | {"parent": found["parent"][0]}


@cache
def _undisturbed(way: str, story: str) -> tuple[int, dict[str, Any]]:
    """(calls of the pass that will be killed, the end) where people act between two passes and nothing else happens."""
    before, meanwhile = STORIES[story]
    measured = _play(way)
    measured.do(before)
    assert measured.run(0)
    calls = measured.calls
    play = _play(way)
    play.do([*before, *meanwhile])
    play.settle(0)
    return calls, _end(play)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("story", STORIES)
def test_killed_at_any_call_whoever_goes_on_comes_to_the_same_end(way: str, story: str) -> None:
    before, meanwhile = STORIES[story]
    calls, end = _undisturbed(way, story)
    assert calls >= 6
    every = [(call, kind, after) for call in range(3, calls + 1) for kind in KILLS for after in AFTER]
    share = every if SIZE != "ci" else every[crc32(f"{way} {story}".encode()) % PART :: PART]
    for call, kind, after in share:
        play = _play(way)
        play.do(before)
        if play.run(0, (call, kind)):
            continue
        if after == AFTER[1]:
            play.hosts[0].forget()
        play.do(meanwhile)
        play.wait()
        play.settle(1 if after == AFTER[2] else 0)
        found = _end(play)
        if story == "more, and stopped meanwhile" and found != end:
            # Told before the person stopped it: then it is through, and was bought, whatever is written over it.
            told_at_once = call == calls and kind is Kind.CRASH_AFTER
            status = "Failed" if told_at_once else "Provisioned"
            assert found["ny"][1][0][:2] == (10, status), (call, kind, after)
            assert found["parent"] == found["provider"][0] == 63, (call, kind, after)
            continue
        assert found == end, f"{kind.value} at call {call}, then {after}"
