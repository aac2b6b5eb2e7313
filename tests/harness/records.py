"""One run as data: what is done to it, what its passes were, and what follows from a boundary between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connector.sync.outcome import RunResult
from tests.harness.faults import Fault
from tests.harness.history import Event, History, ProviderCall
from tests.harness.stories import Edit

if TYPE_CHECKING:
    from tests.harness.bench import Bench


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to one run of a story: faults by call, and an edit right before the ``edit_at``-th call."""

    faults: tuple[Fault, ...] = ()
    edit: Edit | None = None
    edit_at: int = 0
    journal_lost: bool = False
    """Whether the journal vanishes whenever the process dies or ends."""

    def __str__(self) -> str:
        parts = [str(fault) for fault in self.faults]
        if self.edit is not None:
            parts.append(f"{self.edit.name} before call {self.edit_at}")
        if self.journal_lost:
            parts.append("the journal vanishes between passes")
        return " · ".join(parts) or "undisturbed"


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One pass. ``result`` is None if it was killed."""

    first_call: int
    last_call: int
    result: RunResult | None
    writes: int
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A finished scenario."""

    trouble: Trouble
    history: History
    passes: tuple[PassRecord, ...]
    edited: bool
    """Whether the edit could be made at all (there may have been no log to set)."""

    @property
    def converged_at(self) -> int:
        """The last call of the last pass in which anything was disturbed or written."""
        return max((each.last_call for each in self.passes if each.writes or each.disturbed), default=0)


@dataclass(frozen=True, slots=True)
class Tail:
    """What followed from a boundary between two passes; ``calls`` were made before it."""

    calls: int
    events: tuple[Event, ...]
    provider_calls: tuple[ProviderCall, ...]
    complaints: tuple[str, ...]
    records: tuple[PassRecord, ...]
    edited: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run was at a boundary."""

    calls: int
    events: int
    provider_calls: int
    complaints: int
    records: int
    edit_pending: bool

    @classmethod
    def of(cls, bench: Bench, records: Sequence[PassRecord]) -> Position:
        history = bench.history
        return cls(
            bench.calls,
            len(history.events),
            len(history.provider_calls),
            len(history.complaints),
            len(records),
            bench.edit_is_pending,
        )

    def tail(self, bench: Bench, records: Sequence[PassRecord]) -> Tail:
        history = bench.history
        return Tail(
            self.calls,
            tuple(history.events[self.events :]),
            tuple(history.provider_calls[self.provider_calls :]),
            tuple(history.complaints[self.complaints :]),
            tuple(records[self.records :]),
            self.edit_pending and bench.edited,
        )


def describe(run: Run, complaints: Sequence[str]) -> str:
    """Everything that is needed to see what went wrong."""
    lines = [f"scenario: {run.trouble}", *(f"  VIOLATED {text}" for text in complaints)]
    lines += [f"  {event}" for event in run.history.events]
    for number, record in enumerate(run.passes, start=1):
        result = record.result
        outcomes = [] if result is None else [f"{o.state.value} {o.rule} {o.reason}" for o in result.outcomes]
        error = "" if result is None or result.error is None else f" error {result.error}"
        lines.append(
            f"  pass {number}: calls {record.first_call}-{record.last_call}, {record.writes} writes,"
            f" {'killed' if result is None else result.exit_code.name}{error} {outcomes}"
        )
    return "\n".join(lines)
