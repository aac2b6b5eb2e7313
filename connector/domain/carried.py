"""What each group of a parent's marker has become: matched with the parent's own logs, told, in flight, or taken back.

The parent's own logs say whether a raise was confirmed. Which log belongs to which group is found from the newest back,
by quantity: a log is never older than the newest change that its group carries. A match counts only if the family's
figures come out with it, lead and ahead alike; else other matches are tried, and if none fits nothing is guessed
(design §4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from connector.domain.marker import Group, reference
from connector.domain.model import LicenseChangeLog, LogId, ParentLog, ProvisioningStatus, seats_of

MOST_STEPS = 20_000
"""How many partial matches are tried before a family's figures count as unexplained."""


class State(Enum):
    """Where a raise stands. ``MISSING``: the CRM made no log for it (yet)."""

    MISSING = "missing"
    OPEN = "open"
    FAILED = "failed"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class Carried:
    """One group with the changes that it names and the parent's own log of it, if there is one."""

    group: Group
    changes: tuple[LicenseChangeLog, ...]
    log: LicenseChangeLog | None
    state: State

    @property
    def in_flight(self) -> bool:
        """Whether nobody has confirmed it yet."""
        return self.state is not State.CONFIRMED


@dataclass(frozen=True, slots=True)
class Figures:
    """The family's numbers that depend on no match. Seats."""

    quantity: int
    pending: int
    children_settled: int
    parent_log: ParentLog | None
    """What the organisation does with the parent's log, as declared or observed; None if that is not known."""
    pushes: bool | None
    """Whether the CRM's own engine raises parents; None if nobody declared it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the marker. Changes are those of children; each belongs to the last group that names it.

    ``told_late``: confirmed, and the child not told · ``in_flight``: carried and not confirmed · ``stopped``: in flight,
    and a person failed it · ``by_hand``: in flight, and a person set it to Provisioned or Not Applicable · ``paid``:
    confirmed, and a person failed it. ``unsettled``: seats of changes that were taken back while raise and take-back are
    not settled alike.
    """

    groups: tuple[Carried, ...]
    settled: int
    told_late: tuple[LicenseChangeLog, ...]
    in_flight: tuple[LicenseChangeLog, ...]
    stopped: tuple[LicenseChangeLog, ...]
    by_hand: tuple[LicenseChangeLog, ...]
    paid: tuple[LicenseChangeLog, ...]
    drift: int
    """What of *lead* no carried change explains, in seats."""
    surplus: int
    """What of *ahead* no carried change explains, in seats."""
    halfway: bool
    """Whether a raise and its take-back are not settled alike yet."""
    pushed: frozenset[LogId] = frozenset()
    """Changes that the CRM's own engine carried, outside any group."""

    @property
    def fits(self) -> bool:
        """Whether lead and ahead both come out."""
        return self.drift == 0 and self.surplus == 0

    @property
    def without_log(self) -> int:
        """How many raises the parent has no log of."""
        return sum(one.state is State.MISSING for one in self.groups)

    @property
    def oddness(self) -> tuple[int, int]:
        """How far a reading is from the plainest: raises without a log, and failed changes that were pushed."""
        return self.without_log, sum(log.id in self.pushed for log in (*self.stopped, *self.paid))


