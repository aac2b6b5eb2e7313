"""Explaining a family: why its number is what it is, what each change waits for, who blocks whom, what to do."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import connector.sandbox
from connector.cli.console import make_console
from connector.cli.rehearsal import Rehearsal
from connector.errors import UsageError
from connector.explaining import explain
from connector.report.explanation import chain, explanation_document, standings, to_do, why
from connector.report.explanation_view import explanation_view
from connector.sandbox.scenario import build_step, load_scenario
from connector.sync.outcome import Explanation
from tests.families import FAILED

SCENARIOS = Path(connector.sandbox.__file__).parent / "scenarios"


@dataclass
class Played:
    """A scenario that was played up to a point, and what is explained of it."""

    rehearsal: Rehearsal

    def explain(self, alias: str) -> Explanation:
        (found,) = explain(self.rehearsal.config, self.id_of(alias), clock=self.rehearsal.sandbox.clock)
        return found

    def id_of(self, alias: str) -> str:
        return self.rehearsal.sandbox.world.id_of(alias)

    def do(self, **step: Any) -> None:
        made = build_step(step, self.rehearsal.scenario)
        if made.run is not None:
            self.rehearsal.run(made.run)
        else:
            self.rehearsal.sandbox.perform(made)


@pytest.fixture
def world():
    """Opens the sandbox of a shipped scenario, without its steps."""
    opened: list[Rehearsal] = []

    def begin(name: str = "new_york_grows") -> Played:
        rehearsal = Rehearsal(load_scenario(SCENARIOS / f"{name}.yaml"))
        rehearsal.__enter__()
        opened.append(rehearsal)
        return Played(rehearsal)

    yield begin
    for rehearsal in opened:
        rehearsal.__exit__(None, None, None)


def text_of(explanations: Sequence[Explanation]) -> str:
    stream = io.StringIO()
    make_console(file=stream, color=False).print(explanation_view(explanations))
    return stream.getvalue()


def refused_by_the_provider(world) -> Played:
    """New York's ten were refused, and Atlanta asked for one since."""
    played = world()
    played.do(change={"subscription": "ny-e3", "by": 10})
    body = {"code": "800023", "description": "Credit limit exceeded.", "data": [], "source": "PartnerFD"}
    played.do(fault={"service": "partner_center", "method": "PATCH", "kind": "status", "status": 403, "body": body})
    played.do(run={})
    played.do(advance="1h")
    played.do(change={"subscription": "atl-e3", "by": 1})
    return played


def test_the_parents_number_is_taken_apart_and_every_difference_is_explained(world) -> None:
    found = refused_by_the_provider(world).explain("p-e3")
    sentences = " ".join(why(found))
    assert "Pine Cone Vet Parent has 60 seats: 50 settled, +10 in 1 open log." in sentences
    assert "The +10 that it was raised by: M365-E3 Pine Cone Vet New York +10, carried by an earlier pass." in sentences
    assert "The provider has 50 seats." in sentences


def test_a_child_is_explained_with_its_family(world) -> None:
    found = refused_by_the_provider(world).explain("ny-e3")
    assert why(found)[0] == "M365-E3 Pine Cone Vet New York has 35 seats: 25 settled, +10 in 1 open change."
    assert len(why(found)) > 3


def test_one_failed_log_of_the_parent_is_shown_to_block_all_its_children(world) -> None:
    played = refused_by_the_provider(world)
    found = played.explain("atl-e3")
    (blocker,) = chain(found)
    assert blocker.log.subscription_id == played.id_of("p-e3")
    assert [entry.subscription_id for entry in blocker.blocked] == [played.id_of("ny-e3"), played.id_of("atl-e3")]
    assert {entry.decision.rule for entry in standings(found) if entry.decision is not None} == {"LS-005"}
    assert [rule for rule, _ in to_do(found)] == ["LS-005"]
    assert "Who blocks whom" in text_of([found])
    assert "Credit limit exceeded." in text_of([found])


def test_a_licence_change_log_can_be_asked_for_by_its_id(world) -> None:
    played = refused_by_the_provider(world)
    wanted = next(entry.log.id for entry in standings(played.explain("p-e3")) if entry.name.endswith("York +10"))
    (found,) = explain(played.rehearsal.config, wanted.upper(), clock=played.rehearsal.sandbox.clock)
    assert (found.asked, found.asked_log) == (played.id_of("ny-e3"), wanted)
    assert (
        f"→ M365-E3 Pine Cone Vet New York +10  Awaiting since 2026-03-02 09:00 America/New_York  {wanted}"
        in text_of([found])
    )


