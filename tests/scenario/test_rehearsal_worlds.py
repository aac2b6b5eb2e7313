"""The real connector in the sandbox: killed after an effect, in the middle of a batch, and on several hosts."""

from __future__ import annotations

from typing import Any

import pytest

from connector.cli.rehearsal import CRASHED, Rehearsal
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.work365 import MARKER

SKU = "CFQ7TTC0LFLX:0001"


def family(*steps: dict[str, Any], scheduled: int | None = None, **more: Any) -> Rehearsal:
    at_provider: dict[str, Any] = {"commitment_end": "2026-12-31"}
    if scheduled is not None:
        at_provider["scheduled"] = {"quantity": scheduled}
    document = {
        "name": "one family",
        "clock": "2026-03-02T14:00:00Z",
        "accounts": [{"id": "pinecone", "tenant": "11111111-1111-4111-8111-111111111111"}],
        "contracts": [{"id": "parent"}, {"id": "ny"}],
        "subscriptions": [
            {
                "id": "p-e3",
                "contract": "parent",
                "part_number": SKU,
                "quantity": 25,
                "order_reference": "SO-4711",
                "at_provider": at_provider,
            },
            {"id": "ny-e3", "contract": "ny", "part_number": SKU, "linked_to": "p-e3", "quantity": 25},
        ],
        "steps": [{"change": {"subscription": "ny-e3", "by": 10}}, *steps],
    }
    return Rehearsal(build_scenario(document | more))


def played(*steps: dict[str, Any], **more: Any) -> list[str]:
    with family(*steps, **more) as rehearsal:
        return [*rehearsal.play().differences, *rehearsal.crashes_of_the_sandbox]


@pytest.mark.parametrize(
    ("effect", "then"),
    [
        ("parent_raised", {"subscriptions": {"p-e3": {"quantity": 35}}, "provider": {"p-e3": {"quantity": 25}}}),
        ("purchased", {"provider": {"p-e3": {"quantity": 35, "scheduled": None}}}),
        ("scheduled", {"provider": {"p-e3": {"quantity": 35, "scheduled": {"quantity": 30}}}}),
        ("acknowledged", {"lcls": {"p-e3": [{"status": "Provisioned"}]}}),
    ],
)
def test_a_pass_dies_right_after_the_effect_and_the_next_one_ends_the_work(effect: str, then: dict[str, Any]) -> None:
    waiting = {} if effect == "acknowledged" else {"lcls": {"ny-e3": [{"status": "Awaiting"}]}}
    end = {"provider": {"p-e3": {"quantity": 35}}, "lcls": {"ny-e3": [{"status": "Provisioned"}]}}
    assert (
        played(
            {"run": {"crash_after": effect, "exit": CRASHED}},
            {"expect": then | waiting},
            {"run": {"exit": 0}},
            {"expect": end},
            scheduled=20,
        )
        == []
    )


def test_a_pass_in_which_the_effect_never_comes_ends_as_usual() -> None:
    assert played({"run": {"crash_after": "scheduled", "exit": 0}}, {"run": {"crash_in_batch": 5, "exit": 0}}) == []


def test_a_process_that_dies_in_a_batch_leaves_what_was_done_until_then() -> None:
    with family() as rehearsal:
        rehearsal.sandbox.perform(build_step({"change": {"subscription": "ny-e3", "by": 10}}, rehearsal.scenario))
        assert rehearsal.run(RunStep(crash_in_batch=0)) == CRASHED
        assert [entry.status for entry in rehearsal.sandbox.trace.entries("dataverse")][-1] is None
        assert rehearsal.sandbox.watch is None
        assert rehearsal.run(RunStep()) == 0
        assert rehearsal.sandbox.writes().provider == 1 and rehearsal.crashes_of_the_sandbox == []


def test_every_host_keeps_its_own_journal_and_the_seats_are_bought_once() -> None:
    once = {"expect": {"provider": {"p-e3": {"quantity": 35}}, "provider_writes": 1}}
    nothing = {"expect": {"provider_writes": 0, "crm_writes": 0}}
    with family(
        {"run": {"crash_after": "purchased"}},
        {"run": {"host": "b", "exit": 0}},
        once,
        {"run": {"exit": 0}},
        {"run": {"host": "b", "journal": "lost", "exit": 0}},
        {"run": {"journal": "older", "exit": 0}},
        nothing,
    ) as rehearsal:
        assert rehearsal.play().differences == []
        assert (rehearsal.state.parent / "hosts" / "b").is_dir()
        rehearsal.forget_state()
        assert not rehearsal.state.exists() and not (rehearsal.state.parent / "hosts").exists()


@pytest.mark.parametrize(
    ("parent_log", "pushes", "copies"),
    [("late", "no", "yes"), ("late", "late", "yes"), ("not_applicable", "yes", "altered"), ("none", "late", "no")],
)
def test_no_world_makes_a_connector_that_was_told_nothing_buy_seats_twice(
    parent_log: str, pushes: str, copies: str
) -> None:
    section = {"parent_log": parent_log, "pushes": pushes, "copies_order_reference": copies, "declared": False}
    steps = [{"run": {"crash_after": "parent_raised"}}, {"run": {}}, {"advance": "10m"}, {"run": {}}]
    with family(*steps, work365=section) as rehearsal:
        assert rehearsal.play().differences == rehearsal.crashes_of_the_sandbox == []
        bought = rehearsal.sandbox.world.bought("p-e3")
        assert bought is not None and bought.quantity in (25, 35)
        assert rehearsal.sandbox.writes().provider == (bought.quantity - 25) // 10


@pytest.mark.parametrize("kind", [{"kind": "late"}, {"kind": "replayed"}])
def test_a_purchase_that_the_network_delays_or_repeats_ends_at_its_number(kind: dict[str, str]) -> None:
    fault = {"fault": {"service": "partner_center", "method": "PATCH", **kind}}
    end = {"expect": {"provider": {"p-e3": {"quantity": 35}}, "lcls": {"ny-e3": [{"status": "Provisioned"}]}}}
    assert played(fault, {"run": {}}, {"advance": "2h"}, {"run": {"exit": 0}}, end) == []


def test_an_older_journal_of_a_host_that_never_wrote_is_a_step_that_cannot_be_played() -> None:
    (difference,) = played({"run": {"journal": "older"}})
    assert difference.startswith("step 2 run: cannot be done: no pass of host a has written anything")


def test_an_order_reference_is_expected_as_a_whole_or_not_at_all() -> None:
    marked = {"crm_change": {"subscription": "p-e3", "order_reference": "LS1|SO-4711"}}
    same = {"expect": {"subscriptions": {"p-e3": {"order_reference": "SO-4711"}}}}
    none = {"expect": {"subscriptions": {"p-e3": {"order_reference": None}}}}
    erased = {"erase_marker": {"subscription": "p-e3"}}
    assert played(same, marked, same, erased, same, none) == [
        "step 4 expect: subscription p-e3 order_reference: expected 'SO-4711', was 'LS1|SO-4711'",
        "step 6 expect: subscription p-e3 order_reference: expected 'SO-4711', was none",
    ]


def test_a_world_with_a_column_for_the_marker_is_rehearsed_with_a_mapping_that_names_it() -> None:
    rehearsal = family(work365={"marker_column": True, "declared": False})
    with rehearsal:
        mapping = rehearsal.state.parent / "mapping.yaml"
        assert rehearsal.config.mapping == str(mapping)
        assert MARKER in mapping.read_text(encoding="utf-8")
    with family(work365={"declared": False}) as usual:
        assert usual.config.mapping == "work365"