@dataclass(frozen=True, slots=True)
class Match:
    """Which of the parent's logs belongs to which group (by its number), and which were pushed by the CRM's engine."""

    logs: tuple[LicenseChangeLog | None, ...]
    pushed: tuple[tuple[LicenseChangeLog, LicenseChangeLog], ...] = ()
    """(change, the parent's log that carries it)."""


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that a match is held against: figures, groups with their changes, and logs as they were made."""

    figures: Figures
    groups: tuple[tuple[Group, tuple[LicenseChangeLog, ...]], ...]
    parent_logs: tuple[LicenseChangeLog, ...]
    open_changes: tuple[LicenseChangeLog, ...]

    def __post_init__(self) -> None:
        wanted = {group.after for group, _ in self.groups if group.after}
        if wanted:
            self._older.update({key: log for log in self.parent_logs if (key := reference(log.id)) in wanted})

    _older: dict[str, LicenseChangeLog] = field(init=False, repr=False, compare=False, default_factory=dict)

    def state_of(self, group: Group, log: LicenseChangeLog | None) -> State:
        """Where a raise stands by its log. One that moves no seats has no log and nothing to confirm."""
        if group.delta == 0:
            return State.CONFIRMED
        if log is None:
            return State.MISSING
        match log.status:
            case ProvisioningStatus.PROVISIONED:
                return State.CONFIRMED
            case ProvisioningStatus.FAILED:
                return State.FAILED
        return State.OPEN

    def fits(self, log: LicenseChangeLog, number: int) -> bool:
        """Whether a log of the parent can be that of a group. One that was set to Not Applicable is passed over, unless
        the organisation makes them so."""
        group, changes = self.groups[number]
        aside = (
            log.status is ProvisioningStatus.NOT_APPLICABLE and self.figures.parent_log is not ParentLog.NOT_APPLICABLE
        )
        if log.quantity != group.delta or aside or log.created_on < max(each.created_on for each in changes):
            return False
        older = self._older.get(group.after)
        # Logs of one second stand in no order; the one that is named is the older one.
        return older is None or (log.id != older.id and log.created_on >= older.created_on)


def read(book: Book) -> tuple[Reading, ...]:
    """The ways to read a family's marker that fit, the plainest first; if none fits, the plainest alone, which does not.

    A reading with fewer raises without a log is always the plainer one, then one in which the CRM's own engine carried
    fewer changes that a person failed, then, where its engine is declared, one that leaves fewer of its logs to nobody: it
    raises the parent for every change. Several that fit are all that differ in what they tell or leave in flight.
    """
    matches = list(_plain_matches(book))
    plain = [evaluate(book, match) for match in matches]
    exact_first = sorted(zip(matches, plain, strict=True), key=lambda found: not _is_exact(book, found[0]))
    chosen, fitting = next(((match, reading) for match, reading in exact_first if reading.fits), (None, None))
    is_exact = chosen is not None and _is_exact(book, chosen)
    if fitting is not None and not fitting.without_log:
        return (fitting,)
    best = (len(book.groups) + 1, 0) if fitting is None else fitting.oddness
    found: dict[tuple[frozenset[LogId], frozenset[LogId]], Reading] = {}
    for match in _all_matches(book):
        reading = evaluate(book, match)
        if reading.fits and reading.oddness <= best and (not is_exact or _is_exact(book, match)):
            if reading.oddness < best:
                found, fitting, best = {}, None, reading.oddness
            found.setdefault((_ids(reading.told_late), _ids(reading.in_flight)), reading)
    if fitting is not None:
        return (fitting,)
    if found:
        most = max(len(reading.pushed) for reading in found.values()) if book.figures.pushes is True else 0
        plainest = {key: reading for key, reading in found.items() if len(reading.pushed) >= most}
        return tuple(plainest[key] for key in sorted(plainest, key=lambda key: (sorted(key[0]), sorted(key[1]))))
    return (plain[0] if plain else evaluate(book, Match((None,) * len(book.groups))),)


def _ids(logs: Sequence[LicenseChangeLog]) -> frozenset[LogId]:
    return frozenset(log.id for log in logs)


# -- matches ----------------------------------------------------------------------------------------------------------


def _plain_matches(book: Book) -> Iterator[Match]:
    """From the newest log back, by quantity: first with a log for every group, then with ever more of the newest groups
    without one."""
    for without in range(len(book.groups) + 1):
        found: list[LicenseChangeLog | None] = [None] * without
        free = list(reversed(book.parent_logs))
        for number in range(len(book.groups) - without - 1, -1, -1):
            if book.groups[number][0].delta == 0:
                found.insert(0, None)
                continue
            log = next((each for each in free if book.fits(each, number)), None)
            if log is None:
                break
            # Logs of one second stand in no order: the id that comes after it in the alphabet may have been made before.
            free = [each for each in free if each is not log and each.created_on <= log.created_on]
            found.insert(0, log)
        match = Match(tuple(found))
        if len(found) == len(book.groups) and _adds_up(book, match):
            yield match


def _adds_up(book: Book, match: Match) -> bool:
    """Whether groups without a log are really missing one: the quantity before the oldest group, the parent's logs since
    then and the missing deltas make the parent's quantity."""
    missing = [g.delta for (g, _), log in zip(book.groups, match.logs, strict=True) if log is None and g.delta]
    if not missing:
        return True
    first, needed = _since(book, match)
    running = sum(log.quantity or 0 for log in book.parent_logs[first:])
    for at in range(first, -1, -1):
        if running == needed:
            return True
        if at:
            running += book.parent_logs[at - 1].quantity or 0
    return False


