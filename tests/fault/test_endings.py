"""How a run may end, and how two may meet: what is in hand is finished or left resumable, and nothing is bought twice."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

import connector.sandbox
from connector.cli.rehearsal import Rehearsal
from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.errors import ExitCode, JournalError, LockHeld
from connector.journal import SqlJournal, open_journal
from connector.sandbox.scenario import build_scenario, build_step, load_scenario
from connector.settings import Config
from connector.sync.outcome import FamilyState, RunResult
from connector.sync.ports import Intent, IntentState, RunInfo
from connector.sync.stopping import StopRequest
from connector.wiring import RunRequest, run_once

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"
NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
SKU = "CFQ7TTC0LFLX:0001"


def three_customers() -> dict[str, Any]:
    """Three customers with one family each; every child grows by five."""
    names = ("ada", "ben", "cleo")
    at_provider = {"quantity": 25, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True}
    return {
        "name": "three customers",
        "clock": "2026-03-02T14:00:00Z",
        "time_zone": "America/New_York",
        "accounts": [
            {"id": name, "name": name, "tenant": f"{index}1111111-1111-4111-8111-111111111111"}
            for index, name in enumerate(names, 1)
        ],
        "contracts": [{"id": f"c-{name}", "account": name, "name": name} for name in names],
        "subscriptions": [
            row
            for name in names
            for row in (
                {
                    "id": f"p-{name}",
                    "contract": f"c-{name}",
                    "product": "M365-E3",
                    "part_number": SKU,
                    "provider": "partner_center",
                    "quantity": 25,
                    "at_provider": at_provider,
                },
                {
                    "id": f"k-{name}",
                    "contract": f"c-{name}",
                    "product": "M365-E3",
                    "part_number": SKU,
                    "provider": "linked",
                    "linked_to": f"p-{name}",
                    "quantity": 25,
                },
            )
        ],
        "steps": [{"change": {"subscription": f"k-{name}", "by": 5}} for name in names],
    }


@contextmanager
def rehearsed(name: str | None = None, **changes: Any) -> Iterator[Rehearsal]:
    """A sandbox in which people have already made their changes; without a name, three families are due."""
    scenario = build_scenario(three_customers()) if name is None else load_scenario(SCENARIOS / f"{name}.yaml")
    with Rehearsal(scenario, changes=changes) as rehearsal:
        for step in scenario.steps:
            if step.run is not None:
                break
            rehearsal.sandbox.perform(step)
        yield rehearsal


class At:
    """Does something before the N-th call that fits; counts what fits.

    With ``once_each`` a repetition counts as the call that it repeats: a loaded machine may lose a connection, and the
    N-th purchase is the one for the N-th subscription all the same.
    """

    def __init__(
        self, do: Callable[[], None], *, number: int = 1, to: str = "", method: str = "", once_each: bool = False
    ) -> None:
        self._do, self._number, self._to, self._method, self._once_each = do, number, to, method, once_each
        self._addresses: set[str] = set()
        self.seen = 0

    def before(self, request: requests.PreparedRequest) -> None:
        url = request.url or ""
        if (
            self._method in ("", request.method)
            and self._to in url
            and not (self._once_each and url in self._addresses)
        ):
            self._addresses.add(url)
            self.seen += 1
            if self.seen == self._number:
                self._do()

    def after(self, response: requests.Response) -> None:
        pass


def purchase(do: Callable[[], None], number: int = 1) -> At:
    """At the N-th purchase, right before it leaves."""
    return At(do, number=number, to="/v1/customers/", method="PATCH", once_each=True)


def run(
    rehearsal: Rehearsal,
    *,
    observer: At | None = None,
    stop: StopRequest | None = None,
    parallel: int = 1,
    config: Config | None = None,
    clock: Any = None,
) -> RunResult:
    return run_once(
        config or rehearsal.config,
        RunRequest(parallel=parallel),
        clock=clock or rehearsal.sandbox.clock,
        observer=observer,
        stop=stop,
    )


def bought(rehearsal: Rehearsal) -> int:
    """How many times the number of seats at the provider moved."""
    return sum(1 for change in rehearsal.sandbox.partner_center.changes if "quantity" in change.fields)


def provider_quantities(rehearsal: Rehearsal) -> list[int]:
    return [sub.quantity for sub in rehearsal.sandbox.partner_center.subscriptions.values()]


def other_host(rehearsal: Rehearsal, directory: Path) -> Config:
    """The same world, seen from a machine with a state directory of its own."""
    section = rehearsal.config.state.model_copy(update={"directory": directory})
    return rehearsal.config.model_copy(update={"state": section})


def states(result: RunResult) -> list[FamilyState]:
    return [outcome.state for outcome in result.outcomes]


# --- asked to stop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2, 3])
def test_asked_to_stop_it_finishes_the_family_in_hand_starts_no_other_and_ends_with_75(family: int) -> None:
    stop = StopRequest()
    with rehearsed() as rehearsal:
        result = run(rehearsal, observer=purchase(lambda: stop.ask("SIGTERM received"), family), stop=stop)
        assert result.exit_code is ExitCode.TRY_LATER
        assert "SIGTERM received" in str(result.error)
        assert sorted(states(result)) == sorted([FamilyState.DONE] * family + [FamilyState.NOT_STARTED] * (3 - family))
        assert bought(rehearsal) == family
        assert run(rehearsal).exit_code is ExitCode.DONE
        assert (bought(rehearsal), provider_quantities(rehearsal)) == (3, [30, 30, 30])


def test_asked_to_stop_families_side_by_side_are_all_finished_and_the_rest_is_told_as_not_started() -> None:
    stop = StopRequest()
    with rehearsed() as rehearsal:
        result = run(rehearsal, observer=purchase(lambda: stop.ask("SIGINT received")), stop=stop, parallel=2)
        assert result.exit_code is ExitCode.TRY_LATER
        assert set(states(result)) <= {FamilyState.DONE, FamilyState.NOT_STARTED}
        assert bought(rehearsal) == states(result).count(FamilyState.DONE) >= 1
        assert len(result.outcomes) == 3


def test_asked_to_stop_while_it_still_reads_it_starts_nothing() -> None:
    stop = StopRequest()
    with rehearsed() as rehearsal:
        result = run(rehearsal, observer=At(lambda: stop.ask("SIGTERM received"), to="/api/data/"), stop=stop)
        assert (result.exit_code, bought(rehearsal)) == (ExitCode.TRY_LATER, 0)
        assert rehearsal.sandbox.writes().crm == 0


def test_after_the_deadline_no_further_family_is_started_and_the_next_run_goes_on() -> None:
    with rehearsed(run={"deadline": "5m"}) as rehearsal:
        late = purchase(lambda: rehearsal.sandbox.clock.sleep(301))
        result = run(rehearsal, observer=late)
        assert result.exit_code is ExitCode.TRY_LATER
        assert "run.deadline" in str(result.error)
        assert sorted(states(result)) == [FamilyState.DONE, FamilyState.NOT_STARTED, FamilyState.NOT_STARTED]
        assert result.oldest_waiting is not None
        assert result.oldest_waiting[1] == NOW
        again = run(rehearsal)
        assert (again.exit_code, again.oldest_waiting) == (ExitCode.DONE, None)
        assert provider_quantities(rehearsal) == [30, 30, 30]


# --- the journal cannot be written -----------------------------------------------------------------------------------


class FullDisk:
    """Lets so many writes of the journal through, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        original = SqlJournal._write

        @contextmanager
        def write(journal: SqlJournal, what: str) -> Iterator[Any]:
            if self.left is not None:
                if self.left == 0:
                    raise JournalError(f"cannot record {what}: database or disk is full")
                self.left -= 1
            with original(journal, what) as connection:
                yield connection

        monkeypatch.setattr(SqlJournal, "_write", write)


