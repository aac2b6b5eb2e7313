"""Random games of whole organisations: a small campaign in every run, the seeds that found something, and the wrong ones.

The long one is a command: ``python -m tests.support.campaign --worlds 20000 --seed 1 --jobs 2``.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.support import worlds
from tests.support.campaign import REQUIRED, How, Totals, campaign, summary
from tests.support.game import play
from tests.support.wrong import WRONG

pytestmark = pytest.mark.usefixtures("quiet_logs")

WORLDS = int(os.environ.get("LINKSUB_WORLDS") or 70)
"""Read once, at import: tests run without linksub's variables in their environment."""

TODAY = How(known=frozenset(), usual=False)
"""Every kind of violation counts, in every kind of organisation."""

FOUND = {
    40009: "changes that a person failed are told Provisioned",
    40013: "a schedule is restored by an order that no intent names",
    40050: "a change that a person stopped before P was raised is bought",
    40197: "with netting off and the CRM's own push the same seats are bought and given back for ever",
}
"""Seed → what it once found. Each is played in every run from then on."""


def test_no_promise_is_broken_in_any_of_many_random_worlds() -> None:
    totals = campaign(WORLDS, 20_000, how=TODAY)
    assert totals.worlds == WORLDS
    assert not totals.violations, summary(totals)


@pytest.mark.parametrize("seed", FOUND, ids=lambda seed: f"seed {seed}: {FOUND[seed]}")
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    report = play(seed, usual=True, tell=True)
    assert not report.violations, "\n".join(report.story)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_connector_is_found_out_by_a_game_that_the_right_one_wins(name: str) -> None:
    planted = WRONG[name]
    for seed in range(planted.seed, planted.seed + 200):
        kinds = {kind for kind, _ in How(name, frozenset(), usual=True).play(seed).violations} & planted.gives_away
        if kinds and not kinds & {kind for kind, _ in play(seed, usual=True).violations}:
            return
    pytest.fail(f"{name} was not found out")


def test_the_same_seed_plays_the_same_game() -> None:
    """Also after other games in the same organisation, and in one that was built afresh."""
    seeds = (5001, 5033, 5002)
    first = [play(seed, usual=True, tell=True) for seed in seeds]
    worlds.world.cache_clear()
    for one in reversed(first):
        two = play(one.seed, usual=True, tell=True)
        assert _without_names(one.story) == _without_names(two.story)
        assert one.counts == two.counts


def _without_names(story: list[str]) -> list[str]:
    """A run's id is drawn afresh each time; whoever is told who holds a lease reads it."""
    return [" ".join(word for word in line.split() if len(word) != 32) for line in story]


def test_a_campaign_in_which_too_little_happens_is_no_success() -> None:
    totals = Totals(worlds=1000, counts=Counter(REQUIRED))
    assert totals.too_mild() == []
    totals.counts["a process was killed"] -= 1
    assert totals.too_mild() == [
        f"a process was killed: {REQUIRED['a process was killed'] - 1}, at least {REQUIRED['a process was killed']}"
    ]
    assert "TOO MILD a process was killed" in summary(totals)


def test_a_violation_is_told_with_the_command_that_plays_it_again() -> None:
    how = How("acknowledges-first", usual=True)
    told = _Lines()
    totals = campaign(2, 5000, how=how, progress=told)
    assert totals.violations
    assert "python -m tests.support.campaign --replay 5000 --wrong acknowledges-first --usual" in told.text


class _Lines:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing waits."""
