"""Dataverse as the pass sees it: set-wise reads, and one atomic change set for each family. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import RLock
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connector.crm.again import ReadingAgain
from connector.crm.dataverse import COUNT, DataverseClient, Row, query, text_literal
from connector.crm.families import FamilyReader
from connector.crm.fields import guid
from connector.crm.lookup import find_matches
from connector.crm.metadata import OrgMetadata, Table, metadata_key, number_of, read_metadata
from connector.crm.rows import LOG_WORDS, SUBSCRIPTION_WORDS, RowReader, marker_word
from connector.crm.writes import DEFAULT_LENGTH, WRITE_FAMILY, requests_for
from connector.domain.marker import PREFIX
from connector.domain.model import LicenseChangeLog, Snapshot, Subscription, SubscriptionId
from connector.errors import ConfigError, Rejected
from connector.http.transport import Transport
from connector.mapping import OWN_MARKER, CrmMapping
from connector.sync.ports import Clock, CrmSettings, FamilyChange, FamilyRows, Match, OpenLogs

T = TypeVar("T")


class Memory(Protocol):
    """Where small values are kept between runs (the journal offers it)."""

    def remember(self, key: str, value: str) -> None:
        """Keep a value."""

    def recall(self, key: str) -> str | None:
        """A kept value, or None."""


class DataverseCrm:
    """``connector.sync.ports.Crm`` on Dataverse.

    ``time_zone`` (IANA) wins over the CRM's own setting when dates are read. ``memory`` keeps the metadata between
    runs for ``metadata_max_age``; metadata from there is read afresh when a query no longer
    fits it. ``count_linked`` lets the settings tell how many subscriptions are linked. Thread-safe.
    """

    def __init__(
        self,
        transport: Transport,
        mapping: CrmMapping,
        *,
        clock: Clock,
        time_zone: str | None = None,
        memory: Memory | None = None,
        count_linked: bool = False,
        metadata_max_age: timedelta = timedelta(hours=1),
        page_size: int = 5000,
    ) -> None:
        self.client = DataverseClient(transport, page_size=page_size)
        self._mapping = mapping
        self._clock = clock
        self._time_zone = time_zone
        self._memory = memory
        self._count_linked = count_linked
        self._max_age = metadata_max_age
        self._lock = RLock()
        self._metadata: OrgMetadata | None = None
        self._from_memory = False
        self._settings: CrmSettings | None = None
        self._reader: RowReader | None = None

    def metadata(self) -> OrgMetadata:
        """The organisation's metadata for the mapping, checked. Raises MappingError with everything that is missing."""
        with self._lock:
            now = self._clock.now()
            if self._metadata is None or self._metadata.is_older_than(self._max_age, now):
                key = metadata_key(self._mapping, self.client.address)
                kept = self._memory.recall(f"metadata:{key}") if self._memory is not None else None
                found = OrgMetadata.from_json(kept, key) if kept is not None else None
                if found is not None and not found.is_older_than(self._max_age, now):
                    self._metadata, self._from_memory = found, True
                else:
                    self._refresh()
            assert self._metadata is not None
            return self._metadata

    def settings(self) -> CrmSettings:
        """Settings, providers and currencies, read afresh in one request (after the metadata, if that is due)."""
        with self._lock:
            self._fitting(self._read_reference)
            assert self._settings is not None
            return self._settings

    def find_open_logs(self) -> OpenLogs:
        """One query: every Awaiting log with its subscription. A log whose subscription cannot be read stands alone."""
        return self._fitting(self._find_open_logs)

    def load_families(self, parents: Iterable[SubscriptionId], singles: Iterable[SubscriptionId] = ()) -> FamilyRows:
        """Read families whole; a few ``$batch`` requests, however many families."""
        wanted, alone = _ids(parents), _ids(singles)
        return self._fitting(lambda: FamilyReader(self.client, self._row_reader()).load(wanted, alone))

    def load_children_of(
        self, candidates: Iterable[SubscriptionId]
    ) -> Mapping[SubscriptionId, tuple[SubscriptionId, ...]]:
        """Which of the candidates are linked parents, and whose."""
        ids = _ids(candidates)
        return self._fitting(lambda: FamilyReader(self.client, self._row_reader()).children_of(ids))

    def find_subscriptions(self, text: str, most: int) -> Sequence[Match]:
        """The subscriptions that a primary key or a part of a name may mean; one request."""
        return self._fitting(lambda: find_matches(self.client, self._row_reader(), text, most))

    def read_again(self, known: Snapshot) -> FamilyRows:
        """One family as :meth:`load_families` reads it: one ``$batch``, or a few when other rows belong to it now."""
        return self._fitting(lambda: self._read_again(known))

    def commit(self, change: FamilyChange, then_read: Snapshot | None = None) -> FamilyRows | None:
        """One change set, the parent's row first; then, in the same ``$batch``, the family as it is after that."""
        metadata = self.metadata()
        requests = requests_for(change, metadata)
        again = None if then_read is None else ReadingAgain(self._row_reader(), then_read, change.marker)
        if again is None:
            self.client.change_set(requests, operation=WRITE_FAMILY)
            return None
        answers = self.client.change_set(requests, operation=WRITE_FAMILY, then_read=again.paths, closing=again.closing)
        return again.take(answers) if answers is not None else None

    def _read_again(self, known: Snapshot) -> FamilyRows:
        reader = self._row_reader()
        again = ReadingAgain(reader, known)
        answers = self.client.read_many(again.paths, operation="read family again", closing=again.closing)
        found = again.take(answers)
        if found is not None:
            return found
        return replace(FamilyReader(self.client, reader).load(again.parents, again.singles), in_rounds=True)

    def _find_open_logs(self) -> OpenLogs:
        reader = self._row_reader()
        logs_table, subscriptions_table = (
            reader.metadata.tables["license_change_log"],
            reader.metadata.tables["subscription"],
        )
        link, status = logs_table.columns["subscription"], logs_table.columns["status"]
        nested = ",".join(subscriptions_table.properties(SUBSCRIPTION_WORDS))
        path = query(
            logs_table.entity_set,
            select=logs_table.properties(LOG_WORDS),
            where=f"{status.property} eq {number_of(status, 'awaiting')}",
            order=[f"{logs_table.columns['created_on'].property} asc", f"{logs_table.primary_id} asc"],
            expand=f"{link.navigation}($select={nested})",
        )
        logs: dict[str, LicenseChangeLog] = {}
        subscriptions: dict[SubscriptionId, Subscription] = {}
        for page in self.client.iter_pages(path, operation="find open logs", kind=f"GET {logs_table.entity_set}"):
            for row in page:
                log = reader.log(row)
                if log is None:
                    continue
                logs[log.id] = log
                inner = row.get(link.navigation or "")
                found = reader.subscription(inner) if isinstance(inner, dict) else None
                if found is not None:
                    subscriptions[found.id] = found
        return OpenLogs(tuple(logs.values()), subscriptions)

    def _row_reader(self) -> RowReader:
        with self._lock:
            metadata = self.metadata()
            if self._reader is None or self._reader.metadata is not metadata:
                self._read_reference()
            assert self._reader is not None
            return self._reader

    def _read_reference(self) -> None:
        """Configuration rows, providers and currencies: small tables that every row refers to, in one request."""
        metadata = self.metadata()
        configuration, providers, currencies = (
            metadata.tables[word] for word in ("configuration", "provider", "currency")
        )
        names = self._mapping.settings
        name = configuration.columns["name"].property
        conditions = [f"{name} eq {text_literal(wanted)}" for wanted in (names.time_zone, names.kill_switch)]
        subscriptions = metadata.tables["subscription"]
        linked = subscriptions.columns["linked_parent"].property
        counted = [query(subscriptions.entity_set + COUNT, select=[], where=f"{linked} ne null")]
        marker_column = subscriptions.columns[marker_word(subscriptions)].property
        rows, provider_rows, currency_rows, marked, *count = self.client.read_many(
            [
                query(
                    configuration.entity_set,
                    select=configuration.properties(["name", "value"]),
                    where=" or ".join(conditions),
                ),
                query(providers.entity_set, select=providers.properties(["name", "type"])),
                query(currencies.entity_set, select=currencies.properties(["code"])),
                query(
                    subscriptions.entity_set,
                    select=[subscriptions.primary_id, marker_column],
                    where=f"startswith({marker_column},{text_literal(PREFIX)})",
                    order=[f"{subscriptions.primary_id} asc"],
                ),
                *(counted if self._count_linked else ()),
            ],
            operation="read settings",
        )
        zone = _setting(configuration, rows, names.time_zone)
        logs = metadata.tables["license_change_log"]
        own = subscriptions.columns.get(OWN_MARKER)
        shared = [table.columns["order_reference"] for table in (logs, subscriptions)]
        self._settings = CrmSettings(
            time_zone=zone,
            kill_switch=_setting(configuration, rows, names.kill_switch),
            marker_length=min(column.max_length or DEFAULT_LENGTH for column in ([own] if own else shared)),
            marker_is_shared=own is None,
            # Dataverse compares without regard to case.
            marked_parents=tuple(
                SubscriptionId(key)
                for row in marked
                if str(row.get(marker_column) or "").startswith(PREFIX)
                and (key := guid(row.get(subscriptions.primary_id))) is not None
            ),
            message_length=logs.columns["message"].max_length or DEFAULT_LENGTH,
            linked_subscriptions=int(count[0][0]["@odata.count"]) if count else None,
        )
        self._reader = RowReader(
            metadata,
            _zone(self._time_zone or zone),
            {
                key: _provider_key(providers, row)
                for row in provider_rows
                if (key := guid(row.get(providers.primary_id)))
            },
            {
                key: str(row.get(currencies.columns["code"].property) or "")
                for row in currency_rows
                if (key := guid(row.get(currencies.primary_id)))
            },
        )

    def _refresh(self) -> None:
        self._metadata = read_metadata(self.client, self._mapping, self._clock.now())
        self._from_memory = False
        if self._memory is not None:
            self._memory.remember(f"metadata:{self._metadata.key}", self._metadata.to_json())

    def _fitting(self, read: Callable[[], T]) -> T:
        """Run a read; if kept metadata no longer fits the organisation, read it afresh and run the read once more."""
        try:
            return read()
        except Rejected as rejected:
            with self._lock:
                if not self._from_memory or rejected.status not in (400, 404):
                    raise
                self._refresh()
        return read()


def _ids(values: Iterable[SubscriptionId]) -> list[SubscriptionId]:
    """GUIDs in lower case, each once, in the order given; what is no GUID cannot name a row."""
    return list(dict.fromkeys(SubscriptionId(found) for value in values if (found := guid(value)) is not None))


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"the CRM's default time zone {name!r} is no IANA time zone",
            hint="Set policy.time_zone in the configuration, such as America/New_York.",
        ) from error


def _setting(table: Table, rows: Sequence[Row], name: str) -> str | None:
    """The value of a configuration row; rows of the same name that differ raise ConfigError."""
    name_property, value_property = table.columns["name"].property, table.columns["value"].property
    values = {
        str(row.get(value_property) or "").strip()
        for row in rows
        if str(row.get(name_property) or "").strip().casefold() == name.casefold()
    } - {""}
    if len(values) > 1:
        raise ConfigError(
            f"the CRM holds several configuration rows {name!r} with different values",
            hint="Keep one of them in the CRM's configuration table.",
        )
    return next(iter(values), None)


def _provider_key(table: Table, row: Row) -> str | None:
    column = table.columns["type"]
    value = row.get(column.property)
    return column.choice.keys.get(value) if column.choice is not None and isinstance(value, int) else None