def test_a_part_of_a_name_is_enough_when_only_one_subscription_has_it(world) -> None:
    played = world()
    clock = played.rehearsal.sandbox.clock
    (found,) = explain(played.rehearsal.config, "new york", clock=clock)
    assert found.asked == played.id_of("ny-e3")
    with pytest.raises(UsageError, match=r"may mean 4 subscriptions.*Atlanta"):
        explain(played.rehearsal.config, "Pine Cone", clock=clock)
    with pytest.raises(UsageError, match="no subscription and no licence change log"):
        explain(played.rehearsal.config, "M365_E3", clock=clock)  # not a wildcard
    with pytest.raises(UsageError):
        explain(played.rehearsal.config, "00000000-0000-4000-8000-000000000000", clock=clock)


def test_a_chain_of_changes_behind_a_failed_one_names_the_oldest(world) -> None:
    played = world()
    for by in (-4, 6, 2):
        played.do(change={"subscription": "ny-e3", "by": by})
        played.do(advance="5m")
        if by == -4:
            played.do(run={})
    found = played.explain("ny-e3")
    (blocker,) = chain(found)
    assert (blocker.log.quantity, [entry.quantity for entry in blocker.blocked]) == (-4, [6, 2])
    failed, *waiting = standings(found)
    assert failed.log.status is FAILED
    assert [entry.decision.rule for entry in waiting] == ["LS-004", "LS-004"]


def test_a_manual_parent_says_that_a_person_is_waited_for(world) -> None:
    played = world("manual_parent")
    played.do(change={"subscription": "ny-e3", "by": 10})
    played.do(run={})
    found = played.explain("p-e3")
    child = next(entry for entry in standings(found) if entry.log.subscription_id == played.id_of("ny-e3"))
    assert child.decision is not None
    assert child.decision.rule == "LS-032"
    assert chain(found)[0].log.subscription_id == played.id_of("p-e3")
    assert ("LS-032", "provision the seats at the provider, then set the parent's log to Provisioned") in to_do(found)


def test_what_is_dated_says_for_when_and_what_work_365_has_scheduled_is_listed(world) -> None:
    played = world("future_change")
    played.do(change={"subscription": "ny-e3", "by": 10, "effective": "2026-03-04"})
    played.do(change={"subscription": "mem-e3", "by": -3, "effective": "2026-03-05"})
    played.do(change={"subscription": "atl-e3", "by": -2, "effective": "2026-03-02"})
    document = explanation_document("atl-e3", [played.explain("atl-e3")])
    (family,) = document["families"]
    assert [(entry["due"], entry["rule"]) for entry in family["logs"]] == [("2026-03-03T04:30:00Z", "LS-009")]
    coming = {entry["name"]: entry for entry in family["scheduled_changes"]}
    assert coming["M365-E3 Pine Cone Vet New York"]["scheduled_for"] == "2026-03-04T05:05:00Z"
    assert coming["M365-E3 Pine Cone Vet Memphis"]["scheduled_for"] == "2026-03-06T04:30:00Z"
    assert not any(entry["overdue"] for entry in coming.values())
    shown = text_of([played.explain("atl-e3")])
    assert "Update to 35 seats on 2026-03-04 00:05 America/New_York (Pending)" in shown


def test_drift_at_the_provider_shows_even_when_no_change_is_open(world) -> None:
    played = world()
    played.do(provider_change={"subscription": "p-e3", "quantity": 70})
    assert "The provider has 70 seats, which nothing explains: somebody changed it there." in why(
        played.explain("p-e3")
    )


def test_an_edited_parent_is_said_to_be_one(world) -> None:
    played = world()
    played.do(crm_change={"subscription": "p-e3", "quantity": 70})
    found = played.explain("p-e3")
    assert "Nothing explains the +20 that it was changed by: somebody edited the parent." in why(found)
    assert "The family is stopped" in text_of([found])


def test_what_goes_next_is_named(world) -> None:
    played = world()
    played.do(change={"subscription": "ny-e3", "by": 10})
    found = played.explain("ny-e3")
    assert why(found)[-1] == "The next run brings it to 60: M365-E3 Pine Cone Vet New York +10."
    document = explanation_document("ny-e3", [found])
    assert [action["action"] for action in document["families"][0]["next_actions"]] == [
        "set_parent_quantity",
        "set_provider_quantity",
        "acknowledge",
    ]
    assert document["families"][0]["books"]["goal"] == 60


def test_a_child_without_a_parent_is_explained_too(world) -> None:
    played = world("no_linked_parent")
    played.do(change={"subscription": "atl-e3", "by": 2})
    found = played.explain("atl-e3")
    assert why(found)[-1] == "It belongs to no family: it has no linked parent that could be read."
    assert [rule for rule, _ in to_do(found)] == ["LS-010"]
    assert "Linked Subscription is empty" in text_of([found])


def test_explaining_writes_nothing(world) -> None:
    played = refused_by_the_provider(world)
    before = played.rehearsal.sandbox.writes()
    played.explain("p-e3")
    assert played.rehearsal.sandbox.writes() == before
