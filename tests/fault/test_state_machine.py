"""Whatever happens in whatever order, no promise is broken, and when it stops, everything comes to rest (issue 4).

Short everywhere, the same examples every time; ``LINKSUB_HYPOTHESIS=nightly`` (or ``thorough``) is the long one, with a
seed of its own that stands in the test's name and is taken from ``LINKSUB_SEED`` to play a night again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from connector.domain.policy import Policy
from tests.fault.machine import Machine
from tests.fault.machine_host import Happening
from tests.fault.machine_world import NORTH
from tests.support.wrong import ACKNOWLEDGES_FIRST, APPLIES_DELTAS

pytestmark = pytest.mark.usefixtures("quiet_logs")

IS_LONG = os.environ.get("LINKSUB_HYPOTHESIS") in ("nightly", "thorough")
"""Read once, at import: tests run without linksub's variables in their environment."""

SEED = int(os.environ.get("LINKSUB_SEED") or (secrets.randbelow(2**32) if IS_LONG else 4))

SHORT = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=5000, stateful_step_count=50)


def _run(machine: type[Machine], seed: int, how: settings) -> None:
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=how)


@pytest.mark.parametrize("seed", [SEED], ids=lambda seed: f"seed {seed}")
def test_whatever_happens_nothing_is_lost_and_nothing_doubled(seed: int) -> None:
    class Right(Machine):
        pass

    _run(Right, seed, LONG if IS_LONG else SHORT)


class _Deltas(Machine):
    wrong = APPLIES_DELTAS
    worlds = ((NORTH,),)


class _AcknowledgeFirst(Machine):
    wrong = ACKNOWLEDGES_FIRST


class _PushesOverPeople(Machine):
    policy = Policy(provider_drift="push")
    worlds = ((NORTH,),)


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (_Deltas, "I1: the provider got seats that nobody asked for"),
        (_AcknowledgeFirst, "I2: "),
        (_PushesOverPeople, "the provider, which a person edited, was overwritten"),
    ],
    ids=["applies deltas", "acknowledges first", "pushes over people"],
)
def test_a_wrong_connector_is_found_out_within_the_short_budget(wrong: type[Machine], promise: str) -> None:
    """Not shrunk: to be found is enough. Most are found in the first forty; the rest is so that luck has no part in it."""
    how = settings(SHORT, max_examples=400, phases=[hypothesis.Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match=promise):
        _run(wrong, 4, how)


# What the machine found, as small as it gets.


def _begin(hands: int = 0) -> Machine:
    machine = Machine()
    machine.begin(0, hands)
    return machine


def test_nobody_is_told_on_what_the_provider_said_before_another_host_wrote_there() -> None:
    """Seen: atlanta was told −4 while the provider kept the 4 seats that the other host had just bought."""
    machine = _begin()
    machine._act(("move", 0, 2))
    meanwhile: list[Callable[[], None]] = [
        partial(machine._act, ("grow", 0, 4)),
        partial(machine._overlap, machine.second, {}),
        partial(machine._act, ("shrink", 0, 4)),
    ]
    machine.first.run({-1: Happening(meanwhile=meanwhile)})
    machine.no_promise_was_broken()
    state = machine.oracles["north"].watched.state
    assert state.parent == state.provider == state.asked == NORTH.total
    machine.teardown()


def test_a_person_who_lowers_parent_and_provider_alike_confirms_no_child() -> None:
    """Seen: boston's 53 seats were told Provisioned on a provider from which a person had just taken 103."""
    machine = _begin(hands=5)
    acts = (
        ("edit parent", 0, -103),
        ("edit provider", 0, -103),
        ("toggle", 1, 0),
        ("provisioned", 1, 0),
        ("toggle", 1, 0),
    )
    for act in acts:
        machine._act(act)
    machine.first.run()
    machine.no_promise_was_broken()
    machine.teardown()
