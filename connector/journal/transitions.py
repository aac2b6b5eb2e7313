"""Which steps an intent may take. Pure.

``planned`` is known not to have been sent, because ``sending`` is durable before the first byte leaves. So an intent
that a crash left planned and that nobody wants any more goes straight to ``settled``; one left ``sending`` may have
arrived, and is ``unknown`` until it was read back. No intent is ever sent twice: whoever wants to send again plans a new
one, with a request id of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from connector.errors import JournalError, StepRefused
from connector.journal.records import storable, utc
from connector.sync.ports import Intent, IntentState

LEGAL: Mapping[IntentState, frozenset[IntentState]] = {
    IntentState.PLANNED: frozenset({IntentState.SENDING, IntentState.SETTLED}),
    IntentState.SENDING: frozenset({IntentState.CONFIRMED, IntentState.REJECTED, IntentState.UNKNOWN}),
    IntentState.UNKNOWN: frozenset({IntentState.CONFIRMED, IntentState.REJECTED, IntentState.SETTLED}),
    IntentState.CONFIRMED: frozenset({IntentState.SETTLED}),
    IntentState.REJECTED: frozenset({IntentState.SETTLED}),
    IntentState.SETTLED: frozenset(),
}

_SENT_AGAIN = frozenset({(IntentState.SENDING, IntentState.SENDING), (IntentState.UNKNOWN, IntentState.SENDING)})
"""Steps that linksub took while a journal had the schema 0001, and takes no more."""


def was_legal(earlier: IntentState, later: IntentState) -> bool:
    """Whether a recorded history may hold a step: those of today, and those that were once taken."""
    return later in LEGAL[earlier] or (earlier, later) in _SENT_AGAIN


def fresh(intent: Intent) -> Intent:
    """An intent as it may enter the journal. Raises JournalError unless it is planned and was never sent."""
    if intent.state is not IntentState.PLANNED or intent.attempts:
        raise JournalError(
            f"intent {intent.id} cannot be planned: it is {intent.state.value} after {intent.attempts} attempts"
        )
    return replace(intent, created_at=utc(intent.created_at), note=storable(intent.note), group=storable(intent.group))


def advance(intent: Intent, state: IntentState, note: str) -> Intent:
    """The intent after one legal step; an empty note keeps the last one. Raises JournalError for an illegal step."""
    if state not in LEGAL[intent.state]:
        allowed = ", ".join(sorted(step.value for step in LEGAL[intent.state])) or "nothing"
        raise StepRefused(
            f"intent {intent.id} of family {intent.family} cannot go from {intent.state.value} to {state.value}",
            hint=f"From {intent.state.value} it may become: {allowed}.",
        )
    attempts = intent.attempts + (1 if state is IntentState.SENDING else 0)
    return replace(intent, state=state, attempts=attempts, note=storable(note) if note else intent.note)


def steps_to_settle(intent: Intent) -> tuple[IntentState, ...]:
    """The steps by which a person closes an intent. Raises JournalError if it is settled already."""
    if intent.state is IntentState.SETTLED:
        raise JournalError(f"intent {intent.id} is settled already", hint=f"It was settled with: {intent.note}")
    if intent.state is IntentState.SENDING:
        return (IntentState.UNKNOWN, IntentState.SETTLED)
    return (IntentState.SETTLED,)
