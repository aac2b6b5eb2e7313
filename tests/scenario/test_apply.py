"""Saved plans, limits and kill switches against the sandbox: what was reviewed is done, and nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import connector.sandbox
from connector.cli import main
from connector.cli.rehearsal import Rehearsal, settings_for
from connector.domain.saved import SavedPlan
from connector.journal import open_journal
from connector.precautions import made_with
from connector.report.document import run_document
from connector.report.planfile import plan_file, read_plan_file, render
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import build_scenario, build_step, load_scenario
from connector.settings import Config
from connector.sync.outcome import FamilyState, RunResult
from connector.wiring import RunRequest, run_once
from tests.scenario.test_passes import world

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"


def act(rehearsal: Rehearsal, **step: Any) -> None:
    rehearsal.sandbox.perform(build_step(step, rehearsal.scenario))


def plan(rehearsal: Rehearsal, *, only: str | None = None, lives: timedelta = timedelta(hours=24)) -> SavedPlan:
    request = RunRequest(dry_run=True, keep_inputs=True, parallel=1, only=only, command="plan")
    result = run_once(rehearsal.config, request, clock=rehearsal.sandbox.clock)
    assert result.error is None
    text = render(plan_file(result, made_with(rehearsal.config, "ann@host"), lives))
    return read_plan_file(text.encode(), "plan.json")


def apply(
    rehearsal: Rehearsal,
    saved: SavedPlan,
    *,
    config: Config | None = None,
    allow: Mapping[str, str] | None = None,
    observer: Any = None,
) -> RunResult:
    request = RunRequest(saved=saved, parallel=1, command="apply", allow=allow or {})
    return run_once(config or rehearsal.config, request, clock=rehearsal.sandbox.clock, observer=observer)


def untouched(rehearsal: Rehearsal) -> bool:
    writes = rehearsal.sandbox.writes()
    return writes.provider == 0 and writes.crm == 0


def at_provider(rehearsal: Rehearsal, alias: str = "p-e3") -> int:
    return rehearsal.sandbox.world.bought(alias).quantity


@pytest.fixture
def pinecone() -> Iterator[Rehearsal]:
    """Pine Cone Vet after New York grew by ten, before anybody ran anything."""
    with Rehearsal(load_scenario(SCENARIOS / "new_york_grows.yaml")) as rehearsal:
        act(rehearsal, change={"subscription": "ny-e3", "quantity": 35})
        yield rehearsal


def test_a_saved_plan_is_applied_exactly_and_only_once(pinecone: Rehearsal) -> None:
    saved = plan(pinecone)
    assert untouched(pinecone)
    result = apply(pinecone, saved)
    assert (result.error, int(result.exit_code)) == (None, 0)
    kinds = [effect.kind for effect in result.outcomes[0].effects]
    assert kinds == ["parent.quantity", "provider.quantity", "logs.provisioned"]
    assert at_provider(pinecone) == 60
    again = apply(pinecone, saved)
    assert int(again.exit_code) == 6
    assert pinecone.sandbox.writes().provider == 1
    assert pinecone.run(RunStep()) == 0
    assert pinecone.sandbox.writes().provider == 1


@pytest.mark.parametrize("name", ["seats_move", "netting_off", "manual_parent", "decrease_outside_window"])
def test_every_kind_of_plan_can_be_applied_as_it_was_saved(name: str) -> None:
    with Rehearsal(load_scenario(SCENARIOS / f"{name}.yaml")) as rehearsal:
        for step in rehearsal.scenario.steps:
            if step.run is not None:
                break
            rehearsal.sandbox.perform(step)
        saved = plan(rehearsal)
        planned = [action["action"] for family in saved.families for action in family.actions]
        result = apply(rehearsal, saved)
        assert result.error is None
        assert FamilyState.STALE not in {outcome.state for outcome in result.outcomes}
        done = {
            "parent.quantity": "SetParentQuantity",
            "provider.quantity": "SetProviderQuantity",
            "logs.provisioned": "Acknowledge",
            "log.failed": "FailLogs",
        }
        assert [done[effect.kind] for outcome in result.outcomes for effect in outcome.effects] == planned


MOVES: list[tuple[dict[str, Any], str]] = [
    ({"change": {"subscription": "ny-e3", "quantity": 36}}, "quantity 35 → 36"),
    ({"change": {"subscription": "mem-e3", "quantity": 16}}, "quantity 15 → 16"),
    ({"crm_change": {"subscription": "p-e3", "quantity": 51}}, "quantity 50 → 51"),
    ({"provider_change": {"subscription": "p-e3", "quantity": 55}}, "provider quantity 50 → 55"),
    ({"provider_change": {"subscription": "p-e3", "auto_renew": False}}, "provider auto_renew true → false"),
    ({"link": {"subscription": "mem-e3", "linked_to": None, "provider": "do_nothing"}}, "there → nothing"),
]


@pytest.mark.parametrize(("step", "said"), MOVES, ids=[said for _, said in MOVES])
def test_a_plan_is_stale_when_anything_moved_and_says_what(
    pinecone: Rehearsal, step: dict[str, Any], said: str
) -> None:
    saved = plan(pinecone)
    act(pinecone, **step)
    before = pinecone.sandbox.writes()
    result = apply(pinecone, saved)
    assert int(result.exit_code) == 6
    assert result.error is not None
    assert said in " ".join(result.error.problems)  # type: ignore[attr-defined]
    assert result.outcomes == ()
    assert pinecone.sandbox.writes() == before


def test_a_plan_is_stale_under_another_policy_and_names_the_key(pinecone: Rehearsal) -> None:
    saved = plan(pinecone)
    policy = pinecone.config.policy.model_copy(update={"netting": False})
    result = apply(pinecone, saved, config=pinecone.config.model_copy(update={"policy": policy}))
    assert int(result.exit_code) == 6
    assert "policy.netting true → false" in result.error.problems  # type: ignore[union-attr]
    assert untouched(pinecone)


def test_a_plan_expires(pinecone: Rehearsal) -> None:
    saved = plan(pinecone, lives=timedelta(hours=2))
    act(pinecone, advance="3h")
    result = apply(pinecone, saved)
    assert (int(result.exit_code), "expired" in str(result.error)) == (6, True)
    assert untouched(pinecone)


def test_time_that_passed_may_make_a_plan_stale_although_nobody_touched_anything() -> None:
    """The decrease was allowed within its window; the window closed, and nothing in the CRM moved for that."""
    with Rehearsal(load_scenario(SCENARIOS / "decrease_inside_window.yaml")) as rehearsal:
        for step in rehearsal.scenario.steps:
            if step.run is not None:
                break
            rehearsal.sandbox.perform(step)
        saved = plan(rehearsal, lives=timedelta(days=30))
        act(rehearsal, advance="20d")
        before = rehearsal.sandbox.writes()
        assert int(apply(rehearsal, saved).exit_code) == 6
        assert rehearsal.sandbox.writes() == before


class After:
    """Does something after the first answered request to which a condition applies."""

    def __init__(self, when: Callable[[requests.PreparedRequest], bool], what: Callable[[], None]) -> None:
        self._when, self._what = when, what
        self.done = False

    def before(self, request: requests.PreparedRequest) -> None:
        pass

    def after(self, response: requests.Response) -> None:
        if not self.done and self._when(response.request):
            self.done = True
            self._what()


def in_turn(rehearsal: Rehearsal, families: int) -> list[str]:
    """The customers of a generated world in the order in which a pass takes them."""
    names = [f"c{number:03d}" for number in range(families)]
    return sorted(names, key=lambda name: rehearsal.sandbox.world.id_of(f"{name}-p"))


def seats(rehearsal: Rehearsal, names: list[str]) -> list[int]:
    return [at_provider(rehearsal, f"{name}-p") for name in names]


def is_provider_write(request: requests.PreparedRequest) -> bool:
    return request.method == "PATCH" and "/customers/" in str(request.url)


def test_a_family_that_moves_while_the_plan_is_applied_is_left_alone_and_the_others_are_done() -> None:
    with Rehearsal(build_scenario(world(3, 3))) as rehearsal:
        for step in rehearsal.scenario.steps:
            rehearsal.sandbox.perform(step)
        saved, order = plan(rehearsal), in_turn(rehearsal, 3)
        meddle = After(is_provider_write, lambda: act(rehearsal, change={"subscription": f"{order[1]}-2", "by": 7}))
        result = apply(rehearsal, saved, observer=meddle)
        assert meddle.done, (result.error, result.outcomes)
        ends = {outcome.family: outcome for outcome in result.outcomes}
        first, second, third = (ends[rehearsal.sandbox.world.id_of(f"{name}-p")] for name in order)  # type: ignore[index]
        assert (first.state, second.state, third.state) == (FamilyState.DONE, FamilyState.STALE, FamilyState.DONE)
        assert int(result.exit_code) == 6
        assert second.effects == ()
        assert "quantity 10 → 17" in second.reason
        assert seats(rehearsal, order) == [32, 30, 32]


def test_only_what_was_planned_is_done_even_if_more_is_due_by_now() -> None:
    """A plan of one family leaves every other family alone, whatever it could do there."""
    with Rehearsal(build_scenario(world(3, 3))) as rehearsal:
        for step in rehearsal.scenario.steps:
            rehearsal.sandbox.perform(step)
        saved = plan(rehearsal, only=rehearsal.sandbox.world.id_of("c001-p"))
        result = apply(rehearsal, saved)
        assert int(result.exit_code) == 0
        assert seats(rehearsal, ["c000", "c001", "c002"]) == [30, 32, 30]


def test_a_change_that_arrives_in_the_middle_waits_for_the_next_run(pinecone: Rehearsal) -> None:
    saved = plan(pinecone)
    meddle = After(is_provider_write, lambda: act(pinecone, change={"subscription": "mem-e3", "by": 4}))
    result = apply(pinecone, saved, observer=meddle)
    assert meddle.done
    assert at_provider(pinecone) == 60
    assert [effect.kind for effect in result.outcomes[0].effects][-1] == "logs.provisioned"
    assert pinecone.run(RunStep()) == 0
    assert at_provider(pinecone) == 64


@pytest.mark.parametrize("service", ["dataverse", "partner_center"])
def test_a_lost_answer_while_a_plan_is_applied_is_read_back_and_the_plan_goes_on(
    pinecone: Rehearsal, service: str
) -> None:
    saved = plan(pinecone)
    act(pinecone, fault={"service": service, "method": "PATCH", "kind": "lost_response"})
    result = apply(pinecone, saved)
    assert int(result.exit_code) == 0, result.outcomes
    assert at_provider(pinecone) == 60
    assert pinecone.sandbox.writes().provider == 1


def test_after_a_crash_in_the_middle_the_plan_is_stale_and_a_run_finishes_what_it_began(pinecone: Rehearsal) -> None:
    saved = plan(pinecone)

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        apply(pinecone, saved, observer=After(is_provider_write, die))
    assert int(apply(pinecone, saved).exit_code) == 6
    assert pinecone.run(RunStep()) == 0
    assert (at_provider(pinecone), pinecone.sandbox.writes().provider) == (60, 1)


def limited(rehearsal: Rehearsal, **limits: Any) -> None:
    policy = rehearsal.config.policy
    changed = policy.model_copy(update={"limits": policy.limits.model_validate(limits)})
    rehearsal.config = rehearsal.config.model_copy(update={"policy": changed})


def test_an_unsafe_plan_is_shown_and_saved_and_a_run_writes_nothing(pinecone: Rehearsal) -> None:
    limited(pinecone, seats_added=9, money_added={"USD": 1})
    saved = plan(pinecone)
    assert len(saved.families) == 1
    request = RunRequest(dry_run=True, parallel=1)
    shown = run_once(pinecone.config, request, clock=pinecone.sandbox.clock)
    assert int(shown.exit_code) == 0
    safety = run_document(shown, "plan")["plan"]["safety"]  # type: ignore[index]
    assert safety["is_safe"] is False
    assert {check["limit"] for check in safety["checks"] if check["exceeded"]} == {"seats_added", "seats_without_price"}
    assert pinecone.run(RunStep()) == 4
    stopped = pinecone.results[-1]
    assert "seats_added: 9 seats allowed, found 10 seats" in stopped.error.problems  # type: ignore[union-attr]
    assert stopped.plan.verdict.violations
    assert untouched(pinecone)


def test_allow_lets_one_plan_go_beyond_one_limit_and_is_journaled(pinecone: Rehearsal) -> None:
    limited(pinecone, seats_added=9, parents_changed=0)
    saved = plan(pinecone)
    assert int(apply(pinecone, saved).exit_code) == 4
    assert int(apply(pinecone, saved, allow={"seats_added": "200"}).exit_code) == 4
    assert untouched(pinecone)
    done = apply(pinecone, saved, allow={"seats_added": "200", "parents_changed": "1"})
    assert (int(done.exit_code), at_provider(pinecone)) == (0, 60)
    with open_journal(pinecone.state / "journal.sqlite3", now=pinecone.sandbox.clock.now(), read_only=True) as journal:
        entries = [link.entry for link in journal.audit_trail()]
        runs = {run.info.id: run.info for run in journal.list_runs(None)}
    allowed = [entry for entry in entries if entry.event == "limit.allowed" and entry.run_id == done.run_id]
    assert [dict(entry.detail) for entry in allowed] == [
        {"limit": "parents_changed", "configured": 0, "allowed": "1"},
        {"limit": "seats_added", "configured": 9, "allowed": "200"},
    ]
    assert "@" in runs[done.run_id].operator
    applied = [entry for entry in entries if entry.event == "plan.applied" and entry.run_id == done.run_id]
    assert applied[0].detail["digest"] == saved.digest
    assert applied[0].detail["created_by"] == "ann@host"
    act(pinecone, change={"subscription": "ny-e3", "by": 10})
    assert pinecone.run(RunStep()) == 4


def test_a_family_that_grows_beyond_a_limit_while_the_run_is_under_way_is_stopped_before_its_first_write() -> None:
    with Rehearsal(build_scenario(world(2, 2))) as rehearsal:
        for step in rehearsal.scenario.steps:
            rehearsal.sandbox.perform(step)
        limited(rehearsal, seats_added=10)
        order = in_turn(rehearsal, 2)

        def meddle() -> None:
            # A person edits the second parent and its child, so that its first write meets 412 and it is read again.
            act(rehearsal, change={"subscription": f"{order[1]}-2", "by": 50})
            act(rehearsal, crm_change={"subscription": f"{order[1]}-p", "quantity": 30})

        request = RunRequest(parallel=1)
        observer = After(is_provider_write, meddle)
        result = run_once(rehearsal.config, request, clock=rehearsal.sandbox.clock, observer=observer)
        assert observer.done
        stopped = next(end for end in result.outcomes if end.state is FamilyState.STOPPED)
        assert "seats_added: 10 seats allowed, found 54 seats" in stopped.reason
        assert stopped.effects == ()
        assert int(result.exit_code) == 4
        assert seats(rehearsal, order) == [32, 30]


def test_a_file_in_the_state_directory_stops_a_run_and_not_a_dry_run(pinecone: Rehearsal) -> None:
    pinecone.state.mkdir(parents=True, exist_ok=True)
    (pinecone.state / "STOP").write_text("until Monday\n", encoding="utf-8")
    assert pinecone.run(RunStep(dry_run=True)) == 0
    assert "STOP" in str(pinecone.results[-1].plan.verdict.kill_switch)
    assert pinecone.run(RunStep()) == 4
    assert "STOP" in str(pinecone.results[-1].error)
    assert "removes" in str(pinecone.results[-1].error.hint)  # type: ignore[union-attr]
    assert untouched(pinecone)
    (pinecone.state / "STOP").unlink()
    assert pinecone.run(RunStep()) == 0
    assert at_provider(pinecone) == 60


def in_the_middle(rehearsal: Rehearsal, what: Callable[[], None]) -> RunResult:
    observer = After(is_provider_write, what)
    result = run_once(rehearsal.config, RunRequest(parallel=1), clock=rehearsal.sandbox.clock, observer=observer)
    assert observer.done
    return result


def test_a_kill_switch_that_is_thrown_in_the_middle_lets_the_family_in_hand_finish_and_starts_no_other() -> None:
    with Rehearsal(build_scenario(world(3, 3))) as rehearsal:
        for step in rehearsal.scenario.steps:
            rehearsal.sandbox.perform(step)
        result = in_the_middle(rehearsal, lambda: (rehearsal.state / "STOP").touch())
        assert int(result.exit_code) == 4
        states = sorted(outcome.state for outcome in result.outcomes)
        assert states == [FamilyState.DONE, FamilyState.NOT_STARTED, FamilyState.NOT_STARTED]
        assert seats(rehearsal, in_turn(rehearsal, 3)) == [32, 30, 30]
        (rehearsal.state / "STOP").unlink()
        assert rehearsal.run(RunStep()) == 0
        assert seats(rehearsal, in_turn(rehearsal, 3)) == [32, 32, 32]


def test_the_switch_in_the_crm_is_looked_at_again_while_a_run_is_under_way() -> None:
    scenario = build_scenario({**world(3, 3), "kill_switch": "off"})
    with Rehearsal(scenario) as rehearsal:
        for step in rehearsal.scenario.steps:
            rehearsal.sandbox.perform(step)
        store = rehearsal.sandbox.store

        def throw() -> None:
            row = next(
                row for row in store.rows("work365_configuration") if row["work365_name"] == "LinkSub.KillSwitch"
            )
            store.update(
                "work365_configuration", row["work365_configurationid"], {"work365_configuration_value": "stop"}
            )
            act(rehearsal, advance="11s")

        result = in_the_middle(rehearsal, throw)
        assert int(result.exit_code) == 4
        assert "LinkSub.KillSwitch = stop" in str(result.error)
        assert seats(rehearsal, in_turn(rehearsal, 3)) == [32, 30, 30]


def test_counting_the_source_costs_no_request_and_the_last_finished_run_is_the_measure() -> None:
    scenario = load_scenario(SCENARIOS / "new_york_grows.yaml")
    with Rehearsal(scenario, changes={"policy": {"limits": {"source_shrunk_from": 1}}}) as pinecone:
        act(pinecone, change={"subscription": "ny-e3", "quantity": 35})
        _counted(pinecone)


def _counted(pinecone: Rehearsal) -> None:
    pinecone.run(RunStep())
    pinecone.run(RunStep())
    assert sum(pinecone.results[-1].requests["dataverse"].values()) == 2
    for alias in ("ny-e3", "atl-e3", "mem-e3"):
        act(pinecone, link={"subscription": alias, "linked_to": None, "provider": "do_nothing"})
    assert pinecone.run(RunStep()) == 4
    problems = pinecone.results[-1].error.problems  # type: ignore[union-attr]
    assert "0 linked subscriptions, were 3" in problems[0]
    saved = plan(pinecone)
    assert int(apply(pinecone, saved, allow={"source_shrunk_percent": "100"}).exit_code) == 0
    assert pinecone.run(RunStep()) == 0


# -- the command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def config_file(pinecone: Rehearsal, tmp_path: Path) -> Path:
    """A configuration file for the sandbox of the fixture, whose clock is the sandbox's start."""
    endpoints = pinecone._server.endpoints
    secret = pinecone._directory / "client_secret"
    settings = settings_for(endpoints, secret, pinecone.state)
    settings["policy"] = {"limits": {"seats_added": 9}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def linksub(config: Path, *arguments: str) -> int:
    return main(["--config", str(config), *arguments])


def test_the_whole_way_on_the_command_line(
    pinecone: Rehearsal, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    assert linksub(config_file, "run") == 4
    said = capsys.readouterr()
    assert "seats_added: 9 seats allowed, found 10 seats" in said.err
    assert "a real run stops before its first write" in said.out
    assert linksub(config_file, "plan", "--out", str(file), "--expires", "2h") == 0
    assert f"  linksub apply {file}" in capsys.readouterr().out.splitlines()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    assert linksub(config_file, "apply", str(file)) == 4
    capsys.readouterr()
    assert linksub(config_file, "apply", str(file), "--allow", "seats_added=10", "--output", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "apply"
    assert document["outcomes"][0]["state"] == "done"
    assert linksub(config_file, "apply", str(file), "--allow", "seats_added=10") == 6
    assert "stale" in capsys.readouterr().err
    assert pinecone.sandbox.writes().provider == 1


def test_the_command_that_applies_a_plan_can_be_copied_from_a_narrow_window(
    pinecone: Rehearsal,
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    deep = tmp_path / ("a" * 120) / ("b" * 120)
    deep.mkdir(parents=True)
    for name, as_typed in (("plan.json", "{}"), ("my plan.json", "'{}'")):
        file = deep / name
        assert linksub(config_file, "plan", "--out", str(file)) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"Saved to {file}" in lines
        [command] = [line.strip() for line in lines if line.strip().startswith("linksub apply")]
        assert command == f"linksub apply {as_typed.format(file)}"
    assert linksub(config_file, *shlex.split(command)[1:]) == 4
    hint = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("hint:"))
    assert "linksub apply" in hint


def test_an_edited_plan_is_refused(pinecone: Rehearsal, config_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert linksub(config_file, "plan", "--out", str(file)) == 0
    file.write_text(file.read_text(encoding="utf-8").replace('"target": 60', '"target": 61'), encoding="utf-8")
    assert linksub(config_file, "apply", str(file), "--allow", "seats_added=99") == 78
    assert untouched(pinecone)


def test_a_plan_file_replaces_only_a_plan_file(
    pinecone: Rehearsal, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    assert linksub(config_file, "plan", "--out", str(file), "--output", "json") == 0
    first = json.loads(capsys.readouterr().out)["plan_file"]
    assert first["path"] == str(file)
    assert linksub(config_file, "plan", "--out", str(file)) == 0
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Ann", encoding="utf-8")
    assert linksub(config_file, "plan", "--out", str(letter)) == 64
    assert letter.read_text(encoding="utf-8") == "Dear Ann"
    assert linksub(config_file, "plan", "--out", str(tmp_path / "nowhere" / "plan.json")) == 64


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["apply", "no-such-file.json"], 64),
        (["apply"], 64),
        (["apply", "{plan}", "--allow", "everything=1"], 64),
        (["apply", "{plan}", "--allow", "seats_added"], 64),
        (["apply", "{plan}", "--allow", "seats_added=many"], 64),
        (["apply", "{plan}", "--allow", "seats_added=1", "--allow", "seats_added=2"], 64),
        (["apply", "{config}"], 78),
        (["plan", "--expires", "2h"], 64),
        (["plan", "--out", "{plan}", "--expires", "soon"], 64),
        (["plan", "--out", "{plan}", "--expires", "31d"], 64),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    config_file: Path, tmp_path: Path, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    names = {"{plan}": str(file), "{config}": str(config_file)}
    assert linksub(config_file, *(names.get(argument, argument) for argument in arguments)) == code
    assert "hint:" in capsys.readouterr().err


def test_a_base_whose_decreases_wait_for_its_add_on_is_applied_as_it_was_planned() -> None:
    scenario = load_scenario(SCENARIOS / "base_grows_though_its_addon_waits.yaml")
    with Rehearsal(scenario) as rehearsal:
        for change in (("ny-audio", -5), ("atl-e3", -4), ("ny-e3", 1)):
            act(rehearsal, change={"subscription": change[0], "by": change[1]})
        saved = plan(rehearsal)
        assert [bool(each.actions) for each in saved.families] == [False, True]
        result = apply(rehearsal, saved)
        assert result.error is None
        bought = [rehearsal.sandbox.world.bought(name) for name in ("p-e3", "p-audio")]
        assert [each.quantity for each in bought if each is not None] == [36, 35]
