"""Every call of a unit of work × every fault × a second fault × a person's edit: no wrong end state (issue 4)."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest

from tests.harness.bench import Bench
from tests.harness.faults import Fault, Kind
from tests.harness.oracle import violations
from tests.harness.records import Trouble, describe
from tests.harness.scenarios import judge, runs
from tests.harness.stories import EDITS, STORIES

SHARDS = 4

pytestmark = pytest.mark.usefixtures("quiet_logs")


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("story", STORIES)
def test_no_fault_and_no_edit_at_any_call_loses_or_doubles_a_seat(
    story: str, shard: int, record_property: Callable[[str, object], None]
) -> None:
    began, bench = process_time(), Bench(STORIES[story])
    count, bad = judge(runs(bench, shard, SHARDS), violations)
    record_property("fault_runs", count)
    record_property("fault_passes", bench.passes)
    record_property("fault_seconds", process_time() - began)
    shown = "\n\n".join(describe(run, complaints) for run, complaints in bad[:3])
    assert not bad, f"{len(bad)} of {count} runs broke a promise; the first:\n\n{shown}"


@pytest.mark.parametrize("story", STORIES)
def test_an_edit_at_the_provider_during_a_long_retry_is_seen_before_seats_are_ordered(story: str) -> None:
    bench = Bench(STORIES[story])
    (edit,) = (each for each in EDITS if each.name == "the provider is edited")
    calls = bench.run(Trouble()).converged_at
    # A busy service is asked again after half a minute: time enough for a person in Partner Center.
    tried = [
        bench.run(Trouble((Fault(call, Kind.THROTTLED),), edit, at))
        for call in range(5, calls + 1)
        for at in range(call + 1, calls + 4)
    ]
    count, bad = judge(iter(tried), violations)
    assert count > 20
    assert not bad, describe(*bad[0])
