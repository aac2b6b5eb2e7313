"""Whole families in a few set-wise queries: the number of requests grows with ids per query, not with families.

Rounds of ``$batch``: the parents, singles and children; then their logs, accounts, scheduled changes and the bundle
parents; then the later logs of parents (and of children, where a marker stands) and the levels above (Work 365 has up
to three levels of add-ons).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from connector.crm.dataverse import DataverseClient, Row
from connector.crm.gathering import Asked, Gathering
from connector.crm.rows import RowReader
from connector.domain.model import SubscriptionId
from connector.sync.ports import FamilyRows

BUNDLE_LEVELS = 3
"""How many levels of bundle parents stand above a subscription at most."""


class FamilyReader:
    """Reads families of one organisation. One use each."""

    def __init__(self, client: DataverseClient, reader: RowReader) -> None:
        self._client = client
        self._found = Gathering(reader)

    def load(self, parents: Sequence[SubscriptionId], singles: Sequence[SubscriptionId]) -> FamilyRows:
        """Everything for the given families; rows that are gone are simply not in the answer."""
        found = self._found
        asked = list(dict.fromkeys([*parents, *singles]))
        first = Asked()
        found.ask_subscriptions(first, asked)
        found.ask_children(first, parents)
        self._go(first)
        children = found.children_of(parents)

        members = list(dict.fromkeys([*asked, *(child.id for group in children.values() for child in group)]))
        heads = [row for parent in parents if (row := found.subscriptions.get(parent)) is not None]
        second = Asked()
        found.ask_open_logs(second, members)
        found.ask_create_logs(second, found.windowed(members))
        found.ask_scheduled(second, members)
        found.ask_accounts(second, (row.customer_id for row in heads))
        found.ask_catalogue(second, (row.product_id for row in heads))
        frontier = self._above(parents)
        found.ask_subscriptions(second, frontier)
        self._go(second)

        third = Asked()
        since = found.bounds(children)
        found.ask_later_logs(third, since)
        found.ask_versions(third, members, parents)
        self._read_bundles(frontier, third)
        return found.rows(members, children, since)

    def children_of(self, candidates: Sequence[SubscriptionId]) -> Mapping[SubscriptionId, tuple[SubscriptionId, ...]]:
        """Linked parent id → ids of what is linked to it, for those of the candidates that have any."""
        table = self._found.subscription_table
        link = table.columns["linked_parent"].property
        linked: dict[SubscriptionId, set[SubscriptionId]] = defaultdict(set)
        wanted = set(candidates)

        def keep(row: Row) -> None:
            child, parent = str(row.get(table.primary_id) or "").lower(), str(row.get(link) or "").lower()
            if child and parent in wanted:
                linked[SubscriptionId(parent)].add(SubscriptionId(child))

        ask = Asked()
        for path in self._found.by_linked_parent(candidates, ["linked_parent"]):
            ask.ask(path, keep)
        self._go(ask)
        return {parent: tuple(sorted(linked[parent])) for parent in candidates if parent in linked}

    def _go(self, asked: Asked) -> None:
        answers = self._client.read_many(asked.paths, operation="load families", closing=asked.closing)
        asked.answered(answers)

    def _read_bundles(self, frontier: Sequence[SubscriptionId], following: Asked) -> None:
        """Bundle parents level by level, with what they are linked to and their open logs."""
        rows = self._found.subscriptions
        level, visited = list(frontier), set(frontier)
        for height in range(1, BUNDLE_LEVELS + 1):
            arrived = [found for key in level if (found := rows.get(key)) is not None]
            self._found.ask_open_logs(following, [found.id for found in arrived])
            level = [key for key in self._above(level) if key not in visited] if height < BUNDLE_LEVELS else []
            visited.update(level)
            wanted = [*level, *(found.linked_parent for found in arrived)]
            self._found.ask_subscriptions(following, self._unread(wanted))
            self._go(following)
            if not level:
                return

    def _above(self, ids: Iterable[SubscriptionId]) -> list[SubscriptionId]:
        """Bundle parents of those of the given subscriptions that were read."""
        rows = self._found.subscriptions
        found = [rows[key].bundle_parent for key in ids if key in rows]
        return list(dict.fromkeys(key for key in found if key is not None))

    def _unread(self, ids: Iterable[SubscriptionId | None]) -> list[SubscriptionId]:
        rows = self._found.subscriptions
        return list(dict.fromkeys(key for key in ids if key is not None and key not in rows))
