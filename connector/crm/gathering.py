"""The rows of families: which queries ask for them, and what came back, kept by what it belongs to.

How many requests carry the queries is for the readers to say: :mod:`connector.crm.families` asks in rounds,
:mod:`connector.crm.again` asks everything at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from connector.crm.dataverse import Row, is_in, query
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
from connector.domain import marker
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
_Id = TypeVar("_Id", bound=str)


class Asked:
    """Queries that go out together; each hands its rows to its own receiver."""

    def __init__(self) -> None:
        self._asked: list[tuple[str, Callable[[Row], None]]] = []
        self.closing: list[int] = []
        """Places of queries that must be answered after all others."""

    @property
    def paths(self) -> list[str]:
        """The queries, in their order."""
        return [path for path, _ in self._asked]

    def ask(self, path: str, receive: Callable[[Row], None], *, closes: bool = False) -> None:
        """Add a query."""
        if closes:
            self.closing.append(len(self._asked))
        self._asked.append((path, receive))

    def answered(self, answers: Sequence[Sequence[Row]]) -> None:
        """Hand out the rows of all queries, in their order."""
        for (_, receive), rows in zip(self._asked, answers, strict=True):
            for row in rows:
                receive(row)
        self._asked, self.closing = [], []


def since_when(
    children: Mapping[SubscriptionId, Sequence[SubscriptionId]],
    markers: Mapping[SubscriptionId, str | None],
    logs: Iterable[LicenseChangeLog],
) -> dict[SubscriptionId, datetime]:
    """Subscription → since when its logs are needed, open or not; what is left out needs its open ones only.

    A parent: since the oldest open log of its children, and since the oldest change that its marker names. The children
    of a parent with a marker: as far back, for the marker names changes of theirs that may be closed by now. Any other
    child with an open log: since that one, for a marker that is written now names runs of neighbours, and what lies
    between two open logs must be known.
    """
    oldest: dict[SubscriptionId, datetime] = {}
    for log in logs:
        if log.is_open:
            oldest[log.subscription_id] = min(log.created_on, oldest.get(log.subscription_id, log.created_on))
    bounds: dict[SubscriptionId, datetime] = {}
    for parent, members in children.items():
        marked = marker.oldest(markers.get(parent))
        instants = [oldest[member] for member in members if member in oldest]
        if marked is not None:
            instants.append(marked)
        for member in (parent, *(members if marked is not None else ())) if instants else ():
            bounds[member] = min(*instants, bounds.get(member, instants[0]))
        for member in members:
            if member in oldest:
                bounds.setdefault(member, oldest[member])
    return bounds


class Gathering:
    """What was read so far of some families of one organisation, and the queries for more of it."""

    def __init__(self, reader: RowReader) -> None:
        self.reader = reader
        tables = reader.metadata.tables
        self.subscription_table = tables["subscription"]
        self._log_table = tables["license_change_log"]
        self.subscriptions: dict[SubscriptionId, Subscription] = {}
        self.logs: dict[LogId, LicenseChangeLog] = {}
        self._later: set[LogId] = set()
        self._versions: dict[SubscriptionId, str] = {}
        self._accounts: dict[str, ProviderAccount] = {}
        self._scheduled: dict[str, ScheduledLicenseChangeLog] = {}
        self._catalogue: list[CatalogueEntry] = []

    # -- queries --------------------------------------------------------------------------------------------------

    def ask_subscriptions(self, ask: Asked, ids: Sequence[SubscriptionId]) -> None:
        """Subscriptions by their ids."""
        table = self.subscription_table
        for chunk in chunks(ids):
            ask.ask(self.ordered(table, SUBSCRIPTION_WORDS, is_in(table.primary_id, chunk)), self._keep_subscription)

    def ask_children(self, ask: Asked, parents: Sequence[SubscriptionId]) -> None:
        """Every subscription that names one of the parents as its linked parent."""
        for path in self.by_linked_parent(parents, SUBSCRIPTION_WORDS):
            ask.ask(path, self._keep_subscription)

    def by_linked_parent(self, parents: Sequence[SubscriptionId], words: Sequence[str]) -> Iterable[str]:
        """The queries for what is linked to the parents."""
        table = self.subscription_table
        for chunk in chunks(parents):
            yield self.ordered(table, words, is_in(table.columns["linked_parent"].logical_name, chunk))

    def ask_open_logs(self, ask: Asked, ids: Sequence[SubscriptionId]) -> None:
        """Logs that are not settled: Awaiting, Failed, and those with a status that nobody knows."""
        status = self._log_table.columns["status"]
        assert status.choice is not None
        settled = {number for number, key in status.choice.keys.items() if key in ("provisioned", "not_applicable")}
        numbers = sorted(set(status.choice.labels) | {number_of(status, "awaiting"), number_of(status, "failed")})
        unsettled = " or ".join(f"{status.property} eq {number}" for number in numbers if number not in settled)
        self._ask_logs(ask, ids, f"({unsettled} or {status.property} eq null)", self._keep_log)

    def ask_create_logs(self, ask: Asked, windowed: Sequence[SubscriptionId]) -> None:
        """Create logs anchor a reduction window: asked for subscriptions that have one."""
        kind = self._log_table.columns["kind"]
        self._ask_logs(ask, windowed, f"{kind.property} eq {number_of(kind, 'create')}", self._keep_log)

    def ask_later_logs(self, ask: Asked, since: Mapping[SubscriptionId, datetime]) -> None:
        """Logs since an instant, closed ones too.

        Subscriptions are grouped by age, so that one log that is stuck for years does not widen the query for all.
        """
        created = self._log_table.columns["created_on"].property
        for chunk in chunks(sorted(since, key=lambda key: since[key])):
            oldest = min(since[key] for key in chunk).astimezone(UTC)
            self._ask_logs(ask, chunk, f"{created} ge {oldest:%Y-%m-%dT%H:%M:%SZ}", self._keep_later_log)

    def ask_scheduled(self, ask: Asked, ids: Sequence[SubscriptionId]) -> None:
        """Scheduled changes that are still to come, or that failed to."""
        table = self.reader.metadata.tables["scheduled_license_change_log"]
        status = table.columns["status"]
        pending, failed = number_of(status, "pending"), number_of(status, "merge_failed")
        for chunk in chunks(ids):
            where = f"{is_in(table.columns['subscription'].logical_name, chunk)} and "
            where += f"({status.property} eq {pending} or {status.property} eq {failed})"
            ask.ask(self.ordered(table, SCHEDULED_WORDS, where), self._keep_scheduled)

    def ask_accounts(self, ask: Asked, customers: Iterable[str | None]) -> None:
        """The provider accounts of customers."""
        table = self.reader.metadata.tables["provider_account"]
        for chunk in chunks(sorted({customer for customer in customers if customer is not None})):
            where = is_in(table.columns["account"].logical_name, chunk)
            ask.ask(self.ordered(table, ACCOUNT_WORDS, where), self._keep_account)

    def ask_catalogue(self, ask: Asked, products: Iterable[str | None]) -> None:
        """Products and their price list items, as far as this organisation has the columns."""
        wanted = sorted({product for product in products if product})
        tables = self.reader.metadata.tables
        table, items = tables["product"], tables["price_list_item"]
        if table.has("default_provider"):
            for chunk in chunks(wanted):
                path = self.ordered(table, ["default_provider"], is_in(table.primary_id, chunk))
                ask.ask(path, lambda row: self._keep_entry(self.reader.product_default(row)))
        if items.has("provider"):
            for chunk in chunks(wanted):
                path = self.ordered(items, PRICE_LIST_WORDS, is_in(items.columns["product"].logical_name, chunk))
                ask.ask(path, lambda row: self._keep_entry(self.reader.price_list_item(row)))

    def ask_versions(self, ask: Asked, members: Sequence[SubscriptionId], parents: Sequence[SubscriptionId]) -> None:
        """The members' versions once more, after their logs: a quantity and its log come in one transaction, so a row
        that has not moved since belongs to the logs that were read."""
        table = self.subscription_table
        for chunk in chunks(members):
            ask.ask(
                self.ordered(table, ["linked_parent"], is_in(table.primary_id, chunk)), self._keep_version, closes=True
            )
        for path in self.by_linked_parent(parents, ["linked_parent"]):
            ask.ask(path, self._keep_version, closes=True)

    def _ask_logs(self, ask: Asked, ids: Sequence[str], condition: str, receive: Callable[[Row], None]) -> None:
        table = self._log_table
        for chunk in chunks(ids):
            where = f"{is_in(table.columns['subscription'].logical_name, chunk)} and {condition}"
            ask.ask(self.ordered(table, LOG_WORDS, where), receive)

    @staticmethod
    def ordered(table: Table, words: Sequence[str], where: str) -> str:
        """A query whose pages neither repeat nor lose rows: it is ordered by something unique."""
        return query(table.entity_set, select=table.properties(words), where=where, order=[f"{table.primary_id} asc"])

    # -- what came back -------------------------------------------------------------------------------------------

    def children_of(self, parents: Sequence[SubscriptionId]) -> dict[SubscriptionId, tuple[Subscription, ...]]:
        """Each parent with what is linked to it, in the order of their ids."""
        linked: dict[SubscriptionId, list[Subscription]] = {parent: [] for parent in parents}
        for row in self.subscriptions.values():
            if row.linked_parent in linked:
                linked[row.linked_parent].append(row)
        return {parent: tuple(sorted(rows, key=lambda row: row.id)) for parent, rows in linked.items()}

    def windowed(self, ids: Iterable[SubscriptionId]) -> list[SubscriptionId]:
        """Those of the subscriptions that have a reduction window."""
        window = ReductionBehavior.WITHIN_WINDOW
        return [key for key in ids if key in self.subscriptions and self.subscriptions[key].reduction is window]

    def bounds(self, children: Mapping[SubscriptionId, Sequence[Subscription]]) -> dict[SubscriptionId, datetime]:
        """Since when whose logs are needed, by what was read (see :func:`since_when`)."""
        markers = {
            parent: row.marker_text for parent in children if (row := self.subscriptions.get(parent)) is not None
        }
        ids = {parent: [row.id for row in rows] for parent, rows in children.items()}
        return since_when(ids, markers, self.logs.values())

    def rows(
        self,
        members: Sequence[SubscriptionId],
        children: Mapping[SubscriptionId, tuple[Subscription, ...]],
        since: Mapping[SubscriptionId, datetime],
    ) -> FamilyRows:
        """Everything that was read, for what asked."""
        return FamilyRows(
            subscriptions=dict(self.subscriptions),
            children=children,
            logs=self._grouped_logs(since),
            accounts=tuple(sorted(self._accounts.values(), key=lambda account: account.id)),
            scheduled=self._grouped_scheduled(),
            moved=self._moved(members),
            catalogue=tuple(sorted(self._catalogue, key=lambda entry: (entry.product_id, entry.part_number or ""))),
        )

    def _moved(self, members: Sequence[SubscriptionId]) -> frozenset[SubscriptionId]:
        """Members that were changed, added or taken away between the first query and the last."""
        before = {key: found.etag for key in members if (found := self.subscriptions.get(key)) is not None}
        return frozenset(
            key for key in before.keys() | self._versions.keys() if before.get(key) != self._versions.get(key)
        )

    def _grouped_logs(
        self, since: Mapping[SubscriptionId, datetime]
    ) -> dict[SubscriptionId, tuple[LicenseChangeLog, ...]]:
        """Logs by subscription, oldest first; what a neighbour's wider query brought along is left out."""
        grouped: dict[SubscriptionId, list[LicenseChangeLog]] = defaultdict(list)
        for log in self.logs.values():
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

    # -- receivers ------------------------------------------------------------------------------------------------

    def _keep_subscription(self, row: Row) -> None:
        found = self.reader.subscription(row)
        if found is not None:
            self.subscriptions[found.id] = found

    def _keep_log(self, row: Row) -> None:
        found = self.reader.log(row)
        if found is not None:
            self.logs[found.id] = found
            self._later.discard(found.id)

    def _keep_later_log(self, row: Row) -> None:
        found = self.reader.log(row)
        if found is not None and found.id not in self.logs:
            self.logs[found.id] = found
            self._later.add(found.id)

    def _keep_version(self, row: Row) -> None:
        key = guid(row.get(self.subscription_table.primary_id))
        if key is not None:
            self._versions[SubscriptionId(key)] = str(row.get("@odata.etag") or "")

    def _keep_scheduled(self, row: Row) -> None:
        found = self.reader.scheduled(row)
        if found is not None:
            self._scheduled[found.id] = found

    def _keep_account(self, row: Row) -> None:
        found = self.reader.account(row)
        if found is not None:
            self._accounts[found.id] = found

    def _keep_entry(self, entry: CatalogueEntry | None) -> None:
        if entry is not None:
            self._catalogue.append(entry)


def chunks(ids: Sequence[_Id]) -> Iterable[list[_Id]]:
    """The ids in portions that one query takes."""
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield list(ids[start : start + IDS_PER_QUERY])
