"""Whatever happens in whatever order, no promise is broken, and when it stops, everything comes to rest (issue 4).

Short everywhere, the same examples every time; ``LINKSUB_HYPOTHESIS=nightly`` (or ``thorough``) is the long one, with a
seed of its own that stands in the test's name and is taken from ``LINKSUB_SEED`` to play a night again.
"""

from __future__ import annotations

import logging
import os
import secrets

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from connector.domain.policy import Policy
from tests.fault.machine import Machine
from tests.harness.wrong import AcknowledgesFirst, AppliesDeltas

IS_LONG = os.environ.get("LINKSUB_HYPOTHESIS") in ("nightly", "thorough")
"""Read once, at import: tests run without linksub's variables in their environment."""

SEED = int(os.environ.get("LINKSUB_SEED") or (secrets.randbelow(2**32) if IS_LONG else 4))

SHORT = settings(
    max_examples=70,
    stateful_step_count=20,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=5000, stateful_step_count=50)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)


def _run(machine: type[Machine], seed: int, how: settings) -> None:
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=how)


@pytest.mark.parametrize("seed", [SEED], ids=lambda seed: f"seed {seed}")
def test_whatever_happens_nothing_is_lost_and_nothing_doubled(seed: int) -> None:
    class Right(Machine):
        pass

    _run(Right, seed, LONG if IS_LONG else SHORT)


class _Deltas(Machine):
    unit_of_work = AppliesDeltas


class _AcknowledgeFirst(Machine):
    unit_of_work = AcknowledgesFirst


class _PushesOverPeople(Machine):
    policy = Policy(provider_drift="push")


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
    """Not shrunk: to be found is enough."""
    how = settings(SHORT, phases=[hypothesis.Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match=promise):
        _run(wrong, 4, how)
