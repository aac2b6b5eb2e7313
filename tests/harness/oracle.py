"""Judges one run by what the world saw, without any of the connector's arithmetic. Source: reliability facts §1.2.

Nothing here knows of settled, pending, lead, markers or goals. It knows what people asked for (the children's seats at
each moment), what the provider and the parent had at each moment, and which log was set to what by whom, and when.
"""

from __future__ import annotations

from datetime import timedelta

from connector.sync.outcome import FamilyState, RunResult
from tests.harness.history import Event, History, State
from tests.harness.records import Run
from tests.harness.stories import PARENT

__all__ = ["violations"]


def violations(run: Run) -> list[str]:
    """Every promise that this run broke, with the invariant that says so; empty when all were kept."""
    history = run.history
    return [
        *history.complaints,
        *_money(history),
        *_told_too_early(history),
        *_overwritten(history),
        *_written_by_the_way(history),
        *_rest(run),
        *_end(run),
    ]


def _money(history: History) -> list[str]:
    """I1: seats that were never asked for are never bought, and nothing is bought or given back twice."""
    found = []
    states, targets = history.states, set[int]()
    bought = returned = 0
    for number, event in enumerate(history.events):
        before, after = event.before.provider, event.after.provider
        if event.actor != "connector":
            if before != after:
                targets.clear()
            continue
        if before == after:
            continue
        asked = {state.asked for state in states[: number + 1]}
        if after not in asked:
            found.append(f"I1: the provider got {after} seats, and nobody ever asked for that many ({sorted(asked)})")
        if after in targets:
            found.append(f"I1: the provider was set to {after} seats twice")
        targets.add(after)
        bought += max(0, after - before)
        returned += max(0, before - after)
    deltas = [log.quantity for log in states[-1].logs.values() if log.owner != PARENT]
    people = [event.after.provider - event.before.provider for event in history.events if event.actor == "person"]
    most = sum(each for each in deltas if each > 0) + sum(-each for each in people if each < 0)
    least = sum(-each for each in deltas if each < 0) + sum(each for each in people if each > 0)
    if bought > most:
        found.append(f"I1: {bought} seats were bought and {most} asked for")
    if returned > least:
        found.append(f"I1: {returned} seats were given back and {least} asked for")
    return found


def _told_too_early(history: History) -> list[str]:
    """I2, I3: whoever is told Provisioned, parent and provider had what the children asked for when (or after) he asked."""
    found = []
    states = history.states
    for number, event in enumerate(history.events):
        if event.actor != "connector":
            continue
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if log.status != "Provisioned" or (was is not None and was.status == "Provisioned"):
                continue
            since = next(at for at, state in enumerate(states) if key in state.logs)
            seen = states[since : number + 1]
            asked = {state.asked for state in seen}
            if any(each.status == "Not Applicable" and each.owner != PARENT for each in event.after.logs.values()):
                # A person took a change out: what he settled by hand stands, and what still waits is not told yet.
                asked.add(event.after.asked - _waiting(event.after))
            if not asked & {state.parent for state in seen} & {state.provider for state in seen}:
                found.append(
                    f"I2: call {event.call} told {log.owner} {log.quantity:+d} that it is provisioned; asked for were"
                    f" {sorted(asked)}, the provider had {sorted({state.provider for state in seen})}"
                )
    return found


def _waiting(state: State) -> int:
    """Seats of the children's changes that are still open."""
    open_logs = (log for log in state.logs.values() if log.owner != PARENT and log.status in ("Awaiting", "Failed"))
    return sum(log.quantity for log in open_logs)


