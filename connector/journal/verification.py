"""Whether a journal tells one consistent story. Pure: works on what any implementation reads out.

Three records of the same events are compared: the hash chain of the audit trail, the rows of the intents, and the
history of their steps. Changing one without the others, or dropping a row, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from connector.journal.records import ChainedEntry, IntentEvent, intent_terms
from connector.journal.seals import GENESIS, link, seal, sha256_of
from connector.journal.transitions import was_legal
from connector.sync.ports import Intent, IntentState


@dataclass(slots=True)
class Trail:
    """What reading the audit trail from end to end showed."""

    problems: list[str] = field(default_factory=list)
    terms: dict[str, str] = field(default_factory=dict)
    """Intent id → digest of its terms, as audited when it was planned."""
    states: dict[str, str] = field(default_factory=dict)
    """Intent id → the last state that was audited."""


def follow(entries: Iterable[ChainedEntry], head: tuple[int, str]) -> Trail:
    """Check every link of the chain against the head (length and hash of the last entry), and note what it tells."""
    trail = Trail()
    expected, previous = 1, GENESIS
    for chained in entries:
        if chained.seq != expected:
            trail.problems.append(f"audit: entries {expected} to {chained.seq - 1} are missing")
        if link(previous, chained.seq, chained.entry) != chained.hash:
            trail.problems.append(f"audit: entry {chained.seq} ({chained.entry.event}) is not what was recorded")
        # Go on from the hash that is there: the entries after a changed one are judged by themselves.
        expected, previous = chained.seq + 1, chained.hash
        _note(trail, chained)
    if (expected - 1, previous) != head:
        trail.problems.append(f"audit: ends after entry {expected - 1}, but {head[0]} entries were recorded")
    return trail


def _note(trail: Trail, chained: ChainedEntry) -> None:
    entry = chained.entry
    prefix, _, state = entry.event.partition(".")
    if prefix != "intent" or entry.intent_id is None:
        return
    if state == IntentState.PLANNED.value:
        trail.terms[entry.intent_id] = sha256_of(entry.detail)
    trail.states[entry.intent_id] = state


def compare(
    trail: Trail,
    intents: Iterable[tuple[Intent, str]],
    events_of: Callable[[str], Sequence[IntentEvent]],
) -> Iterator[str]:
    """Problems of the intents (each given with the seal it was stored under) against the trail and their history."""
    seen = set()
    for intent, stored_seal in intents:
        seen.add(intent.id)
        if seal(intent) != stored_seal:
            yield f"intent {intent.id}: the row is not what was recorded"
        if trail.terms.get(intent.id) != sha256_of(intent_terms(intent)):
            yield f"intent {intent.id}: differs from what the audit trail says was planned"
        if trail.states.get(intent.id) != intent.state.value:
            audited = trail.states.get(intent.id, "nothing")
            yield f"intent {intent.id}: is {intent.state.value}, but the audit trail ends with {audited}"
        yield from _history_problems(intent, events_of(intent.id))
    for lost in trail.terms.keys() - seen:
        yield f"intent {lost}: was planned according to the audit trail, but its row is missing"


def _history_problems(intent: Intent, events: Sequence[IntentEvent]) -> Iterator[str]:
    if not events or events[0].state is not IntentState.PLANNED:
        yield f"intent {intent.id}: its history does not begin with planned"
        return
    for earlier, later in pairwise(events):
        if not was_legal(earlier.state, later.state):
            yield f"intent {intent.id}: its history goes from {earlier.state.value} to {later.state.value}"
    sends = sum(event.state is IntentState.SENDING for event in events)
    if events[-1].state is not intent.state or sends != intent.attempts:
        yield f"intent {intent.id}: its history ends {events[-1].state.value} after {sends} attempts"