def test_wherever_the_disk_gets_full_nothing_unjournaled_is_sent_and_the_end_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = FullDisk(monkeypatch)
    ended = False
    for writes in range(40):
        with rehearsed("new_york_grows") as rehearsal:
            disk.left = writes
            result = run(rehearsal)
            ended = result.exit_code is ExitCode.DONE
            disk.left = None
            if ended:
                break
            assert result.exit_code is ExitCode.CANNOT_JOURNAL, writes
            with open_journal(rehearsal.state, now=NOW, read_only=True) as journal:
                sent = [intent for intent in journal.list_intents() if intent.attempts]
            assert bought(rehearsal) <= len(sent) <= 1, writes
            again = run(rehearsal)
            # A family that a journal left in the middle is done or settled by the next run, whatever was lost.
            assert again.exit_code is ExitCode.DONE, (writes, again.error, again.outcomes)
            assert bought(rehearsal) == 1
            assert run(rehearsal).exit_code is ExitCode.DONE
            assert bought(rehearsal) == 1
    assert ended
    assert writes > 8


def test_a_journal_that_fails_in_one_family_lets_no_other_start_and_all_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = FullDisk(monkeypatch)
    with rehearsed() as rehearsal:
        disk.left = None

        def fill() -> None:
            disk.left = 0

        result = run(rehearsal, observer=purchase(fill))
        assert result.exit_code is ExitCode.CANNOT_JOURNAL
        assert sorted(states(result)) == [FamilyState.FAILED, FamilyState.NOT_STARTED, FamilyState.NOT_STARTED]
        assert bought(rehearsal) == 1
        disk.left = None
        assert run(rehearsal).exit_code is ExitCode.DONE
        assert (bought(rehearsal), provider_quantities(rehearsal)) == (3, [30, 30, 30])