def _overwritten(history: History) -> list[str]:
    """A person's edit is never overwritten, unless it fell into the one instant that no check can cover."""
    found = []
    for number, event in enumerate(history.events):
        if event.actor != "person":
            continue
        later = [each for each in history.events[number + 1 :] if each.actor == "connector"]
        if event.before.parent != event.after.parent:
            found += [f"the parent, which a person edited, was overwritten: {each}"
                      for each in later if each.before.parent != each.after.parent]  # fmt: skip
        if event.before.provider != event.after.provider:
            found += [f"the provider, which a person edited, was overwritten: {each}"
                      for each in later if each.before.provider != each.after.provider
                      and not _is_unavoidable(history, event, each)]  # fmt: skip
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if was is not None and was.status != log.status and log.status != "Awaiting":
                found += [f"the log that a person set to {log.status} was overwritten: {each}"
                          for each in later if each.after.logs[key].status != log.status]  # fmt: skip
    return found


def _is_unavoidable(history: History, edit: Event, write: Event) -> bool:
    """The edit came after the provider was read and before the very next call to it, two seconds later at the most.

    Partner Center has no condition on a write of new-commerce seats, so this window can be short but not closed.
    """
    calls = [call for call in history.provider_calls if call.call <= write.call]
    last, before = calls[-1], calls[-2] if len(calls) > 1 else None
    return (
        before is not None
        and not before.write
        and before.answered
        and before.call < edit.call
        and last.at - before.at <= timedelta(seconds=2)
    )


def _written_by_the_way(history: History) -> list[str]:
    """Nothing flows down: children are never written, and renewal stays as it was."""
    found = []
    for event in history.events:
        if event.actor != "connector":
            continue
        if event.before.children != event.after.children:
            found.append(f"a child was written: {event}")
        if event.before.auto_renew != event.after.auto_renew:
            found.append(f"renewal was switched: {event}")
    return found


def _rest(run: Run) -> list[str]:
    """I4: when faults stop, two passes are enough, and the one after them writes nothing."""
    quiet = 0
    for record in run.passes:
        quiet = 0 if record.disturbed else quiet + 1
        if quiet >= 3 and record.writes:
            return [f"I4: pass {quiet} after the last disturbance still wrote"]
    return [] if not run.passes[-1].writes else ["I4: no rest"]


def _end(run: Run) -> list[str]:
    """Nothing is lost: every change is through, or the family is held by a rule that names what a person did."""
    end, last = run.history.states[-1], run.passes[-1].result
    assert last is not None
    if last.error is not None:
        return [f"the last pass ended with {last.error}"]
    edit = run.trouble.edit if run.edited else None
    person = {"parent": False, "provider": False}
    for event in run.history.events:
        if event.actor == "person":
            person["parent"] |= event.before.parent != event.after.parent
            person["provider"] |= event.before.provider != event.after.provider
    closed = all(log.status in ("Provisioned", "Not Applicable") for log in end.logs.values())
    if not closed:
        return _held(last, edit.rules if edit is not None else frozenset(), end_text=_open(end.logs))
    found = []
    aside = sum(log.quantity for log in end.logs.values() if log.status == "Not Applicable" and log.owner != PARENT)
    wanted = {end.asked, end.asked - aside}
    if not person["provider"] and end.provider not in wanted:
        found.append(f"everything is Provisioned and the provider has {end.provider} seats, the children {end.asked}")
    if not person["parent"] and end.parent not in wanted:
        found.append(f"everything is Provisioned and the parent has {end.parent} seats, the children {end.asked}")
    return found


def _open(logs: object) -> str:
    assert isinstance(logs, dict)
    return ", ".join(
        f"{log.owner} {log.quantity:+d} {log.status}"
        for log in logs.values()
        if log.status not in ("Provisioned", "Not Applicable")
    )


def _held(last: RunResult, rules: frozenset[str], *, end_text: str) -> list[str]:
    held = {outcome.rule for outcome in last.outcomes if outcome.state is FamilyState.HELD}
    if not held and not last.outcomes:
        return [] if rules else [f"lost: {end_text}, and no family is looked at any more"]
    if held and held <= rules:
        return []
    shown = [f"{outcome.state.value} {outcome.rule} {outcome.reason}" for outcome in last.outcomes]
    return [f"left behind: {end_text}; {shown}, and only {sorted(rules) or 'nothing'} would explain that"]