def _is_exact(book: Book, match: Match) -> bool:
    """Whether the parent's logs from the oldest matched one on make its quantity out of the one before the oldest group. A
    log of an earlier raise by as many seats matches a raise whose own log is still to come; with it they do not."""
    if not book.groups:
        return True
    first, needed = _since(book, match)
    return sum(log.quantity or 0 for log in book.parent_logs[first:]) == needed


def _since(book: Book, match: Match) -> tuple[int, int]:
    """The place of the oldest matched log, and the seats that the parent's logs have to make since the oldest group."""
    ids = {log.id for log in match.logs if log is not None}
    first = next((at for at, log in enumerate(book.parent_logs) if log.id in ids), len(book.parent_logs))
    missing = sum(group.delta for (group, _), log in zip(book.groups, match.logs, strict=True) if log is None)
    return first, book.figures.quantity - book.groups[0][0].before - missing


def _all_matches(book: Book) -> Iterator[Match]:
    """Every match that keeps the order of the groups; with the CRM's engine at work, logs outside any group may carry the
    one open change of their quantity that is older. At most :data:`MOST_STEPS` are begun."""
    first_named: dict[LogId, int] = {}
    for number, (_, changes) in enumerate(book.groups):
        for change in changes:
            first_named.setdefault(change.id, number)
    free = [
        change
        for change in book.open_changes
        if change.id not in first_named or book.groups[first_named[change.id]][0].back
    ]
    begun = [iter((_Partial(0, ()),))]  # by hand and not by recursion: a parent may have thousands of logs
    for _ in range(MOST_STEPS):
        partial = next(begun[-1], None)
        while partial is None:
            begun.pop()
            if not begun:
                return
            partial = next(begun[-1], None)
        if partial.at < len(book.parent_logs):
            begun.append(_onwards(book, free, partial))
            continue
        match = Match((*partial.logs, *((None,) * (len(book.groups) - len(partial.logs)))), partial.pushed)
        if _adds_up(book, match):
            yield match


class _Partial(NamedTuple):
    """A match of the parent's logs before ``at``; ``logs`` are those of the first groups."""

    at: int
    logs: tuple[LicenseChangeLog | None, ...]
    pushed: tuple[tuple[LicenseChangeLog, LicenseChangeLog], ...] = ()


def _onwards(book: Book, free: Sequence[LicenseChangeLog], partial: _Partial) -> Iterator[_Partial]:
    """A partial match with the next log of the parent: the next group's, the CRM's own engine's, or nobody's."""
    at, logs, pushed = partial
    log = book.parent_logs[at]
    while len(logs) < len(book.groups) and book.groups[len(logs)][0].delta == 0:
        logs = (*logs, None)
    if len(logs) < len(book.groups) and book.fits(log, len(logs)):
        yield _Partial(at + 1, (*logs, log), pushed)
    if _may_be_pushed(book, log):
        taken = {change.id for change, _ in pushed}
        for change in free:
            if change.id not in taken and change.quantity == log.quantity and change.created_on <= log.created_on:
                yield _Partial(at + 1, logs, (*pushed, (change, log)))
    yield _Partial(at + 1, logs, pushed)


def _may_be_pushed(book: Book, log: LicenseChangeLog) -> bool:
    """Whether a log outside any group may be the CRM's own raise. Where nobody declared that its engine raises parents,
    only a raise that was confirmed is read so: those seats are bought, so telling the child costs nothing."""
    if book.figures.pushes is False or log.status is ProvisioningStatus.NOT_APPLICABLE:
        return False
    return book.figures.pushes is True or log.status is ProvisioningStatus.PROVISIONED


# -- what a match means -------------------------------------------------------------------------------------------------


