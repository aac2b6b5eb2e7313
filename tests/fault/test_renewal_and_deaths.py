"""What is scheduled for the renewal outlives the process that deleted it, by whatever way the family comes to its end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import connector.sandbox
from connector.cli.rehearsal import CRASHED, Rehearsal
from connector.sandbox.grammar import RunStep, Step
from connector.sandbox.scenario import load_scenario
from connector.sync.renewal import RenewalKeeper

STORY = Path(connector.sandbox.__file__).parent / "scenarios" / "scheduled_change_survives.yaml"
BEFORE, SCHEDULED = 50, 40


class Story:
    """A purchase whose process dies when the order has deleted what was scheduled."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal

    def grow(self, by: int) -> None:
        self.do(change={"subscription": "ny-e3", "by": by})

    def do(self, **step: object) -> None:
        self.rehearsal.sandbox.perform(Step.model_validate(step))

    def run(self, **step: object) -> int:
        return self.rehearsal.run(RunStep.model_validate(step))

    def dies(self) -> None:
        """Right after its order."""
        assert self.run(crash_after="purchased") == CRASHED
        assert self.scheduled() == (BEFORE + 10, None)

    def is_refused_and_withdrawn(self) -> None:
        """Partner Center refuses the order; then a person withdraws what is scheduled, and the renewal itself."""
        no = {"code": "800092", "description": "no", "data": [], "source": "PartnerFD"}
        self.do(fault={"service": "partner_center", "method": "PATCH", "kind": "status", "status": 400, "body": no})
        assert self.run() == 3
        self.do(provider_change={"subscription": "p-e3", "scheduled": None, "auto_renew": False})

    def renews(self) -> bool:
        bought = self.rehearsal.sandbox.world.bought("p-e3")
        assert bought is not None
        return bought.auto_renew

    def wait(self, minutes: int) -> None:
        self.rehearsal.sandbox.clock.advance(timedelta(minutes=minutes))

    def scheduled(self) -> tuple[int, int | None]:
        bought = self.rehearsal.sandbox.world.bought("p-e3")
        assert bought is not None
        return bought.quantity, None if bought.scheduled is None else bought.scheduled["quantity"]


@pytest.fixture
def story():
    with Rehearsal(load_scenario(STORY)) as rehearsal:
        story = Story(rehearsal)
        story.grow(10)
        yield story


def test_the_next_run_moves_it_by_its_own_seats_as_well(story: Story) -> None:
    story.dies()
    story.grow(3)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 13, SCHEDULED + 13)


def test_when_another_host_came_first_it_is_still_written_back(story: Story) -> None:
    story.dies()
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    assert story.scheduled() == (BEFORE + 10, None)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 10, SCHEDULED + 10)


def test_it_is_moved_by_what_another_host_ordered_meanwhile(story: Story) -> None:
    story.dies()
    story.grow(-4)
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    story.wait(16)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 6, SCHEDULED + 6)


def _dies_in(story: Story, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(f"connector.sync.{where}", dies)
        with pytest.raises(SystemExit):
            story.run()


def test_when_the_seats_came_back_to_where_they_were_it_is_written_back_as_it_was(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dies_in(story, monkeypatch, "renewal.RenewalKeeper.restore")
    story.grow(-10)
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    assert story.scheduled() == (BEFORE, None)
    story.wait(16)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE, SCHEDULED)


def test_where_nobody_knows_whether_an_order_deleted_it_or_a_person_it_is_told_and_not_written_back(
    story: Story,
) -> None:
    story.dies()  # without the answer to its order
    story.grow(-10)
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    story.wait(16)
    assert story.run() == 3
    outcome = story.rehearsal.results[-1].outcomes[0]
    assert (outcome.rule, "nobody knows whether" in outcome.reason) == ("LS-043", True)
    assert story.scheduled() == (BEFORE, None)
    assert story.run() == 0


def test_the_same_is_told_when_the_next_order_finds_it_gone(story: Story) -> None:
    story.dies()
    story.grow(-10)
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    story.wait(16)
    story.grow(3)
    assert story.run() == 3
    assert "nobody knows whether" in story.rehearsal.results[-1].outcomes[0].reason
    assert story.scheduled() == (BEFORE + 3, None)


@pytest.mark.parametrize("by", ["a person", "another host"])
def test_nor_when_somebody_else_brought_the_seats_there(story: Story, by: str) -> None:
    story.is_refused_and_withdrawn()
    story.wait(20)
    if by == "a person":
        story.do(provider_change={"subscription": "p-e3", "quantity": BEFORE + 10})
        story.do(set_lcl={"subscription": "p-e3", "index": -1, "status": "Provisioned"})
        story.do(set_lcl={"subscription": "ny-e3", "index": -1, "status": "Provisioned"})
    else:
        story.do(set_lcl={"subscription": "p-e3", "index": -1, "status": "Awaiting"})
        assert story.run(host="b", journal="own") == 0
        story.wait(20)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 10, None)
    assert not story.renews()


