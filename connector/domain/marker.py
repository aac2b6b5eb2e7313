"""The marker: on the parent's own row, which changes of its children each raise of its quantity carries (design §4.2).

It is written in the *same* PATCH as the quantity, so the two can never be out of step, and it needs no behaviour of the
CRM: whether a licence change log copies anything from the parent's row makes no difference. With it a death between the
parent and the provider is understood without our journal.

A marker is a list of *groups*, one for each raise, oldest first. A group names its changes (as *runs*), its delta and the
parent's quantity before it. A group marked *back* takes changes back that a person failed after they were carried. At
rest there is no group, and what a person had in the column stands there again: while there are groups it is kept behind
them.

Form: ``ls2:`` and the minute of the oldest named change (base 36, since 2020), then the groups, each as
``;before±delta[!][~log]:runs`` in base 36 (``!``: back; ``log``: the parent's own log after which that of this raise
comes, named only where an older one could be taken for it), then ``|`` and a person's own text. A run is the reference of its
first change, and after a dot that of its last one if it has several. A reference is four base64url characters (24 bits)
of the hash of a log's id; where two logs of the family share these, ``~`` and eight (48 bits). In place of runs ``*``
names all changes of the group before: there is always room to take a whole raise back. A marker is never trusted by
itself: what it names must add up exactly.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from connector.domain.model import LicenseChangeLog, LogId, SubscriptionId, seats_of

PREFIX = "ls2:"
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_REF = r"(?:[0-9A-Za-z_-]{4}|~[0-9A-Za-z_-]{8})"
_GROUP = re.compile(
    rf"(?P<before>[0-9a-z]+)(?P<sign>[+-])(?P<delta>[0-9a-z]+)(?P<back>!?)(?:~(?P<after>{_REF}))?:(?P<runs>\*|(?:{_REF}(?:\.{_REF})?)+)"
)
_RUN = re.compile(rf"({_REF})(?:\.({_REF}))?")
_FORM = re.compile(r"ls2:(?P<since>[0-9a-z]+)(?P<groups>(?:;[^;|]+)+)(?:\|(?P<kept>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring changes of one child, by the references of the first and the last of them."""

    first: str
    last: str

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first}.{self.last}"


@dataclass(frozen=True, slots=True)
class Group:
    """One raise of the parent: the changes that it carries, its delta (seats, signed) and the quantity before it.

    ``back``: it takes its changes back, so its delta is the opposite of their sum. Without runs it names all changes of
    the group before it. ``after`` is the reference of the parent's newest log that could be taken for that of this raise
    and is older than the raise; empty where there is none.
    """

    runs: tuple[Run, ...]
    delta: int
    before: int
    back: bool = False
    after: str = ""

    def __str__(self) -> str:
        sign = "-" if self.delta < 0 else "+"
        runs = "".join(map(str, self.runs)) or "*"
        after = f"~{self.after}" if self.after else ""
        return f"{_base36(self.before)}{sign}{_base36(abs(self.delta))}{'!' if self.back else ''}{after}:{runs}"


@dataclass(frozen=True, slots=True)
class Marker:
    """What stands in the marker's column: groups, oldest first, and a person's own text behind them.

    ``since`` is the minute (UTC) of the oldest change that a group names: logs from there on are needed to read it.
    """

    groups: tuple[Group, ...] = ()
    kept: str = ""
    since: datetime | None = None

    def __str__(self) -> str:
        if not self.groups or self.since is None:
            return self.kept
        minutes = int((self.since - _EPOCH) / timedelta(minutes=1))
        groups = "".join(f";{group}" for group in self.groups)
        return f"{PREFIX}{_base36(max(0, minutes))}{groups}" + (f"|{self.kept}" if self.kept else "")

    @property
    def length(self) -> int:
        """Room that the text takes, in UTF-16 units, which is what Dataverse counts."""
        return len(str(self).encode("utf-16-le", "surrogatepass")) // 2


EMPTY = Marker()
"""At rest, and nobody wrote anything into the column."""


class Unreadable(ValueError):
    """A text that begins like a marker and is none, or names changes that cannot be found."""


def parse(text: str | None) -> Marker:
    """The marker in a column's text; any other text is a person's. Raises Unreadable for one that was altered."""
    if not text or not text.startswith(PREFIX):
        return Marker(kept=text or "")
    form = _FORM.fullmatch(text)
    if form is None:
        raise Unreadable("it was cut or altered")
    groups = []
    for part in form["groups"][1:].split(";"):
        found = _GROUP.fullmatch(part)
        if found is None:
            raise Unreadable("one of its groups was cut or altered")
        runs = tuple(Run(first, last or first) for first, last in _RUN.findall(found["runs"]))
        delta = int(found["delta"], 36) * (-1 if found["sign"] == "-" else 1)
        groups.append(Group(runs, delta, int(found["before"], 36), bool(found["back"]), found["after"] or ""))
    since = _instant(form["since"])
    if since is None:
        raise Unreadable("its minute is none")
    return Marker(tuple(groups), form["kept"] or "", since)


def names(text: str | None, group: str) -> bool:
    """Whether a marker's text has this group, as it is written there. One that was altered has none."""
    try:
        return any(str(each) == group for each in parse(text).groups)
    except Unreadable:
        return False


def oldest(text: str | None) -> datetime | None:
    """From when on logs are needed to read a marker; None if the text is no marker. An altered one gives what it can."""
    if not text or not text.startswith(PREFIX):
        return None
    since = re.match(r"[0-9a-z]{1,7}", text[len(PREFIX) :])
    return _instant(since[0]) if since is not None else None


