"""One family read again, all in one ``$batch``: its members, customer and product are known from the read before.

The questions are put together from what is known; whether that was enough is seen in the answers. A new child, another
bundle parent, customer or product, or a marker that names older changes mean that the family must be read in rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connector.crm.dataverse import Row
from connector.crm.families import BUNDLE_LEVELS
from connector.crm.gathering import Asked, Gathering, since_when
from connector.crm.rows import RowReader
from connector.domain.model import ReductionBehavior, Snapshot, Subscription, SubscriptionId
from connector.sync.ports import FamilyRows


class ReadingAgain:
    """The queries for one known family, and what their answers are worth. One use each.

    ``parents`` and ``singles`` say how the family is read whole. ``marker`` is the marker's text as it will stand when
    the family is read; what the parent had before counts when nothing is given.
    """

    def __init__(self, reader: RowReader, known: Snapshot, marker: str | None = None) -> None:
        self._known = known
        self._found = Gathering(reader)
        self._ask = Asked()
        head = known.parent.id if known.parent is not None else known.children[0].linked_parent
        self.parents: tuple[SubscriptionId, ...] = () if head is None else (head,)
        self.singles: tuple[SubscriptionId, ...] = () if self.parents else (known.children[0].id,)
        self._children = tuple(sorted(child.id for child in known.children)) if self.parents else ()
        self._members = list(dict.fromkeys([*self.parents, *self.singles, *self._children]))
        text = known.parent.marker_text if known.parent is not None else None
        self._since = since_when(
            dict.fromkeys(self.parents, self._children),
            dict.fromkeys(self.parents, text if marker is None else marker),
            known.logs,
        )
        self._put()

    @property
    def paths(self) -> list[str]:
        """The queries, in an order that shows at its end what moved since its beginning."""
        return self._ask.paths

    @property
    def closing(self) -> list[int]:
        """The places of those at the end."""
        return self._ask.closing

    def _put(self) -> None:
        known, found, ask = self._known, self._found, self._ask
        bases = known.bases
        above = [*self.parents, *self.singles, *(base.id for base in bases)]
        above += [key for row in _step(known) if (key := row.bundle_parent) is not None]
        above += [key for base in bases if (key := base.linked_parent) is not None]
        found.ask_subscriptions(ask, list(dict.fromkeys(above)))
        found.ask_children(ask, self.parents)
        found.ask_open_logs(ask, self._members)
        found.ask_later_logs(ask, self._since)
        found.ask_create_logs(ask, self._windowed())
        found.ask_scheduled(ask, self._members)
        if known.parent is not None:
            found.ask_accounts(ask, [known.parent.customer_id])
            found.ask_catalogue(ask, [known.parent.product_id])
        found.ask_open_logs(ask, [base.id for base in bases if base.id not in self._members])
        found.ask_versions(ask, self._members, self.parents)

    def take(self, answers: Sequence[Sequence[Row]]) -> FamilyRows | None:
        """The family as it is now; None when other questions would have been needed."""
        self._ask.answered(answers)
        found = self._found
        children = found.children_of(self.parents)
        since = found.bounds(children)
        if (
            tuple(row.id for group in children.values() for row in group) != self._children
            or not self._is_same_head()
            or set(found.windowed(self._members)) != set(self._windowed())
            or any(key not in self._since or self._since[key] > bound for key, bound in since.items())
        ):
            return None
        return found.rows(self._members, children, since)

    def _is_same_head(self) -> bool:
        """Whether parent and bases are those that were known, and name whom they named."""
        rows, before = self._found.subscriptions, self._known.parent
        now = rows.get(self.parents[0]) if self.parents else None
        if before is None or now is None:
            return before is now
        if (now.customer_id, now.product_id) != (before.customer_id, before.product_id):
            return False
        return _links(now, bases_of(now, rows)) == _links(before, self._known.bases)

    def _windowed(self) -> list[SubscriptionId]:
        rows = [*((self._known.parent,) if self._known.parent is not None else ()), *self._known.children]
        return [row.id for row in rows if row.reduction is ReductionBehavior.WITHIN_WINDOW]


def bases_of(parent: Subscription, rows: Mapping[SubscriptionId, Subscription]) -> tuple[Subscription, ...]:
    """The bundle parents of a parent that were read, nearest first."""
    found: list[Subscription] = []
    step = parent
    while step.bundle_parent is not None and len(found) < BUNDLE_LEVELS:
        above = rows.get(step.bundle_parent)
        if above is None or above in found:
            break
        found.append(above)
        step = above
    return tuple(found)


def _step(known: Snapshot) -> tuple[Subscription, ...]:
    """The highest row that is known, if a bundle parent that could not be read may stand above it."""
    rows = (*((known.parent,) if known.parent is not None else ()), *known.bases)
    return rows[-1:] if len(known.bases) < BUNDLE_LEVELS else ()


def _links(parent: Subscription, bases: Sequence[Subscription]) -> list[tuple[SubscriptionId | None, ...]]:
    """Whom parent and bases name, as far as it is read; the highest base's own bundle parent is not."""
    links: list[tuple[SubscriptionId | None, ...]] = [(parent.id, parent.bundle_parent)]
    for level, base in enumerate(bases, start=1):
        links.append((base.id, base.linked_parent, base.bundle_parent if level < BUNDLE_LEVELS else None))
    return links
