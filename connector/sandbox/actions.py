"""What people and time do between two passes of a connector: every step of a timeline but run, expect, forget_state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from connector.sandbox.bought import apply_cloud_values
from connector.sandbox.clock import SandboxClock
from connector.sandbox.expected import LONG_STATUS
from connector.sandbox.faults import Fault, FaultBook
from connector.sandbox.grammar import (
    ChangeStep,
    CrmChangeStep,
    EraseMarkerStep,
    FaultStep,
    LaggingReadsStep,
    LinkStep,
    ProviderChangeStep,
    SetLclStep,
    Step,
)
from connector.sandbox.habits import ChangeDetails
from connector.sandbox.store import Row
from connector.sandbox.work365 import LOG, MARKER, QUANTITY, SUBSCRIPTION, Event
from connector.sandbox.world import World

_SUB = "work365_subscription_"
_LCL = "work365_licensechangelog_"


class ActionError(Exception):
    """A step that cannot be done in this world, with what to do about it."""


class Actions:
    """Performs steps on one world."""

    def __init__(self, world: World, clock: SandboxClock, faults: FaultBook) -> None:
        self._world = world
        self._store = world.store
        self._clock = clock
        self._faults = faults
        self._performers: dict[str, Callable[[Any], None]] = {
            "change": self._change,
            "advance": self._advance,
            "at": self._at,
            "provider_change": self._provider_change,
            "crm_change": self._crm_change,
            "set_lcl": self._set_lcl,
            "link": self._link,
            "fault": self._fault,
            "lagging_reads": self._lagging_reads,
            "erase_marker": self._erase_marker,
        }

    def perform(self, step: Step) -> None:
        """Do one step. Raises ActionError, or PluginError when the CRM refuses."""
        performer = self._performers.get(step.kind)
        if performer is None:
            raise ActionError(f"{step.kind} is not something that the sandbox does; a player does it")
        performer(step.content)

    def _change(self, step: ChangeStep) -> None:
        row = self._subscription(step.subscription)
        subscription_id = self._world.id_of(step.subscription)
        current = row[QUANTITY] or 0
        target = step.quantity if step.quantity is not None else None if step.by is None else current + step.by
        day = step.effective
        if day == "on_renewal":
            day = self._renewal_day(step.subscription, row)
        if day == "immediately":
            details = ChangeDetails(archived=step.do_not_refund)
        elif day > self._world.work365.today():
            event: Event = "Deactivate" if step.deactivate else "Activate" if step.activate else "Update"
            self._world.work365.schedule(subscription_id, event, day, target)
            return
        else:
            more = not step.deactivate and (step.activate or target is None or target >= current)
            moment = self._world.work365.instant_on(day, positive=more)
            details = ChangeDetails(effective=day, provision_on=moment, archived=step.do_not_refund)
        with self._world.work365.details(details):
            self._store.update(SUBSCRIPTION, subscription_id, self._changed_columns(step, row, target))

    def _changed_columns(self, step: ChangeStep, row: Row, target: int | None) -> dict[str, Any]:
        values: dict[str, Any] = {f"{_SUB}orderdate": self._clock.now(), f"{_SUB}orderthru": "Work 365"}
        if target is not None:
            values[QUANTITY] = target
        if step.deactivate or step.activate:
            values["statecode"] = 0 if step.activate else 1
        if step.price:
            price = (row[f"{_SUB}sellingpriceperunit"] or Decimal(0)) + 1 if step.price is True else step.price
            values[f"{_SUB}sellingpriceperunit"] = price
        if step.order_reference is not None:
            values[f"{_SUB}orderreference"] = step.order_reference
        return values

    def _advance(self, by: timedelta) -> None:
        self._clock.advance(by)

    def _at(self, instant: datetime) -> None:
        if instant < self._clock.now():
            raise ActionError(f"the clock never runs backwards: it is {self._clock.now()}; move the step up")
        self._clock.set(instant)

    def _provider_change(self, step: ProviderChangeStep) -> None:
        bought = self._world.bought(step.subscription)
        if bought is None:
            raise ActionError(f"{step.subscription} was never bought; give it at_provider")
        now = self._clock.now()
        self._world.cloud.edit(bought.id, lambda sub: apply_cloud_values(sub, step, now))

    def _crm_change(self, step: CrmChangeStep) -> None:
        self._subscription(step.subscription)
        subscription_id = self._world.id_of(step.subscription)
        if step.silent:
            with self._store.silent():
                self._store.update(SUBSCRIPTION, subscription_id, self._world.columns(step))
        else:
            self._store.update(SUBSCRIPTION, subscription_id, self._world.columns(step))

    def _set_lcl(self, step: SetLclStep) -> None:
        logs = self._world.logs_of(step.subscription)
        if not logs:
            logs = self._store.find(LOG, f"{_LCL}subscription", self._world.id_of(step.subscription))  # the first ones
        try:
            log = logs[step.index]
        except IndexError:
            text = f"{step.subscription} has {len(logs)} licence change logs, there is none at index {step.index}"
            raise ActionError(text) from None
        option = self._store.schema.option
        values: dict[str, Any] = {}
        if step.status is not None:
            values[f"{_LCL}provisioningstatus"] = option(LOG, f"{_LCL}provisioningstatus", LONG_STATUS[step.status])
            if step.status == "Provisioned":
                values[f"{_LCL}actualprovisionedon"] = self._clock.now()
        if step.message is not None:
            values[f"{_LCL}provisioningmessage"] = step.message
        if step.archived is not None:
            values["statuscode"] = option(LOG, "statuscode", "Archived" if step.archived else "Active")
        self._store.update(LOG, log[f"{LOG}id"], values)

    def _link(self, step: LinkStep) -> None:
        self._subscription(step.subscription)
        values = step.model_dump(exclude_unset=True)
        if step.linked_to is not None:
            values.setdefault("provider", step.provider)
        columns = self._world.columns(CrmChangeStep(**values))
        self._store.update(SUBSCRIPTION, self._world.id_of(step.subscription), columns)

    def _fault(self, step: FaultStep) -> None:
        values = step.model_dump(exclude={"lasts"})
        if step.lasts is not None:
            values["until"] = self._clock.now() + step.lasts
            if "times" not in step.model_fields_set:
                values["times"] = None
        self._faults.add(Fault(**values))

    def _lagging_reads(self, step: LaggingReadsStep) -> None:
        self._world.cloud.let_reads_lag(step.lag)

    def _erase_marker(self, step: EraseMarkerStep) -> None:
        self._subscription(step.subscription)
        columns = (f"{_SUB}orderreference", MARKER)
        known = self._store.schema.table(SUBSCRIPTION).columns
        values = {column: None for column in columns if column in known}
        self._store.update(SUBSCRIPTION, self._world.id_of(step.subscription), values)

    def _subscription(self, alias: str) -> Row:
        row = self._store.get(SUBSCRIPTION, self._world.id_of(alias))
        if row is None:
            raise ActionError(f"there is no subscription {alias} any more")
        return Row(row)

    def _renewal_day(self, alias: str, row: Row) -> Any:
        """The day after the last day of the term: the linked parent's if there is one, else the subscription's own."""
        parent_alias = self._world.alias_of(row[f"{_SUB}linkedsubscription"])
        for candidate in (parent_alias, alias):
            bought = self._world.bought(candidate) if candidate is not None else None
            if bought is not None:
                return bought.commitment_end + timedelta(days=1)
        end = row[f"{_SUB}commitmentenddate"]
        if end is None:
            raise ActionError(f"{alias} has no commitment end, so nothing can be scheduled on its renewal")
        return end + timedelta(days=1)