# --- something breaks within a family --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), ExitCode.FAMILIES_NEED_ATTENTION), (RuntimeError("bug"), ExitCode.INTERNAL)]
)
@pytest.mark.parametrize("parallel", [1, 3])
def test_what_breaks_in_one_family_stops_that_family_only(
    error: Exception, code: ExitCode, parallel: int, tmp_path: Path
) -> None:
    def fail() -> None:
        raise error

    with rehearsed(run={"report_directory": str(tmp_path)}) as rehearsal:
        result = run(rehearsal, observer=purchase(fail), parallel=parallel)
        assert result.exit_code is code
        assert sorted(states(result)) == [FamilyState.DONE, FamilyState.DONE, FamilyState.FAILED]
        [report] = tmp_path.glob("*.json")
        assert json.loads(report.read_text(encoding="utf-8"))["exit_code"] == int(code)
        assert run(rehearsal).exit_code is ExitCode.DONE
        assert (bought(rehearsal), provider_quantities(rehearsal)) == (3, [30, 30, 30])


# --- the report --------------------------------------------------------------------------------------------------------


def test_each_run_leaves_a_report_of_its_own_that_only_its_owner_can_read(tmp_path: Path) -> None:
    with rehearsed(run={"report_directory": str(tmp_path / "reports")}) as rehearsal:
        results = [run(rehearsal), run(rehearsal)]
        rehearsal.sandbox.sign_in.refusals["dataverse"] = "not_a_member"
        results.append(run(rehearsal))
        found = {path.name: path for path in (tmp_path / "reports").iterdir()}
        assert len(found) == 3
        for result in results:
            [path] = [path for name, path in found.items() if result.run_id in name]
            document = json.loads(path.read_text(encoding="utf-8"))
            assert (document["run_id"], document["exit_code"]) == (result.run_id, int(result.exit_code))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "reports").stat().st_mode) == 0o700
        assert results[-1].exit_code is ExitCode.PERMISSION
        with open_journal(rehearsal.state, now=NOW, read_only=True) as journal:
            kept = {record.info.id: record.report for record in journal.list_runs()}
        assert kept[results[0].run_id]["exit_code"] == 0


def test_a_dry_run_leaves_no_report_and_a_report_that_cannot_be_written_changes_no_exit_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with rehearsed(run={"report_directory": str(tmp_path / "file")}) as rehearsal:
        run_once(rehearsal.config, RunRequest(dry_run=True), clock=rehearsal.sandbox.clock)
        assert "cannot be written" not in caplog.text
        assert run(rehearsal).exit_code is ExitCode.DONE
        assert "cannot be written" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- clocks ------------------------------------------------------------------------------------------------------------