def test_what_an_order_that_came_to_nothing_left_behind_does_not_bring_back_what_a_person_withdrew(
    story: Story,
) -> None:
    story.is_refused_and_withdrawn()
    story.do(set_lcl={"subscription": "p-e3", "index": -1, "status": "Awaiting"})
    story.wait(20)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 10, None)
    assert not story.renews()


def test_a_withdrawal_after_an_order_that_never_arrived_stands(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.do(fault={"service": "partner_center", "method": "PATCH", "kind": "lost_request", "times": 50})
    with monkeypatch.context() as patch:
        patch.setattr("connector.sync.unit_of_work.rest", lambda *_: False)
        story.run()
    story.rehearsal.sandbox.faults.clear()
    story.do(set_lcl={"subscription": "ny-e3", "index": -1, "status": "Failed"})
    story.do(provider_change={"subscription": "p-e3", "scheduled": None})
    for minutes in (3, 20):
        story.wait(minutes)
        story.run()
        assert story.scheduled() == (BEFORE, None)


def test_another_change_that_a_person_scheduled_meanwhile_stays_and_the_loss_of_the_first_is_told(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = RenewalKeeper.restore

    def too_late(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        story.do(provider_change={"subscription": "p-e3", "scheduled": {"quantity": 33}})
        return restore(*arguments, **named)

    monkeypatch.setattr(RenewalKeeper, "restore", too_late)
    assert story.run() == 3
    outcome = story.rehearsal.results[-1].outcomes[0]
    assert (outcome.rule, "was lost" in outcome.reason) == ("LS-043", True)
    assert story.scheduled() == (BEFORE + 10, 33)


def test_what_a_person_withdrew_before_anything_was_ordered_stays_withdrawn(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dies_in(story, monkeypatch, "provisioning.Provisioning.send")
    story.grow(-10)
    story.do(provider_change={"subscription": "p-e3", "scheduled": None})
    story.wait(20)
    assert story.run() == 0
    assert story.scheduled() == (BEFORE, None)


def test_a_confirmed_order_whose_process_died_before_it_wrote_it_back_is_remembered(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dies_in(story, monkeypatch, "renewal.RenewalKeeper.restore")
    assert story.scheduled() == (BEFORE + 10, None)
    story.wait(11)
    assert story.run(host="b", journal="own") == 0
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 10, SCHEDULED + 10)


def test_a_persons_order_while_it_is_read_is_not_overwritten_and_nothing_is_written_back(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = RenewalKeeper.remember

    def slowly(*arguments: Any) -> bool:
        noted = remember(*arguments)
        monkeypatch.undo()
        story.wait(1)
        story.do(provider_change={"subscription": "p-e3", "quantity": 87, "scheduled": None})
        return noted

    monkeypatch.setattr(RenewalKeeper, "remember", slowly)
    story.run()
    assert story.scheduled() == (87, None)
    story.run()
    assert story.scheduled() == (87, None)


def test_once_it_is_there_nothing_is_looked_at_again(story: Story) -> None:
    story.dies()
    assert story.run() == 0
    assert story.scheduled() == (BEFORE + 10, SCHEDULED + 10)
    story.run(host="b", journal="own")
    story.rehearsal.sandbox.clock.advance(timedelta(minutes=5))  # nobody waits any more for what the dead host sent
    assert story.run() == 0
    seen = story.rehearsal.sandbox.writes()
    assert story.run() == 0
    assert story.rehearsal.sandbox.writes() == seen
    assert story.rehearsal.calls[-1] < 10
