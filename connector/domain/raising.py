"""Raising a parent and taking a raise back: the group that is written, and the room that it needs (design §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from connector.domain.carried import Carried, after_leaving
from connector.domain.marker import Group, Marker, group_of, since_of
from connector.domain.model import LicenseChangeLog, Snapshot, seats_of
from connector.domain.plan import SetParentQuantity
from connector.domain.rules.registry import Environment
from connector.domain.seats import SeatAccount

MOST_TOLD_AT_ONCE = 900
"""Logs of children in one change set, which takes 1,000 rows."""


def take_back(snapshot: Snapshot, books: SeatAccount, capacity: int) -> SetParentQuantity:
    """Lower the parent by what a person stopped after it was carried (design §4.2); siblings go on.

    Where the marker has no room to name just these, and whatever may be stopped after them, or where the siblings give back
    more seats than the parent has without these, everything that is in flight is taken back: the siblings are carried
    anew.
    """
    parent = snapshot.parent
    assert parent is not None
    stay = after_leaving(books.groups)
    flying = [log for log in books.carried or () if log.is_open]
    others = [log for log in flying if log not in books.stopped]
    group, taken = _back(books, books.stopped, books.parent_quantity), books.stopped
    marker = marker_of(books, stay, new=(group, taken))
    after = books.parent_quantity + group.delta
    if (others and after < 1) or _length(marker, _back(books, others, after) if others else None) > capacity:
        taken = tuple(flying)
        group = _back(books, taken, books.parent_quantity, is_last=_are_the_last(flying, stay))
        marker = marker_of(books, stay, new=(group, taken))
    target = books.parent_quantity + group.delta
    return SetParentQuantity(
        parent.id, books.parent_quantity, target, marker, tuple(log.id for log in taken), takes_back=True
    )


def _are_the_last(flying: Sequence[LicenseChangeLog], stay: Sequence[Carried]) -> bool:
    """Whether these are all the changes of the newest group. What the CRM's own engine carried is in none."""
    return bool(stay) and not stay[-1].group.back and {log.id for log in flying} == {log.id for log in stay[-1].changes}


def _back(books: SeatAccount, taken: Sequence[LicenseChangeLog], before: int, *, is_last: bool = False) -> Group:
    """The group that takes changes back; where they are all those of the group before it, it need not name them."""
    found = group_of(taken, books.known, before=before, back=True)
    return replace(found, runs=()) if is_last else found


def _length(marker: Marker, further: Group | None) -> int:
    return marker.length if further is None else replace(marker, groups=(*marker.groups, further)).length


def raised_marker(snapshot: Snapshot, books: SeatAccount, new: Sequence[LicenseChangeLog]) -> Marker | None:
    """The marker with which the parent is raised for these changes; None if they need none: they net to nothing, and all
    of them are told in one step."""
    if not seats_of(new) and len(new) <= MOST_TOLD_AT_ONCE:
        return None
    assert snapshot.parent is not None
    own = snapshot.logs_of(snapshot.parent.id)
    group = group_of(new, books.known, before=books.parent_quantity, own=own)
    return marker_of(books, after_leaving(books.groups), new=(group, new))


def has_room(snapshot: Snapshot, books: SeatAccount, new: Sequence[LicenseChangeLog], env: Environment) -> bool:
    """Whether the marker has room for a group of these changes, and for one that takes back all that is in flight."""
    marker = raised_marker(snapshot, books, new)
    if marker is None:
        return True
    others = [log for log in books.carried or () if log.is_open]
    back = _back(books, (*others, *new), marker.groups[-1].before + seats_of(new), is_last=not others)
    return _length(marker, back) <= env.marker_capacity


def marker_of(
    books: SeatAccount,
    stay: Sequence[Carried],
    new: tuple[Group, Sequence[LicenseChangeLog]] | None = None,
) -> Marker:
    """The marker of the groups that stay, and of a new one; a person's own text goes along."""
    changes = [change for one in stay for change in one.changes]
    groups = tuple(one.group for one in stay)
    if new is not None:
        groups, changes = (*groups, new[0]), [*changes, *new[1]]
    return Marker(groups, books.marker.kept, since_of(changes))
