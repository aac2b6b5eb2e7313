"""Acceptance of a due set: the largest part of it whose *net* effect every rule allows, found in a fixed order.

Step 3 of the seat arithmetic (design §4): accept all if the net effect is allowed, else drop the latest offending change and
what follows it on the same child, so that the outcome is the same on every run and as much as possible goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from connector.domain.decision import Hold, Objection, Refuse, Wait
from connector.domain.model import LicenseChangeLog, LogId, ProviderSubscription, SubscriptionId, seats_of
from connector.domain.rules.registry import ChangeObjection, Context, Environment, RuleBook

FULL_MARKER = "LS-061"
UNNETTED = "LS-027"
BEHIND = "LS-004"


@dataclass(frozen=True, slots=True)
class Selection:
    """Outcome of the acceptance of a due set."""

    accepted: tuple[LicenseChangeLog, ...]
    objections: Mapping[LogId, Objection]
    stop: Objection | None = None


def change_context(context: Context, accepted: Sequence[LicenseChangeLog]) -> Context:
    """The context of a change-scoped step for a set of accepted logs. The parent's quantity contains what is carried."""
    books = context.books
    assert books is not None
    view = context.snapshot.provider
    at_provider = view.quantity if isinstance(view, ProviderSubscription) else None
    carried = {log.id for log in books.live}
    return replace(
        context,
        accepted=tuple(accepted),
        goal=books.parent_quantity + seats_of(log for log in accepted if log.id not in carried),
        at_provider=at_provider,
    )


Room = Callable[[Sequence[LicenseChangeLog]], bool]
"""Whether the parent can be changed for these logs: the marker has room to name them, or need not."""


def select(
    context: Context,
    env: Environment,
    rules: RuleBook,
    candidates: Sequence[LicenseChangeLog],
    carried: frozenset[LogId],
    room: Room,
) -> Selection:
    """The largest set, found in a fixed order, whose *net* effect every rule allows (design §4 step 3).

    What an earlier pass carried is in the parent's quantity already and is never dropped: an objection to it stops the
    family. The rest is dropped from the latest offender backwards, and what fits after all is taken back in order. What
    the marker has no room to name waits for the next raise.
    """
    free = [log for log in candidates if log.id not in carried]
    found = _select(context, env, rules, candidates, carried, len(free))
    fitting, too_many = 0, len(free)
    if found.stop is not None or room(_new(found, carried)):
        return found
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if room(free[:middle]) else (fitting, middle)
    while True:
        found = _select(context, env, rules, candidates, carried, fitting)
        if found.stop is not None or fitting == 0 or room(_new(found, carried)):
            return found
        fitting -= 1


def _new(found: Selection, carried: frozenset[LogId]) -> list[LicenseChangeLog]:
    return [log for log in found.accepted if log.id not in carried]


def _select(
    context: Context,
    env: Environment,
    rules: RuleBook,
    candidates: Sequence[LicenseChangeLog],
    carried: frozenset[LogId],
    most: int,
) -> Selection:
    assert context.books is not None
    accepted, objections = _fit_marker(candidates, carried, most, filled=bool(context.books.groups))
    if not env.policy.netting:
        accepted = _increases_first(accepted, carried, objections)
    while True:
        found = rules.first_change_objection(change_context(context, accepted))
        if found is None:
            break
        victim = _latest_offender(accepted, found, carried)
        if victim is None:
            return Selection((), objections, found.objection)
        objections[victim.id] = found.objection
        accepted = [
            log for log in accepted if log is not victim and (log.id in carried or not _follows(log, victim, accepted))
        ]
    _retake(context, env, rules, candidates, accepted, objections)
    first_left: dict[SubscriptionId, LicenseChangeLog] = {}
    going = {log.id for log in accepted}
    for log in candidates:
        if log.id in going:
            continue
        blocker = first_left.setdefault(log.subscription_id, log)
        objection = objections.get(log.id)
        if blocker is not log and (objection is None or isinstance(objection, Refuse)):
            # Behind a refused change nothing is refused for itself: a process that dies between the two would not.
            objections[log.id] = Wait(
                BEHIND,
                "an earlier change of this subscription cannot go now",
                {"earlier": blocker.id},
                blocked_by=blocker.id,
            )
    _spare_for_lack_of_room(accepted, objections)
    return Selection(tuple(accepted), objections)


