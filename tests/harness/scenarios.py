"""Which trouble is tried: the enumeration, in three sizes.

``ci`` is under a minute on two cores · ``full`` is tens of thousands of runs in minutes · ``complete`` is the whole
product (every pair of faults × every edit × every position), for a night.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from zlib import crc32

from tests.harness.bench import Bench
from tests.harness.faults import ON_READS, Fault, Kind
from tests.harness.records import Run, Trouble
from tests.harness.stories import EDITS

SIZE = os.environ.get("LINKSUB_FAULTS", "ci")
"""Read once, at import: tests run without linksub's variables in their environment."""

SHARES = {
    "ci": (1 / 40, 1 / 150, 1 / 20_000),
    "full": (1.0, 1.0, 1 / 400),
    "complete": (1.0, 1.0, 1.0),
}
"""Size → the share that is tried of single faults with an edit, of pairs, and of pairs with an edit."""


def _taken(trouble: Trouble, share: float) -> bool:
    """Whether a run belongs to a share: the same ones every time, spread evenly."""
    return share >= 1.0 or crc32(str(trouble).encode()) < share * 2**32


def runs(bench: Bench, shard: int = 0, shards: int = 1, size: str = SIZE) -> Iterator[Run]:
    """Every run of one shard. The first fault decides the shard; what it makes possible is found out by running it."""
    singles_with_edits, pairs, pairs_with_edits = SHARES[size]
    undisturbed = bench.run(Trouble())
    calls = undisturbed.converged_at
    if shard == 0:
        yield undisturbed
        yield from _edits(bench, (), calls, 1.0)
    for number, first in enumerate(Fault(call, kind) for call in range(1, calls + 1) for kind in Kind):
        if number % shards != shard:
            continue
        alone = bench.run(Trouble((first,)))
        yield alone
        if size != "ci" or first.call in _writes(alone):
            yield bench.run(Trouble((first,), journal_lost=True))
        yield from _edits(bench, (first,), alone.converged_at, singles_with_edits)
        for second in _seconds(alone, first):
            pair = Trouble((first, second))
            if _taken(pair, pairs):
                yield bench.run(pair)
            lost = Trouble((first, second), journal_lost=True)
            if _taken(lost, pairs / 4):
                yield bench.run(lost)
            if first.kind in ON_READS or first.call in _writes(alone):
                yield from _edits(bench, (first, second), alone.converged_at + 4, pairs_with_edits)


def _seconds(alone: Run, first: Fault) -> Iterator[Fault]:
    """Every fault after the first: all nine kinds at a write, one of each class at a read."""
    writes = _writes(alone)
    for call in range(first.call + 1, alone.converged_at + 1):
        for kind in Kind if call in writes else ON_READS:
            yield Fault(call, kind)


def _writes(run: Run) -> frozenset[int]:
    return frozenset(event.call for event in run.history.events if event.actor == "connector")


def _edits(bench: Bench, faults: tuple[Fault, ...], calls: int, share: float) -> Iterator[Run]:
    """Every edit of a person before every call, and after the last."""
    for edit in EDITS:
        for position in range(1, calls + 2):
            trouble = Trouble(faults, edit, position)
            if _taken(trouble, share):
                run = bench.run(trouble)
                if run.edited:
                    yield run


def judge(found: Iterator[Run], violations: Callable[[Run], list[str]]) -> tuple[int, list[tuple[Run, list[str]]]]:
    """(how many runs, those that broke a promise)."""
    count, bad = 0, []
    for run in found:
        count += 1
        complaints = violations(run)
        if complaints:
            bad.append((run, complaints))
    return count, bad