def carries_anything(text: str | None) -> bool:
    """Whether a column's text begins like a marker."""
    return bool(text) and str(text).startswith(PREFIX)


def reference(log_id: LogId) -> str:
    """The four characters that stand for a change."""
    return urlsafe_b64encode(sha256(log_id.encode()).digest()[:3]).decode()


def long_reference(log_id: LogId) -> str:
    """What stands for a change whose four characters are those of another one, too."""
    return "~" + urlsafe_b64encode(sha256(log_id.encode()).digest()[:6]).decode()


def in_order_of_making(logs: Iterable[LicenseChangeLog]) -> list[LicenseChangeLog]:
    """Logs as they were made: an order that no edit changes, in which runs are told."""
    return sorted(logs, key=lambda log: (log.created_on, log.id))


def group_of(
    changes: Sequence[LicenseChangeLog],
    known: Known,
    *,
    before: int,
    back: bool = False,
    own: Iterable[LicenseChangeLog] = (),
) -> Group:
    """The group that carries these changes. ``known`` holds all logs of the children that were read, closed ones too:
    a run covers only neighbours, so that no log between two of its ends is named by accident. ``own`` are the parent's
    logs before the raise."""
    named = {log.id for log in changes}
    runs: list[Run] = []
    for logs in known.by_child.values():
        first = last = None
        for log in logs:
            if log.id in named:
                first, last = first or known.reference_to(log.id), known.reference_to(log.id)
            elif first is not None and last is not None:
                runs.append(Run(first, last))
                first = last = None
        if first is not None and last is not None:
            runs.append(Run(first, last))
    seats = seats_of(changes)
    delta = -seats if back else seats
    newest = max((log.created_on for log in changes), default=None)
    alike = [log for log in own if log.quantity == delta and newest is not None and log.created_on >= newest]
    after = reference(in_order_of_making(alike)[-1].id) if alike and delta else ""
    return Group(tuple(runs), delta, before, back, after)


class Known:
    """All logs of a family's children that were read, and the references by which groups name them."""

    def __init__(self, logs: Iterable[LicenseChangeLog]) -> None:
        self.by_child = by_child(logs)
        self._places: dict[str, tuple[SubscriptionId, int]] = {}
        self._doubled: set[str] = set()
        for child, made in self.by_child.items():
            for at, log in enumerate(made):
                for key in (reference(log.id), long_reference(log.id)):
                    if key in self._places:
                        self._doubled.add(key)
                    self._places[key] = (child, at)

    def reference_to(self, log_id: LogId) -> str:
        """What stands for a change and for no other one that is known."""
        short = reference(log_id)
        return long_reference(log_id) if short in self._doubled else short

    def changes_of_all(self, groups: Sequence[Group]) -> tuple[tuple[Group, tuple[LicenseChangeLog, ...]], ...]:
        """Every group with the changes that it names. Raises Unreadable as :meth:`changes_of` does."""
        found: list[tuple[Group, tuple[LicenseChangeLog, ...]]] = []
        for group in groups:
            changes = self.changes_of(group) if group.runs else found[-1][1] if found else ()
            _check_sum(group, changes)
            found.append((group, changes))
        return tuple(found)

    def changes_of(self, group: Group) -> tuple[LicenseChangeLog, ...]:
        """The changes that the runs of a group name, as they were made.

        Raises Unreadable when one cannot be found, or when two logs share a reference that it uses.
        """
        found: list[LicenseChangeLog] = []
        for run in group.runs:
            if {run.first, run.last} & self._doubled:
                raise Unreadable("two changes share the reference that it names")
            if run.first not in self._places or run.last not in self._places:
                raise Unreadable("a change that it names is not among those of the parent's children")
            child, start = self._places[run.first]
            other, end = self._places[run.last]
            if child != other or end < start:
                raise Unreadable("one of its runs has no order")
            found += self.by_child[child][start : end + 1]
        return tuple(in_order_of_making(found))


def _check_sum(group: Group, changes: Sequence[LicenseChangeLog]) -> None:
    seats = seats_of(changes)
    if not changes or seats != (-group.delta if group.back else group.delta):
        raise Unreadable(f"the changes that it names add up to {seats:+d} and it says {group.delta:+d}")


def by_child(logs: Iterable[LicenseChangeLog]) -> dict[SubscriptionId, list[LicenseChangeLog]]:
    """Logs by subscription, each as they were made; those that move no seats are left out."""
    grouped: dict[SubscriptionId, list[LicenseChangeLog]] = {}
    for log in in_order_of_making(logs):
        if log.quantity:
            grouped.setdefault(log.subscription_id, []).append(log)
    return grouped


def since_of(changes: Iterable[LicenseChangeLog]) -> datetime | None:
    """The minute of the oldest change, from which on logs are needed to read a marker that names it."""
    first = min((log.created_on for log in changes), default=None)
    return None if first is None else first.astimezone(UTC).replace(second=0, microsecond=0)


def _instant(digits: str) -> datetime | None:
    try:
        return _EPOCH + timedelta(minutes=int(digits, 36))
    except (OverflowError, ValueError):
        return None


def _base36(number: int) -> str:
    """A number below nothing is none that a marker may name: its text is not read as a marker's."""
    sign, rest, digits = "-" if number < 0 else "", abs(number), ""
    while True:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
        if not rest:
            return sign + digits