class _Ledger:
    """Adds up what the groups of one match explain."""

    def __init__(self) -> None:
        self.told: list[LicenseChangeLog] = []
        self.flying: list[LicenseChangeLog] = []
        self.stopped: list[LicenseChangeLog] = []
        self.by_hand: list[LicenseChangeLog] = []
        self.paid: list[LicenseChangeLog] = []
        self.explained_elsewhere = 0
        """Seats by which the lead differs because a person settled or failed a carried change."""

    def carry(self, change: LicenseChangeLog, *, confirmed: bool) -> None:
        seats = change.quantity or 0
        if confirmed:
            if change.is_awaiting:
                self.told.append(change)
            elif change.is_open:
                self.paid.append(change)
                self.explained_elsewhere -= seats
            return
        self.flying.append(change)
        if not change.is_open:
            self.by_hand.append(change)
            self.explained_elsewhere += seats
        elif not change.is_awaiting:
            self.stopped.append(change)


def evaluate(book: Book, match: Match) -> Reading:
    """What a match means for every carried change, and whether the figures come out."""
    carried = tuple(
        Carried(group, changes, log, book.state_of(group, log))
        for (group, changes), log in zip(book.groups, match.logs, strict=True)
    )
    missing = sum(one.group.delta for one in carried if one.state is State.MISSING)
    aside = sum(
        one.group.delta
        for one in carried
        if one.log is not None and one.log.status is ProvisioningStatus.NOT_APPLICABLE
    )
    settled = book.figures.quantity - book.figures.pending - missing - aside
    ledger = _Ledger()
    last = {change.id: one for one in carried for change in one.changes}
    pushed = {change.id: log.status is ProvisioningStatus.PROVISIONED for change, log in match.pushed}
    unsettled, halfway = 0, False
    for number, one in enumerate(carried):
        for change in one.changes:
            if one.group.back:
                was = _raised_before(carried[:number], change.id, pushed)
                now = one.state is State.CONFIRMED
                unsettled += (change.quantity or 0) * (was - now)
                halfway = halfway or not (was and now)
            elif last[change.id] is one:
                ledger.carry(change, confirmed=one.state is State.CONFIRMED)
    for change, log in match.pushed:
        if change.id not in last:
            ledger.carry(change, confirmed=log.status is ProvisioningStatus.PROVISIONED)
    lead = settled - book.figures.children_settled
    ahead = book.figures.quantity - settled
    explained_lead = seats_of(ledger.told) + unsettled - ledger.explained_elsewhere
    return Reading(
        groups=carried,
        settled=settled,
        told_late=tuple(ledger.told),
        in_flight=tuple(ledger.flying),
        stopped=tuple(ledger.stopped),
        by_hand=tuple(ledger.by_hand),
        paid=tuple(ledger.paid),
        drift=lead - explained_lead,
        surplus=ahead - seats_of(ledger.flying) + unsettled,
        halfway=halfway,
        pushed=frozenset(pushed),
    )


def _raised_before(earlier: Sequence[Carried], change_id: LogId, pushed: Mapping[LogId, bool]) -> bool:
    """Whether the raise that a take-back undoes is confirmed. One whose group has left was."""
    for one in reversed(earlier):
        if any(change.id == change_id for change in one.changes):
            return one.state is State.CONFIRMED
    return pushed.get(change_id, True)


# -- leaving ------------------------------------------------------------------------------------------------------------


def after_leaving(
    groups: Sequence[Carried], *, told: frozenset[LogId] = frozenset(), confirmed: frozenset[int] = frozenset()
) -> tuple[Carried, ...]:
    """The groups that stay, from the front, once these changes are told and the groups of these numbers are confirmed.

    A group leaves when its raise is settled and each of its changes is told, settled by hand, or taken back for good.
    """
    done = [one.state is State.CONFIRMED or number in confirmed for number, one in enumerate(groups)]
    last = {change.id: number for number, one in enumerate(groups) for change in one.changes}

    def is_closed(change: LicenseChangeLog) -> bool:
        taken_back = groups[last[change.id]].group.back and done[last[change.id]]
        return change.id in told or not change.is_open or taken_back

    stay = list(enumerate(groups))
    while stay and done[stay[0][0]] and all(is_closed(change) for change in stay[0][1].changes):
        stay.pop(0)
    return tuple(one for _, one in stay)
