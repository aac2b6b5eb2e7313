"""Proof that the harness can fail: three classic mistakes, and each is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.bench import Bench
from tests.harness.faults import Fault, Kind
from tests.harness.oracle import violations
from tests.harness.records import Run, Trouble
from tests.harness.stories import EDITS, STORIES
from tests.harness.wrong import AcknowledgeFirstBench, BlindRetryBench, DeltaBench

pytestmark = pytest.mark.usefixtures("quiet_logs")


def _broken(runs: Iterator[Run]) -> set[str]:
    return {complaint for run in runs for complaint in violations(run)}


def _singles(bench: Bench) -> Iterator[Run]:
    calls = bench.run(Trouble()).converged_at
    for call in range(1, calls + 1):
        for kind in Kind:
            yield bench.run(Trouble((Fault(call, kind),)))


def test_left_alone_deltas_and_blind_retries_look_right() -> None:
    for bench in (DeltaBench(STORIES["increase"]), BlindRetryBench(STORIES["increase"])):
        run = bench.run(Trouble())
        assert violations(run) == []
        assert run.history.states[-1].provider == 60


def test_applying_deltas_buys_twice_after_a_crash() -> None:
    broken = _broken(_singles(DeltaBench(STORIES["increase"])))
    assert "I1: 20 seats were bought and 10 asked for" in broken


def test_acknowledging_first_loses_a_change_after_a_crash() -> None:
    broken = _broken(_singles(AcknowledgeFirstBench(STORIES["increase"])))
    assert any(text.startswith("I2: ") and "told ny +10" in text for text in broken)
    assert "everything is Provisioned and the provider has 50 seats, the children 60" in broken


def test_sending_a_lost_write_again_without_looking_overwrites_a_person() -> None:
    bench = BlindRetryBench(STORIES["increase"])
    write = bench.run(Trouble()).history.provider_calls[-1]
    assert write.write
    provider = next(edit for edit in EDITS if edit.name == "the provider is edited")
    runs = [
        bench.run(Trouble((Fault(write.call, kind),), provider, write.call + after))
        for kind in (Kind.LOST_ANSWER, Kind.LOST_REQUEST, Kind.ERROR_DONE, Kind.TRUNCATED)
        for after in (1, 2)
    ]
    broken = _broken(iter(runs))
    assert any(text.startswith("the provider, which a person edited, was overwritten") for text in broken)
    assert any(text.startswith("I11: ") for text in broken)


def test_the_connector_itself_passes_where_each_of_them_fails() -> None:
    bench = Bench(STORIES["increase"])
    assert _broken(_singles(bench)) == set()