def _spare_for_lack_of_room(accepted: Sequence[LicenseChangeLog], objections: dict[LogId, Objection]) -> None:
    """A refusal is final, so nothing is refused while its netting partner may stand among those that did not fit."""
    crowded = any(objection.rule == FULL_MARKER for objection in objections.values())
    if not crowded or not accepted:
        return
    for log_id, objection in objections.items():
        if isinstance(objection, Refuse):
            objections[log_id] = Wait(
                FULL_MARKER,
                f"judged again once the others have gone; by itself: {objection.reason}",
                objection.evidence,
            )


def _fit_marker(
    candidates: Sequence[LicenseChangeLog], carried: frozenset[LogId], most: int, *, filled: bool
) -> tuple[list[LicenseChangeLog], dict[LogId, Objection]]:
    """The first ``most`` new candidates, in order; the rest goes in the next round. ``filled``: earlier raises take room."""
    taken, objections = list(candidates), dict[LogId, Objection]()
    free = [log for log in candidates if log.id not in carried]
    for log in free[most:]:
        taken.remove(log)
        objections[log.id] = (
            Wait(FULL_MARKER, "the marker on the parent's row names as many changes as fit; this one goes next")
            if most or filled
            else Hold(
                FULL_MARKER,
                "the marker that names this change does not fit beside the text in the parent's Order Reference",
                {},
                "shorten the Order Reference of the parent, or name a text column of its own for the marker in the mapping",
            )
        )
    return taken, objections


def _increases_first(
    candidates: list[LicenseChangeLog], carried: frozenset[LogId], objections: dict[LogId, Objection]
) -> list[LicenseChangeLog]:
    """Netting off: while increases can go, decreases (and what follows them on the same child) wait for the next round."""
    if not any((log.quantity or 0) > 0 for log in candidates):
        return candidates
    taken: list[LicenseChangeLog] = []
    waiting: set[SubscriptionId] = set()
    held_back: dict[LogId, Objection] = {}
    for log in candidates:
        if log.id not in carried and ((log.quantity or 0) < 0 or log.subscription_id in waiting):
            waiting.add(log.subscription_id)
            held_back[log.id] = Wait(UNNETTED, "netting is off: increases go first, decreases after them")
        else:
            taken.append(log)
    if not taken:  # every increase stands behind a decrease of its own child: all go together
        return candidates
    objections.update(held_back)
    return taken


def _latest_offender(
    accepted: Sequence[LicenseChangeLog], found: ChangeObjection, carried: frozenset[LogId]
) -> LicenseChangeLog | None:
    """The latest accepted log of the offending sign that is not carried already; None if there is none to drop."""
    for log in reversed(accepted):
        if (log.quantity or 0) * found.sign > 0 and log.id not in carried:
            return log
    return None


def _follows(log: LicenseChangeLog, victim: LicenseChangeLog, order: Sequence[LicenseChangeLog]) -> bool:
    return log.subscription_id == victim.subscription_id and order.index(log) > order.index(victim)


def _retake(
    context: Context,
    env: Environment,
    rules: RuleBook,
    candidates: Sequence[LicenseChangeLog],
    accepted: list[LicenseChangeLog],
    objections: dict[LogId, Objection],
) -> None:
    """Take back, in order, each dropped log that fits after all (another one was the culprit)."""
    position = {log.id: at for at, log in enumerate(candidates)}
    going = {log.id for log in accepted}
    for log in candidates:
        if log.id in going:
            continue
        if log.id in objections and objections[log.id].rule in (FULL_MARKER, UNNETTED):
            continue
        if any(
            other.subscription_id == log.subscription_id
            and position[other.id] < position[log.id]
            and other.id not in going
            for other in candidates
        ):
            continue
        trial = sorted([*accepted, log], key=lambda each: position[each.id])
        found = rules.first_change_objection(change_context(context, trial))
        if found is None:
            accepted[:] = trial
            going.add(log.id)
            objections.pop(log.id, None)
        else:
            objections.setdefault(log.id, found.objection)