class Shifted:
    """A machine whose clock is wrong."""

    def __init__(self, base: Any, by: timedelta) -> None:
        self._base, self._by = base, by

    def now(self) -> datetime:
        now: datetime = self._base.now()
        return now + self._by

    def sleep(self, seconds: float) -> None:
        self._base.sleep(seconds)


@pytest.mark.parametrize("days", [-1, 1, -400, 400])
def test_a_wrong_clock_of_the_machine_changes_nothing(days: int) -> None:
    with rehearsed("future_change") as rehearsal:
        wrong = Shifted(rehearsal.sandbox.clock, timedelta(days=days))
        first = run(rehearsal, clock=wrong)
        assert (first.exit_code, bought(rehearsal)) == (ExitCode.DONE, 0)
        assert abs(first.started_at - rehearsal.sandbox.clock.now()) < timedelta(minutes=1)
        rehearsal.sandbox.perform(build_step({"at": "2026-03-04T05:06:00Z"}, rehearsal.scenario))
        assert run(rehearsal, clock=wrong).exit_code is ExitCode.DONE
        assert provider_quantities(rehearsal) == [58]


# --- two at once -------------------------------------------------------------------------------------------------------


def test_a_second_run_on_the_same_state_is_told_who_holds_it_and_sends_nothing() -> None:
    with rehearsed("new_york_grows") as rehearsal:
        met: list[RunResult] = []
        first = run(rehearsal, observer=purchase(lambda: met.append(run(rehearsal))))
        assert first.exit_code is ExitCode.DONE
        assert met[0].exit_code is ExitCode.TRY_LATER
        assert isinstance(met[0].error, LockHeld)
        assert first.run_id in met[0].error.holder
        assert bought(rehearsal) == 1


def test_wherever_a_run_falls_asleep_while_another_host_does_its_work_one_purchase_is_made(tmp_path: Path) -> None:
    counted = At(lambda: None, number=0)
    with rehearsed("new_york_grows") as rehearsal:
        run(rehearsal, observer=counted)
    assert counted.seen > 6
    for call in range(1, counted.seen + 1):
        with rehearsed("new_york_grows") as rehearsal:
            elsewhere = other_host(rehearsal, tmp_path / f"other-{call}")
            met: list[RunResult] = []
            asleep = At(lambda: met.append(run(rehearsal, config=elsewhere)), number=call)  # noqa: B023
            first = run(rehearsal, observer=asleep)
            assert met[0].exit_code is ExitCode.DONE, call
            assert first.exit_code is ExitCode.DONE, (call, first.error, first.outcomes)
            assert (bought(rehearsal), provider_quantities(rehearsal)) == (1, [60]), call
            seen = rehearsal.sandbox.writes()
            assert run(rehearsal).exit_code is run(rehearsal, config=elsewhere).exit_code is ExitCode.DONE
            assert rehearsal.sandbox.writes() == seen, call


def test_whoever_slept_through_its_lease_may_not_send_what_it_decided_before(tmp_path: Path) -> None:
    later, family = NOW + timedelta(minutes=11), SubscriptionId("f-1")
    where = ("partner_center", TenantId("tenant-1"), ProviderSubscriptionId("ps-1"))
    with open_journal(tmp_path, now=NOW) as sleeper, open_journal(tmp_path, now=NOW) as rival:
        sleeper.begin_run(RunInfo("run-1", "ops@host", "run", NOW, "0.1.0"))
        with sleeper.lease(family, "run-1", NOW, 600):
            sleeper.plan(Intent("intent-1", "run-1", family, *where, 50, 60, (LogId("log-1"),), "request-1", NOW))
            with rival.lease(family, "run-2", later, 600), pytest.raises(LockHeld) as caught:
                sleeper.mark("intent-1", IntentState.SENDING, later)
            assert caught.value.holder == "run-2"
            assert rival.get_intent("intent-1").state is IntentState.PLANNED
        assert rival.verify() == []
