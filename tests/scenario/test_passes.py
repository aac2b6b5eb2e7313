"""What a pass promises beyond one story: dry runs, the shape of the reads, deaths at every call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import connector.sandbox
from connector.cli.rehearsal import Rehearsal
from connector.journal import open_journal
from connector.report.document import run_document
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import build_scenario, build_step, load_scenario

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"
SKU = "CFQ7TTC0LFLX:0001"


def story(name: str) -> Rehearsal:
    return Rehearsal(load_scenario(SCENARIOS / f"{name}.yaml"))


def begin(rehearsal: Rehearsal) -> None:
    """What people do before the first run."""
    for step in rehearsal.scenario.steps:
        if step.run is not None:
            return
        rehearsal.sandbox.perform(step)


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "name",
    [
        "new_york_grows",
        "seats_move",
        "manual_parent",
        "decrease_inside_window",
        "netting_off",
        "decrease_outside_window",
    ],
)
def test_a_dry_run_sends_no_write_leaves_the_state_alone_and_plans_what_the_next_run_does(name: str) -> None:
    with story(name) as rehearsal:
        rehearsal.run(RunStep())
        begin(rehearsal)
        before, seen = files(rehearsal.state), len(rehearsal.sandbox.trace.entries())
        rehearsal.run(RunStep(dry_run=True))
        asked = rehearsal.sandbox.trace.entries()[seen:]
        assert [entry.path for entry in asked if entry.write and entry.service != "sign_in"] == []
        assert all(entry.method == "GET" or entry.path.endswith(("$batch", "/token")) for entry in asked)
        assert files(rehearsal.state) == before
        planned = rehearsal.results[-1]
        assert planned.plan.has_changes
        rehearsal.run(RunStep())
        done = rehearsal.results[-1]
        assert run_document(done, "run")["plan"] == run_document(planned, "run")["plan"]
        intended = [type(action).__name__ for family in planned.plan.families for action in family.actions]
        kinds = {
            "parent.quantity": "SetParentQuantity",
            "provider.quantity": "SetProviderQuantity",
            "logs.provisioned": "Acknowledge",
            "log.failed": "FailLogs",
        }
        assert [kinds[effect.kind] for outcome in done.outcomes for effect in outcome.effects] == intended


def test_a_dry_run_does_not_even_make_the_state_directory() -> None:
    with story("new_york_grows") as rehearsal:
        begin(rehearsal)
        rehearsal.run(RunStep(dry_run=True))
        assert not rehearsal.state.exists()


def world(families: int, changes: int) -> dict[str, Any]:
    """A generated organisation: every family has its own customer, a parent of 30 seats and three children."""
    accounts, contracts, subscriptions, steps = [], [], [], []
    for number in range(families):
        name = f"c{number:03d}"
        accounts.append({"id": name, "name": f"Customer {number}", "tenant": f"00000000-0000-4000-8000-{number:012d}"})
        contracts.append({"id": f"{name}-contract", "account": name, "name": f"{name} Parent"})
        subscriptions.append(
            {
                "id": f"{name}-p",
                "contract": f"{name}-contract",
                "product": "M365-E3",
                "part_number": SKU,
                "provider": "partner_center",
                "quantity": 30,
                "at_provider": {"quantity": 30},
            }
        )
        for child in range(3):
            subscriptions.append(
                {
                    "id": f"{name}-{child}",
                    "contract": f"{name}-contract",
                    "product": "M365-E3",
                    "part_number": SKU,
                    "provider": "linked",
                    "linked_to": f"{name}-p",
                    "quantity": 10,
                }
            )
        if number < changes:
            steps.append({"change": {"subscription": f"{name}-1", "by": 2}})
    return {
        "name": f"{families} families",
        "clock": "2026-03-02T14:00:00Z",
        "accounts": accounts,
        "contracts": contracts,
        "subscriptions": subscriptions,
        "steps": steps,
    }


def requests_of(families: int, changes: int) -> dict[str, int]:
    with Rehearsal(build_scenario(world(families, changes))) as rehearsal:
        begin(rehearsal)
        assert rehearsal.run(RunStep()) == 0
        assert all(len(outcome.effects) == 3 for outcome in rehearsal.results[-1].outcomes)
        assert len(rehearsal.results[-1].outcomes) == changes
        return {service: sum(kinds.values()) for service, kinds in rehearsal.results[-1].requests.items()}


def test_requests_grow_with_the_families_that_change_and_not_with_the_organisation() -> None:
    small, large = requests_of(20, 20), requests_of(200, 20)
    assert small == large
    none = requests_of(200, 0)
    assert none.get("partner_center", 0) == 0
    ten = requests_of(20, 10)
    per_family = (large["dataverse"] - ten["dataverse"]) / 10
    assert per_family <= 5
    assert (large["partner_center"] - ten["partner_center"]) / 10 <= 4


def test_an_idle_poll_needs_two_requests_to_dataverse_once_the_metadata_are_known() -> None:
    with story("new_york_grows") as rehearsal:
        rehearsal.run(RunStep())
        rehearsal.run(RunStep())
        requests = rehearsal.results[-1].requests
        assert sum(requests["dataverse"].values()) == 2
        assert "partner_center" not in requests


def test_two_requests_with_the_same_answer_are_never_a_second_purchase_when_work_365_pushes_too() -> None:
    """A person's tool, or Work 365's own engine, has set the provider already: there is nothing left to send."""
    with story("new_york_grows") as rehearsal:
        begin(rehearsal)
        edit = {"provider_change": {"subscription": "p-e3", "quantity": 60}}
        rehearsal.sandbox.perform(build_step(edit, rehearsal.scenario))
        assert rehearsal.run(RunStep()) == 0
        assert rehearsal.sandbox.writes().provider == 0
        assert rehearsal.sandbox.world.bought("p-e3").quantity == 60


def test_a_person_is_told_before_a_subscription_has_had_too_many_changes() -> None:
    with story("new_york_grows") as rehearsal:
        begin(rehearsal)
        bought = rehearsal.sandbox.world.bought("p-e3")
        with open_journal(rehearsal.state / "journal.sqlite3", now=rehearsal.sandbox.clock.now()) as journal:
            journal.remember(f"updates:{bought.id}", "999")
        assert rehearsal.run(RunStep()) == 0
        [outcome] = rehearsal.results[-1].outcomes
        assert [notice.rule for notice in outcome.notices] == ["LS-053"]
        assert "1000 changes" in outcome.notices[0].reason
