"""Whole passes with the journal on a real PostgreSQL server: what several machines share. Left out without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

import connector.sandbox
from connector.cli.rehearsal import CRASHED, Rehearsal
from connector.errors import ExitCode
from connector.journal import open_journal
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import load_scenario
from connector.settings import Config
from connector.sync.outcome import FamilyState, RunResult
from connector.wiring import RunRequest, run_once
from tests.support.postgres import LEFT_OUT, SERVER, own_schema

STORY = Path(connector.sandbox.__file__).parent / "scenarios" / "new_york_grows.yaml"

pytestmark = pytest.mark.skipif(SERVER is None, reason=LEFT_OUT)


@pytest.fixture
def url() -> Iterator[str]:
    """An empty schema of its own."""
    with own_schema() as found:
        yield found


class Before:
    """Does something once, before the first call that fits."""

    def __init__(self, do: Callable[[], object], *, method: str, to: str = "/v1/customers/") -> None:
        self._do: Callable[[], object] | None = do
        self._method, self._to = method, to

    def before(self, request: requests.PreparedRequest) -> None:
        if self._do is not None and request.method == self._method and self._to in (request.url or ""):
            do, self._do = self._do, None
            do()

    def after(self, response: requests.Response) -> None:
        pass


def rehearsed(url: str, directory: Path) -> Rehearsal:
    return Rehearsal(load_scenario(STORY), changes={"state": {"url": url, "directory": str(directory)}})


def grow(rehearsal: Rehearsal) -> None:
    for step in rehearsal.scenario.steps:
        if step.run is not None:
            return
        rehearsal.sandbox.perform(step)


def run(rehearsal: Rehearsal, *, observer: Before | None = None, config: Config | None = None) -> RunResult:
    return run_once(
        config or rehearsal.config, RunRequest(parallel=1), clock=rehearsal.sandbox.clock, observer=observer
    )


def on_another_host(rehearsal: Rehearsal, directory: Path) -> Config:
    section = rehearsal.config.state.model_copy(update={"directory": directory})
    return rehearsal.config.model_copy(update={"state": section})


def bought(rehearsal: Rehearsal) -> int:
    return sum(1 for change in rehearsal.sandbox.partner_center.changes if "quantity" in change.fields)


def test_the_whole_story_goes_through_and_a_second_run_writes_nothing(url: str, tmp_path: Path) -> None:
    with rehearsed(url, tmp_path) as rehearsal:
        assert rehearsal.play().differences == []
        with open_journal(url, now=rehearsal.sandbox.clock.now(), read_only=True) as journal:
            assert journal.verify() == []
            assert journal.open_intents() == []
            assert journal.leases() == []
            assert {record.exit_code for record in journal.list_runs()} == {0}
        assert not (tmp_path / "journal.sqlite3").exists()


def test_while_one_host_works_on_a_family_another_is_told_who_and_leaves_it(url: str, tmp_path: Path) -> None:
    with rehearsed(url, tmp_path / "one") as rehearsal:
        grow(rehearsal)
        elsewhere = on_another_host(rehearsal, tmp_path / "two")
        met: list[RunResult] = []
        first = run(rehearsal, observer=Before(lambda: met.append(run(rehearsal, config=elsewhere)), method="PATCH"))
        assert (first.exit_code, met[0].exit_code) == (ExitCode.DONE, ExitCode.TRY_LATER)
        assert [outcome.state for outcome in met[0].outcomes] == [FamilyState.BUSY]
        assert first.run_id in met[0].outcomes[0].reason
        assert bought(rehearsal) == 1


def test_whoever_sleeps_through_its_lease_wakes_up_to_nothing_left_and_sends_nothing(url: str, tmp_path: Path) -> None:
    with rehearsed(url, tmp_path / "one") as rehearsal:
        grow(rehearsal)
        elsewhere = on_another_host(rehearsal, tmp_path / "two")
        met: list[RunResult] = []

        def sleep() -> None:
            rehearsal.sandbox.clock.advance(timedelta(minutes=11))
            met.append(run(rehearsal, config=elsewhere))

        # Under its lease, right before it asks the provider, and so before all that is decided.
        asleep = Before(sleep, method="GET", to="/subscriptions/")
        first = run_once(rehearsal.config, RunRequest(parallel=1), clock=rehearsal.sandbox.clock, observer=asleep)
        assert met[0].exit_code is ExitCode.DONE
        assert bought(rehearsal) == 1
        assert first.exit_code in (ExitCode.DONE, ExitCode.TRY_LATER)
        assert not [effect for outcome in first.outcomes for effect in outcome.effects if "provider" in effect.kind]
        seen = rehearsal.sandbox.writes()
        assert run(rehearsal).exit_code is ExitCode.DONE
        assert rehearsal.sandbox.writes() == seen


def test_dying_after_any_call_the_next_run_of_that_host_goes_on_at_once(url: str, tmp_path: Path) -> None:
    calls = 0
    died = True
    while died:
        calls += 1
        with rehearsed(url, tmp_path / "one") as rehearsal:
            grow(rehearsal)
            died = rehearsal.run(RunStep(crash_after=calls)) == CRASHED
            assert run(rehearsal).exit_code is ExitCode.DONE, calls
            assert bought(rehearsal) == 1, calls
    assert calls > 6
    with open_journal(url, now=rehearsal.sandbox.clock.now(), read_only=True) as journal:
        assert journal.verify() == []
