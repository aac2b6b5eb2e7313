"""What Work 365 does by itself when rows change: licence change logs, Do Nothing, scheduled changes.

Source: Work 365 documentation, "License Change Logs", "Subscription Management", "Scheduled License Change Logs",
"Linked Subscriptions". Everything here runs inside the transaction of the write that caused it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from connector.sandbox.habits import (
    AS_ON_ROW,
    PUSHED_AFTER,
    USUAL,
    ChangeDetails,
    Habits,
    Job,
    Kind,
    LateLog,
    LatePush,
    NewLog,
    Status,
)
from connector.sandbox.store import PluginContext, PluginError, Store, StoreError

SUBSCRIPTION = "work365_subscription"
LOG = "work365_licensechangelog"
SCHEDULED = "work365_scheduledlicensechangelog"
PROVIDER = "work365_provider"
CONFIGURATION = "work365_configuration"
MARKER = "work365_subscription_linksubmarker"
"""A text column for what a connector has to remember on a row; only organisations that added it have it."""
TIME_ZONE_SETTING = "Work365.DefaultTimeZone"
INCREASE_TIME = time(0, 5)
DECREASE_TIME = time(23, 30)
NAMESPACE = uuid.UUID("0b6c3f86-5a0a-4e0e-9d4e-0d5f2f0b4a57")

Event = Literal["Update", "Activate", "Deactivate"]

_SUB = "work365_subscription_"
_LCL = "work365_licensechangelog_"
_SLCL = "work365_slcl_"
_STATUS = f"{_LCL}provisioningstatus"
QUANTITY = f"{_SUB}quantity"
_PRICES = (f"{_SUB}sellingpriceperunit", f"{_SUB}costpriceperunit")
_LAST_CHANGE = ("orderreference", "orderdate", "orderthru", "orderedby", "sellingpriceperunit", "costpriceperunit")


class Work365:
    """The behaviours of Work 365 on a store. Also an observer of the clock: its jobs carry out scheduled changes."""

    def __init__(self, store: Store, now: Callable[[], datetime], habits: Habits = USUAL) -> None:
        self.habits = habits
        self.jobs: list[Job] = []
        """What the CRM will do by itself later, in the order in which it was put off. Changed in transactions only."""
        self._store = store
        self._now = now
        self._thread = threading.local()
        self._last_created: datetime | None = None
        self._logs_made = 0

    def install(self) -> None:
        """Register the plug-ins. From now on writes that are not silent have their consequences."""
        self._store.register(SUBSCRIPTION, "Create", self._subscription_created)
        self._store.register(SUBSCRIPTION, "Update", self._subscription_updated)
        self._store.register(LOG, "Create", self._log_written)
        self._store.register(LOG, "Update", self._log_written)
        self._store.register(SCHEDULED, "Create", self._scheduled_created)

    # -- time in the tenant's zone ----------------------------------------------------------------------------------

    def zone(self) -> ZoneInfo:
        """The time zone of the Admin Hub; UTC when none is set or none of that name exists."""
        for row in self._store.find(CONFIGURATION, "work365_name", TIME_ZONE_SETTING):
            try:
                return ZoneInfo(row["work365_configuration_value"] or "UTC")
            except (KeyError, ValueError, OSError):
                break
        return ZoneInfo("UTC")

    def today(self) -> date:
        """The calendar day in the tenant's zone."""
        return self._now().astimezone(self.zone()).date()

    def instant_on(self, day: date, *, positive: bool) -> datetime:
        """When a dated change takes place: 00:05 for more seats, 23:30 for fewer, on the tenant's clock; in UTC."""
        wall = datetime.combine(day, INCREASE_TIME if positive else DECREASE_TIME, self.zone())
        return wall.astimezone(UTC)

    # -- what a person does in the forms ----------------------------------------------------------------------------

    @contextmanager
    def details(self, details: ChangeDetails) -> Iterator[None]:
        """While inside, the logs that plug-ins make in this thread carry these details."""
        before = getattr(self._thread, "details", None)
        self._thread.details = details
        try:
            yield
        finally:
            self._thread.details = before

    @contextmanager
    def by_api(self) -> Iterator[None]:
        """While inside, what this thread writes comes from a client of the API."""
        self._thread.api = True
        try:
            yield
        finally:
            self._thread.api = False

    @contextmanager
    def _by_engine(self) -> Iterator[None]:
        """While inside, what this thread writes is the CRM's own doing, whoever caused it."""
        before = getattr(self._thread, "engine", False)
        self._thread.engine = True
        try:
            with self.details(ChangeDetails()):
                yield
        finally:
            self._thread.engine = before

    def schedule(self, subscription_id: str, event: Event, day: date, quantity: int | None) -> str:
        """Make a scheduled licence change log (Pending); ``quantity`` is the new total. Returns its id."""
        sub = self._row(subscription_id)
        positive = event == "Activate" or (event == "Update" and (quantity or 0) >= (sub[QUANTITY] or 0))
        number = self._store.count(SCHEDULED)
        return self._store.create(
            SCHEDULED,
            {
                "work365_name": sub[f"{_SUB}subscriptionname"],
                f"{_SLCL}subscription": subscription_id,
                f"{_SLCL}customer": sub[f"{_SUB}customer"],
                f"{_SLCL}subscriptionevent": self._option(SCHEDULED, f"{_SLCL}subscriptionevent", event),
                f"{_SLCL}effectivedate": day,
                f"{_SLCL}provisionon": self.instant_on(day, positive=positive),
                f"{_SLCL}quantity": quantity,
            },
            id=str(uuid.uuid5(NAMESPACE, f"{SCHEDULED}/{subscription_id}/{number}")),
        )

    # -- jobs -------------------------------------------------------------------------------------------------------

    def next_due(self) -> datetime | None:
        """When the next scheduled change is to be made, or the next job is to run."""
        scheduled = min((row[f"{_SLCL}provisionon"] for row in self._pending()), default=None)
        if not self.jobs:
            return scheduled
        job = min(job.due for job in tuple(self.jobs))
        return job if scheduled is None else min(job, scheduled)

    def run_due(self, now: datetime) -> None:
        """Make the scheduled changes that are due, oldest first; one that cannot be made becomes Merge Failed.

        Then the jobs that are due run. One that cannot be done is given up.
        """
        due = sorted(
            (row for row in self._pending() if row[f"{_SLCL}provisionon"] <= now),
            key=lambda row: (row[f"{_SLCL}provisionon"], row["createdon"], row[f"{SCHEDULED}id"]),
        )
        for row in due:
            try:
                with self._store.transaction():
                    self._merge(row)
                    outcome = "Archived"
            except (PluginError, StoreError, ValueError, TypeError):
                outcome = "Merge Failed"
            status = self._option(SCHEDULED, "statuscode", outcome)
            self._store.update(SCHEDULED, row[f"{SCHEDULED}id"], {"statuscode": status})

        if self.jobs:
            self._run_jobs(now)

    def _run_jobs(self, now: datetime) -> None:
        with self._store.transaction():
            due = sorted((job for job in self.jobs if job.due <= now), key=lambda job: job.due)
            self.jobs = [job for job in self.jobs if job.due > now]
            for job in due:
                with suppress(PluginError, StoreError, ValueError, TypeError), self._store.transaction():
                    self._run_job(job)

    def _run_job(self, job: Job) -> None:
        if isinstance(job, LateLog):
            self._row(job.log.subscription_id)
            self._write_log(job.log)
            return
        log = self._store.get(LOG, job.log_id)
        if log is not None and log[_STATUS] == self._option(LOG, _STATUS, "Awaiting Provisioning"):
            self._push(job.parent_id, log[f"{_LCL}quantity"])

    def _put_off(self, job: Job) -> None:
        """Keep a job for later; if what caused it is undone, there is no job."""
        self.jobs = [*self.jobs, job]

        def undo() -> None:
            self.jobs = [kept for kept in self.jobs if kept is not job]

        self._store.undone_by(undo)

    def _pending(self) -> list[Mapping[str, Any]]:
        pending = self._option(SCHEDULED, "statuscode", "Pending")
        return [
            row for row in self._store.find(SCHEDULED, "statuscode", pending) if row[f"{_SLCL}provisionon"] is not None
        ]

    def _merge(self, row: Mapping[str, Any]) -> None:
        subscription_id = row[f"{_SLCL}subscription"]
        event = self._store.schema.label(SCHEDULED, f"{_SLCL}subscriptionevent", row[f"{_SLCL}subscriptionevent"])
        values: dict[str, Any] = {}
        if event == "Update":
            if row[f"{_SLCL}quantity"] is None:
                raise ValueError("a scheduled update without a quantity")
            values[QUANTITY] = row[f"{_SLCL}quantity"]
        else:
            values["statecode"] = 0 if event == "Activate" else 1
        details = ChangeDetails(effective=row[f"{_SLCL}effectivedate"], provision_on=row[f"{_SLCL}provisionon"])
        with self.details(details):
            self._store.update(SUBSCRIPTION, subscription_id, values)

    # -- plug-ins ---------------------------------------------------------------------------------------------------

    def _subscription_created(self, context: PluginContext) -> None:
        seats = _seats(context.after)
        if seats:
            self._make_log(context.after, context.id, "Create", seats)

    def _subscription_updated(self, context: PluginContext) -> None:
        before, after = context.before or {}, context.after
        delta = (_seats(after) or 0) - (_seats(before) or 0)
        if "statecode" in context.changed and delta:
            self._make_log(after, context.id, "Deactivate" if after["statecode"] else "Activate", delta)
        elif QUANTITY in context.changed and delta and after[QUANTITY] is not None:
            self._make_log(after, context.id, "Update", delta)
        elif not delta and any(column in context.changed for column in _PRICES):
            self._make_log(after, context.id, "Audit", 0)

    def _log_written(self, context: PluginContext) -> None:
        """Nothing can be provisioned through Do Nothing, so what waits for it is over at once. A log that a client makes comes
        after those that are there, as all do."""
        if context.before is None:
            self._keep_order(context)
        column = _STATUS
        awaiting = self._option(LOG, column, "Awaiting Provisioning")
        if column not in context.changed or context.after[column] != awaiting:
            return
        sub = self._store.get(SUBSCRIPTION, context.after[f"{_LCL}subscription"] or "")
        if sub is not None and self.provider_type(sub) == "Do Nothing":
            self._store.update(LOG, context.id, {column: self._option(LOG, column, "Not Applicable")})

    def _keep_order(self, context: PluginContext) -> None:
        made = context.after["createdon"].replace(microsecond=0)
        if self._last_created is not None and made < self._last_created:
            self._store.update(LOG, context.id, {"createdon": self._creation_instant()})

    def _scheduled_created(self, context: PluginContext) -> None:
        row = context.after
        day, subscription_id = row[f"{_SLCL}effectivedate"], row[f"{_SLCL}subscription"]
        if row[f"{_SLCL}provisionon"] is not None or day is None or subscription_id is None:
            return
        sub = self._row(subscription_id)
        event = self._option(SCHEDULED, f"{_SLCL}subscriptionevent", "Deactivate")
        fewer = row[f"{_SLCL}subscriptionevent"] == event or (row[f"{_SLCL}quantity"] or 0) < (sub[QUANTITY] or 0)
        self._store.update(SCHEDULED, context.id, {f"{_SLCL}provisionon": self.instant_on(day, positive=not fewer)})

    def _make_log(self, sub: Mapping[str, Any], subscription_id: str, kind: Kind, quantity: int) -> None:
        details: ChangeDetails = getattr(self._thread, "details", None) or ChangeDetails()
        status: Status = "Not Applicable" if kind == "Audit" else "Awaiting Provisioning"
        log = NewLog(sub, subscription_id, kind, quantity, status, details)
        if self.habits is USUAL or not quantity:
            self._write_log(log)
        elif self._is_linked(sub):
            log_id = self._write_log(log)
            self._push_or_put_off(log, log_id)
        elif self._store.find(SUBSCRIPTION, f"{_SUB}linkedsubscription", subscription_id):
            self._make_parent_log(log)
        else:
            self._write_log(log)

    def _make_parent_log(self, log: NewLog) -> None:
        """The log of a parent, as this organisation makes it. What people and the engine do has one at once."""
        log = replace(log, reference=self.habits.reference(log.sub[f"{_SUB}orderreference"]))
        by_client = getattr(self._thread, "api", False) and not getattr(self._thread, "engine", False)
        if not by_client or log.kind != "Update" or self.habits.parent_log == "makes":
            self._write_log(log)
        elif self.habits.parent_log == "not_applicable":
            self._write_log(replace(log, status="Not Applicable"))
        elif self.habits.parent_log == "late":
            self._put_off(LateLog(self._now() + self.habits.late_by, log))

    def _push_or_put_off(self, log: NewLog, log_id: str) -> None:
        """The CRM's own engine: a child's change that is due raises the parent. It does not go further up."""
        parent_id = log.sub[f"{_SUB}linkedsubscription"]
        later = log.details.provision_on is not None and log.details.provision_on > self._now()
        if self.habits.pushes == "no" or parent_id is None or later or getattr(self._thread, "engine", False):
            return
        if self.habits.pushes == "late":
            self._put_off(LatePush(self._now() + PUSHED_AFTER, log_id, parent_id))
        else:
            self._push(parent_id, log.quantity)

    def _push(self, parent_id: str, delta: int) -> None:
        parent = self._store.get(SUBSCRIPTION, parent_id)
        quantity = None if parent is None else parent[QUANTITY]
        if quantity is None or quantity + delta < 0:
            return
        with self._by_engine():
            self._store.update(SUBSCRIPTION, parent_id, {QUANTITY: quantity + delta})

    def _write_log(self, log: NewLog) -> str:
        """Add a licence change log; returns its id."""
        sub, details = log.sub, log.details
        archived = details.archived or (log.kind == "Deactivate" and sub[f"{_SUB}donotrefund"] is True)
        self._logs_made += 1
        values = {
            **self.log_values(sub, log.subscription_id, log.kind, log.quantity, log.status),
            f"{_LCL}effectivedate": details.effective or self.today(),
            f"{_LCL}provisionon": details.provision_on,
            "statuscode": self._option(LOG, "statuscode", "Archived" if archived else "Active"),
            "createdon": self._creation_instant(),
        }
        if log.reference != AS_ON_ROW:
            values[f"{_LCL}orderreference"] = log.reference
        return self._store.create(
            LOG, values, id=str(uuid.uuid5(NAMESPACE, f"{LOG}/{log.subscription_id}/{self._logs_made}"))
        )

    def log_values(
        self, sub: Mapping[str, Any], subscription_id: str, kind: Kind, quantity: int, status: Status
    ) -> dict[str, Any]:
        """The columns of a log that come from its subscription: name, customer and the details of the last change."""
        values = {f"{_LCL}{name}": sub[f"{_SUB}{name}"] for name in _LAST_CHANGE}
        return values | {
            "work365_name": sub[f"{_SUB}subscriptionname"],
            f"{_LCL}subscription": subscription_id,
            f"{_LCL}customer": sub[f"{_SUB}customer"],
            f"{_LCL}quantity": quantity,
            f"{_LCL}type": self._option(LOG, f"{_LCL}type", kind),
            f"{_LCL}provisioningstatus": self._option(LOG, f"{_LCL}provisioningstatus", status),
            f"{_LCL}channel": self._option(LOG, f"{_LCL}channel", "System"),
            "transactioncurrencyid": sub["transactioncurrencyid"],
        }

    def provider_type(self, sub: Mapping[str, Any]) -> str | None:
        """The label of the subscription's provider type, or None if it has no provider."""
        provider = self._store.get(PROVIDER, sub[f"{_SUB}provider"] or "")
        value = None if provider is None else provider["work365_provider_type"]
        return None if value is None else self._store.schema.label(PROVIDER, "work365_provider_type", value)

    def _is_linked(self, sub: Mapping[str, Any]) -> bool:
        return self.provider_type(sub) == "Linked Subscription"

    def _creation_instant(self) -> datetime:
        """Now, but never the second of an earlier log: the clock stands still while people type, the order must not."""
        moment = self._now().replace(microsecond=0)
        if self._last_created is not None and moment <= self._last_created:
            moment = self._last_created + timedelta(seconds=1)
        self._last_created = moment
        return moment

    def _row(self, subscription_id: str) -> Mapping[str, Any]:
        row = self._store.get(SUBSCRIPTION, subscription_id)
        if row is None:
            raise PluginError(f"no such subscription: {subscription_id}")
        return row

    def _option(self, table: str, column: str, label: str) -> int:
        return self._store.schema.option(table, column, label)


def _seats(sub: Mapping[str, Any]) -> int | None:
    """The seats that a subscription stands for: none while it is inactive; None when the row gives no number."""
    quantity: int | None = sub.get(QUANTITY)
    return 0 if quantity is not None and sub.get("statecode") == 1 else quantity
