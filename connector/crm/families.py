"""Whole families in a few set-wise queries: the number of requests grows with ids per query, not with families.

Rounds of ``$batch``: the parents, singles and children; then their logs, accounts, scheduled changes and the bundle
parents; then the parents' later logs and the levels above (Work 365 has up to three levels of add-ons).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from connector.crm.dataverse import DataverseClient, Row, is_in, query
from connector.crm.fields import guid
from connector.crm.metadata import Table, number_of
from connector.crm.rows import (
    ACCOUNT_WORDS,
    LOG_WORDS,
    PRICE_LIST_WORDS,
    SCHEDULED_WORDS,
    SUBSCRIPTION_WORDS,
    RowReader,
)
from connector.domain.model import (
    CatalogueEntry,
    LicenseChangeLog,
    LogId,
    ProviderAccount,
    ReductionBehavior,
    ScheduledLicenseChangeLog,
    Subscription,
    SubscriptionId,
)
from connector.sync.ports import FamilyRows

IDS_PER_QUERY = 500
"""Keeps an inner address near 22,000 characters (the service takes 65,536) and its SQL within parameter limits."""
_BUNDLE_LEVELS = 3
_Id = TypeVar("_Id", bound=str)


class _Round:
    """Queries that go out together; each hands its rows to its own receiver."""

    def __init__(self, client: DataverseClient) -> None:
        self._client = client
        self._asked: list[tuple[str, Callable[[Row], None]]] = []

    def ask(self, path: str, receive: Callable[[Row], None]) -> None:
        self._asked.append((path, receive))

    def go(self) -> None:
        answers = self._client.read_many([path for path, _ in self._asked], operation="load families")
        for (_, receive), rows in zip(self._asked, answers, strict=True):
            for row in rows:
                receive(row)
        self._asked = []


class FamilyReader:
    """Reads families of one organisation. One use each."""

    def __init__(self, client: DataverseClient, reader: RowReader) -> None:
        self._client = client
        self._reader = reader
        tables = reader.metadata.tables
        self._subscription_table = tables["subscription"]
        self._log_table = tables["license_change_log"]
        self._scheduled_table = tables["scheduled_license_change_log"]
        self._account_table = tables["provider_account"]
        self._subscriptions: dict[SubscriptionId, Subscription] = {}
        self._logs: dict[LogId, LicenseChangeLog] = {}
        self._later: set[LogId] = set()
        self._versions: dict[SubscriptionId, str] = {}
        self._accounts: dict[str, ProviderAccount] = {}
        self._scheduled: dict[str, ScheduledLicenseChangeLog] = {}
        self._catalogue: list[CatalogueEntry] = []

    def load(self, parents: Sequence[SubscriptionId], singles: Sequence[SubscriptionId]) -> FamilyRows:
        """Everything for the given families; rows that are gone are simply not in the answer."""
        asked = list(dict.fromkeys([*parents, *singles]))
        first = _Round(self._client)
        self._ask_subscriptions(first, asked)
        for path in self._by_lookup("linked_parent", parents):
            first.ask(path, self._keep_subscription)
        first.go()
        children = self._children(parents)

        members = list(dict.fromkeys([*asked, *(child.id for group in children.values() for child in group)]))
        second = _Round(self._client)
        self._ask_open_logs(second, members)
        self._ask_create_logs(second, members)
        for chunk in _chunks(members):
            second.ask(self._scheduled_query(chunk), self._keep_scheduled)
        customers = {found.customer_id for parent in parents if (found := self._subscriptions.get(parent)) is not None}
        for group in _chunks(sorted(customer for customer in customers if customer is not None)):
            second.ask(self._account_query(group), self._keep_account)
        self._ask_catalogue(second, parents)
        frontier = self._above(parents)
        self._ask_subscriptions(second, frontier)
        second.go()

        third = _Round(self._client)
        since = self._oldest_open(children)
        self._ask_later_logs(third, since)
        self._ask_versions(third, members, parents)
        self._read_bundles(frontier, third)
        return FamilyRows(
            subscriptions=dict(self._subscriptions),
            children=children,
            logs=self._grouped_logs(since),
            accounts=tuple(sorted(self._accounts.values(), key=lambda account: account.id)),
            scheduled=self._grouped_scheduled(),
            moved=self._moved(members),
            catalogue=tuple(sorted(self._catalogue, key=lambda entry: (entry.product_id, entry.part_number or ""))),
        )

    def children_of(self, candidates: Sequence[SubscriptionId]) -> Mapping[SubscriptionId, tuple[SubscriptionId, ...]]:
        """Linked parent id → ids of what is linked to it, for those of the candidates that have any."""
        table = self._subscription_table
        link = table.columns["linked_parent"].property
        found: dict[SubscriptionId, set[SubscriptionId]] = defaultdict(set)
        wanted = set(candidates)

        def keep(row: Row) -> None:
            child, parent = str(row.get(table.primary_id) or "").lower(), str(row.get(link) or "").lower()
            if child and parent in wanted:
                found[SubscriptionId(parent)].add(SubscriptionId(child))

        ask = _Round(self._client)
        for path in self._by_lookup("linked_parent", candidates, select=["linked_parent"]):
            ask.ask(path, keep)
        ask.go()
        return {parent: tuple(sorted(found[parent])) for parent in candidates if parent in found}

    def _ask_versions(self, ask: _Round, members: Sequence[SubscriptionId], parents: Sequence[SubscriptionId]) -> None:
        """The members' versions once more, after their logs: a quantity and its log come in one transaction, so a row
        that has not moved since belongs to the logs that were read."""
        table = self._subscription_table
        for chunk in _chunks(members):
            ask.ask(self._ordered(table, ["linked_parent"], is_in(table.primary_id, chunk)), self._keep_version)
        for path in self._by_lookup("linked_parent", parents, select=["linked_parent"]):
            ask.ask(path, self._keep_version)

    def _keep_version(self, row: Row) -> None:
        key = guid(row.get(self._subscription_table.primary_id))
        if key is not None:
            self._versions[SubscriptionId(key)] = str(row.get("@odata.etag") or "")

    def _moved(self, members: Sequence[SubscriptionId]) -> frozenset[SubscriptionId]:
        """Members that were changed, added or taken away between the first round and the last."""
        before = {key: found.etag for key in members if (found := self._subscriptions.get(key)) is not None}
        return frozenset(
            key for key in before.keys() | self._versions.keys() if before.get(key) != self._versions.get(key)
        )

    def _read_bundles(self, frontier: Sequence[SubscriptionId], following: _Round) -> None:
        """Bundle parents level by level, with what they are linked to and their open logs."""
        level, visited = list(frontier), set(frontier)
        for height in range(1, _BUNDLE_LEVELS + 1):
            arrived = [found for key in level if (found := self._subscriptions.get(key)) is not None]
            self._ask_open_logs(following, [found.id for found in arrived])
            level = [key for key in self._above(level) if key not in visited] if height < _BUNDLE_LEVELS else []
            visited.update(level)
            wanted = [*level, *(found.linked_parent for found in arrived)]
            self._ask_subscriptions(following, self._unread(wanted))
            following.go()
            if not level:
                return

    def _above(self, ids: Iterable[SubscriptionId]) -> list[SubscriptionId]:
        """Bundle parents of those of the given subscriptions that were read."""
        found = [self._subscriptions[key].bundle_parent for key in ids if key in self._subscriptions]
        return list(dict.fromkeys(key for key in found if key is not None))

    def _unread(self, ids: Iterable[SubscriptionId | None]) -> list[SubscriptionId]:
        return list(dict.fromkeys(key for key in ids if key is not None and key not in self._subscriptions))

    def _children(self, parents: Sequence[SubscriptionId]) -> dict[SubscriptionId, tuple[Subscription, ...]]:
        linked: dict[SubscriptionId, list[Subscription]] = {parent: [] for parent in parents}
        for row in self._subscriptions.values():
            if row.linked_parent in linked:
                linked[row.linked_parent].append(row)
        return {parent: tuple(sorted(rows, key=lambda row: row.id)) for parent, rows in linked.items()}

    def _oldest_open(self, children: Mapping[SubscriptionId, Sequence[Subscription]]) -> dict[SubscriptionId, datetime]:
        """Parent → when the oldest open log of its children was made; parents without one are left out."""
        oldest: dict[SubscriptionId, datetime] = {}
        for log in self._logs.values():
            if log.is_open:
                known = oldest.get(log.subscription_id)
                oldest[log.subscription_id] = log.created_on if known is None else min(known, log.created_on)
        found = {parent: [oldest[row.id] for row in rows if row.id in oldest] for parent, rows in children.items()}
        return {parent: min(instants) for parent, instants in found.items() if instants}

    def _grouped_logs(
        self, since: Mapping[SubscriptionId, datetime]
    ) -> dict[SubscriptionId, tuple[LicenseChangeLog, ...]]:
        """Logs by subscription, oldest first; what a neighbour's wider query brought along is left out."""
        grouped: dict[SubscriptionId, list[LicenseChangeLog]] = defaultdict(list)
        for log in self._logs.values():
            bound = since.get(log.subscription_id)
            if log.id in self._later and (bound is None or log.created_on < bound.replace(microsecond=0)):
                continue
            grouped[log.subscription_id].append(log)
        return {key: tuple(sorted(logs, key=lambda log: (log.created_on, log.id))) for key, logs in grouped.items()}

    def _grouped_scheduled(self) -> dict[SubscriptionId, tuple[ScheduledLicenseChangeLog, ...]]:
        grouped: dict[SubscriptionId, list[ScheduledLicenseChangeLog]] = defaultdict(list)
        for change in sorted(self._scheduled.values(), key=lambda change: change.id):
            grouped[change.subscription_id].append(change)
        return {key: tuple(changes) for key, changes in grouped.items()}

    def _ask_subscriptions(self, ask: _Round, ids: Sequence[SubscriptionId]) -> None:
        table = self._subscription_table
        for chunk in _chunks(ids):
            where = is_in(table.primary_id, chunk)
            ask.ask(self._ordered(table, SUBSCRIPTION_WORDS, where), self._keep_subscription)

    def _by_lookup(
        self, word: str, ids: Sequence[SubscriptionId], select: Sequence[str] = SUBSCRIPTION_WORDS
    ) -> Iterable[str]:
        table = self._subscription_table
        for chunk in _chunks(ids):
            yield self._ordered(table, select, is_in(table.columns[word].logical_name, chunk))

    def _ask_open_logs(self, ask: _Round, ids: Sequence[SubscriptionId]) -> None:
        """Logs that are not settled: Awaiting, Failed, and those with a status that nobody knows."""
        status = self._log_table.columns["status"]
        assert status.choice is not None
        settled = {number for number, key in status.choice.keys.items() if key in ("provisioned", "not_applicable")}
        numbers = sorted(set(status.choice.labels) | {number_of(status, "awaiting"), number_of(status, "failed")})
        unsettled = " or ".join(f"{status.property} eq {number}" for number in numbers if number not in settled)
        self._ask_logs(ask, ids, f"({unsettled} or {status.property} eq null)")

    def _ask_create_logs(self, ask: _Round, ids: Sequence[SubscriptionId]) -> None:
        """Create logs anchor a reduction window: asked where a subscription has one."""
        kind = self._log_table.columns["kind"]
        window = ReductionBehavior.WITHIN_WINDOW
        windowed = [key for key in ids if key in self._subscriptions and self._subscriptions[key].reduction is window]
        self._ask_logs(ask, windowed, f"{kind.property} eq {number_of(kind, 'create')}")

    def _ask_later_logs(self, ask: _Round, since: Mapping[SubscriptionId, datetime]) -> None:
        """The parents' logs since the oldest open log of their children: they carry the markers.

        Parents are grouped by age, so that one log that is stuck for years does not widen the query for all.
        """
        created = self._log_table.columns["created_on"].property
        for chunk in _chunks(sorted(since, key=lambda parent: since[parent])):
            oldest = min(since[parent] for parent in chunk).astimezone(UTC)
            self._ask_logs(ask, chunk, f"{created} ge {oldest:%Y-%m-%dT%H:%M:%SZ}", self._keep_later_log)

    def _ask_logs(
        self,
        ask: _Round,
        ids: Sequence[str],
        condition: str,
        receive: Callable[[Row], None] | None = None,
    ) -> None:
        table = self._log_table
        for chunk in _chunks(ids):
            where = f"{is_in(table.columns['subscription'].logical_name, chunk)} and {condition}"
            ask.ask(self._ordered(table, LOG_WORDS, where), receive or self._keep_log)

    def _scheduled_query(self, ids: Sequence[str]) -> str:
        table = self._scheduled_table
        status = table.columns["status"]
        where = f"{is_in(table.columns['subscription'].logical_name, ids)} and "
        where += f"({status.property} eq {number_of(status, 'pending')}"
        where += f" or {status.property} eq {number_of(status, 'merge_failed')})"
        return self._ordered(table, SCHEDULED_WORDS, where)

    def _account_query(self, customers: Sequence[str]) -> str:
        table = self._account_table
        return self._ordered(table, ACCOUNT_WORDS, is_in(table.columns["account"].logical_name, customers))

    @staticmethod
    def _ordered(table: Table, words: Sequence[str], where: str) -> str:
        # Pages that are not ordered by something unique may repeat or lose rows.
        return query(table.entity_set, select=table.properties(words), where=where, order=[f"{table.primary_id} asc"])

    def _ask_catalogue(self, ask: _Round, parents: Sequence[SubscriptionId]) -> None:
        """Products and price list items of the parents' products, as far as this organisation has these columns."""
        products = sorted(
            {found.product_id for key in parents if (found := self._subscriptions.get(key)) and found.product_id}
        )
        tables = self._reader.metadata.tables
        if tables["product"].has("default_provider"):
            for chunk in _chunks(products):
                table = tables["product"]
                path = self._ordered(table, ["default_provider"], is_in(table.primary_id, chunk))
                ask.ask(path, lambda row: self._keep_entry(self._reader.product_default(row)))
        if tables["price_list_item"].has("provider"):
            for chunk in _chunks(products):
                table = tables["price_list_item"]
                path = self._ordered(table, PRICE_LIST_WORDS, is_in(table.columns["product"].logical_name, chunk))
                ask.ask(path, lambda row: self._keep_entry(self._reader.price_list_item(row)))

    def _keep_entry(self, entry: CatalogueEntry | None) -> None:
        if entry is not None:
            self._catalogue.append(entry)

    def _keep_subscription(self, row: Row) -> None:
        found = self._reader.subscription(row)
        if found is not None:
            self._subscriptions[found.id] = found

    def _keep_log(self, row: Row) -> None:
        found = self._reader.log(row)
        if found is not None:
            self._logs[found.id] = found

    def _keep_later_log(self, row: Row) -> None:
        found = self._reader.log(row)
        if found is not None and found.id not in self._logs:
            self._logs[found.id] = found
            self._later.add(found.id)

    def _keep_scheduled(self, row: Row) -> None:
        found = self._reader.scheduled(row)
        if found is not None:
            self._scheduled[found.id] = found

    def _keep_account(self, row: Row) -> None:
        found = self._reader.account(row)
        if found is not None:
            self._accounts[found.id] = found


def _chunks(ids: Sequence[_Id]) -> Iterable[list[_Id]]:
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield list(ids[start : start + IDS_PER_QUERY])
