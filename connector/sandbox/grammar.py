"""The grammar of scenario files: a world, and a timeline of steps.

Others write these files, so it is an interface: keys are added, never renamed. A key that is not given and a key that
is given as null are told apart by ``model_fields_set``, since ``customer: null`` builds a row without a customer.
"""

from __future__ import annotations

import typing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from connector.sandbox.expected import Expect, status_word
from connector.sandbox.notation import (
    Alias,
    CloudStatus,
    Copies,
    Day,
    Duration,
    Effect,
    Effective,
    Guid,
    HostName,
    Instant,
    Journal,
    ParentLog,
    ProviderKey,
    Pushes,
    Reduction,
    Span,
    State,
    Strict,
    Term,
)


def _crash_point(value: object) -> object:
    known = typing.get_args(Effect)
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is None or number or (isinstance(value, str) and value in known):
        return value
    raise ValueError(f"must be a number of calls from 1 on, or one of: {', '.join(known)}")


class ProviderAccountSpec(Strict):
    """A provider account other than the usual one, to build ambiguous or wrong mappings."""

    id: Alias | None = None
    provider: ProviderKey | None = "partner_center"
    tenant: str | None = None
    name: str | None = None


class AccountSpec(Strict):
    """A customer. ``provider_accounts`` replaces the one that is made of ``tenant``; an empty list leaves none."""

    id: Alias
    name: str | None = None
    tenant: Guid | None = None
    parent: Alias | None = None
    provider_accounts: list[ProviderAccountSpec] | None = None
    related: bool = True


class ContractSpec(Strict):
    """A billing contract."""

    id: Alias
    account: Alias | None = None
    name: str | None = None


class PriceListItemSpec(Strict):
    """A price list item of a product: through which provider, under which part number."""

    provider: str | None = None
    part_number: str | None = None


class ProductSpec(Strict):
    """A product of the catalogue: its default provider and its price list items."""

    id: str
    provider: str | None = None
    prices: list[PriceListItemSpec] = Field(default_factory=list)


class BatchSpec(Strict):
    """Seats that may be given back until an instant."""

    quantity: Annotated[int, Field(ge=0)]
    until: Instant


class ScheduledSpec(Strict):
    """A change that the provider makes at renewal."""

    quantity: int
    term: Term | None = None


class CloudValues(Strict):
    """What the provider knows of a subscription; every key may be left out."""

    quantity: int | None = None
    status: CloudStatus | None = None
    auto_renew: bool | None = None
    scheduled: ScheduledSpec | None = None
    term: Term | None = None
    commitment_end: Day | None = None
    trial: bool | None = None
    batches: list[BatchSpec] | None = None
    updates: Annotated[int, Field(ge=0)] | None = None
    max_quantity: int | None = None
    friendly_name: str | None = None


class AtProvider(CloudValues):
    """A subscription that was bought. Its quantity is the CRM's unless given."""

    id: Guid | None = None
    tenant: Guid | None = None
    part_number: str | None = None
    legacy: bool = False


class RowValues(Strict):
    """Columns of a subscription in the CRM, in the words of scenarios."""

    name: str | None = None
    contract: Alias | None = None
    customer: Alias | None = None
    product: str | None = None
    part_number: str | None = None
    provider: ProviderKey | None = None
    provider_account: Alias | None = None
    provider_subscription: str | None = None
    quantity: int | None = None
    linked_to: Alias | None = None
    base: Alias | None = None
    state: State | None = None
    trial: bool | None = None
    auto_renew: bool | None = None
    commitment_end: Day | None = None
    reduction: Reduction | None = None
    reduction_days: int | None = None
    cost: Decimal | None = None
    price: Decimal | None = None
    currency: str | None = None
    unit: Literal["month", "year"] | None = None
    order_reference: str | None = None
    billable: bool | None = None
    deactivate_on: Day | None = None


class SubscriptionSpec(RowValues):
    """One subscription of the world. ``at_provider`` absent or null: never bought there."""

    id: Alias
    created_on: Instant | None = None
    at_provider: AtProvider | None = None


class ChangeStep(Strict):
    """A user changes a subscription in the CRM's forms."""

    subscription: Alias
    quantity: int | None = None
    by: int | None = None
    effective: Effective = "immediately"
    deactivate: bool = False
    activate: bool = False
    price: bool | Decimal = False
    do_not_refund: bool = False
    order_reference: str | None = None

    @model_validator(mode="after")
    def _says_what(self) -> ChangeStep:
        if self.quantity is not None and self.by is not None:
            raise ValueError("give either quantity or by, not both")
        if self.deactivate and self.activate:
            raise ValueError("give either deactivate or activate, not both")
        if self.quantity is None and self.by is None and not (self.deactivate or self.activate or self.price):
            raise ValueError("changes nothing; give quantity, by, deactivate, activate or price")
        return self


class RunStep(Strict):
    """One pass of the real connector. What ``exit`` does not give is not compared.

    ``crash_after`` is a number of answered calls, or what took effect by a call of this pass. ``crash_in_batch`` is how
    many items (single operations and change sets) of the first batch that writes are carried out before the end.
    ``host`` is where the pass runs and ``journal`` which state it finds there: host a has the main one and every other
    host one of its own, unless it is ``shared``.
    """

    exit: int | None = None
    dry_run: bool = False
    only: Alias | None = None
    crash_after: Annotated[int | Effect | None, BeforeValidator(_crash_point)] = None
    crash_in_batch: Annotated[int, Field(ge=0)] | None = None
    host: HostName = "a"
    journal: Journal | None = None

    @model_validator(mode="after")
    def _one_death(self) -> RunStep:
        if self.crash_after is not None and self.crash_in_batch is not None:
            raise ValueError("give either crash_after or crash_in_batch, not both: a process dies once")
        return self


class ProviderChangeStep(CloudValues):
    """Somebody edits a subscription in the provider's portal; no rule of the API stands in the way."""

    subscription: Alias


class CrmChangeStep(RowValues):
    """A person edits a row in the CRM directly. With ``silent`` no plug-in runs, so no change log is made."""

    subscription: Alias
    silent: bool = False


class SetLclStep(Strict):
    """A person edits a licence change log. ``index`` counts those made since the world began; -1 is the newest."""

    subscription: Alias
    index: int = -1
    status: str | None = None
    message: str | None = None
    archived: bool | None = None

    @field_validator("status")
    @classmethod
    def _known_status(cls, value: str | None) -> str | None:
        return None if value is None else status_word(value)


class LinkStep(Strict):
    """A person links a subscription to a parent, or unlinks it with null."""

    subscription: Alias
    linked_to: Alias | None = None
    provider: ProviderKey | None = "linked"


class FaultStep(Strict):
    """Something goes wrong with the requests that match.

    With ``for`` it lasts that long from when it is set, for any number of requests unless ``times`` is given.
    """

    service: Literal["dataverse", "partner_center", "sign_in"] | None = None
    method: str | None = None
    path: str | None = None
    kind: Literal["lost_response", "lost_request", "status", "slow", "truncated", "replayed", "late"] = "status"
    status: Annotated[int, Field(ge=100, le=599)] = 500
    body: Any = None
    retry_after: float | str | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    applied: bool = False
    seconds: Annotated[float, Field(ge=0)] | None = None
    lasts: Annotated[Span | None, Field(alias="for")] = None
    after: Span | None = None

    @model_validator(mode="after")
    def _after_belongs_to_late(self) -> FaultStep:
        if self.after is not None and self.kind != "late":
            raise ValueError("after says when a request of kind late is delivered; leave it out or give kind: late")
        return self


class EraseMarkerStep(Strict):
    """A person empties a subscription's Order Reference, and the marker's own column if the world has one."""

    subscription: Alias


class LaggingReadsStep(Strict):
    """From now on reads show a subscription as it was before any write that is younger than this. 0s ends it."""

    service: Literal["partner_center"] = "partner_center"
    lag: Annotated[Duration, Field(alias="for")]


class Step(Strict):
    """One entry of the timeline: exactly one of the keys is given."""

    change: ChangeStep | None = None
    run: RunStep | None = None
    expect: Expect | None = None
    advance: Duration | None = None
    at: Instant | None = None
    provider_change: ProviderChangeStep | None = None
    crm_change: CrmChangeStep | None = None
    set_lcl: SetLclStep | None = None
    link: LinkStep | None = None
    fault: FaultStep | None = None
    lagging_reads: LaggingReadsStep | None = None
    erase_marker: EraseMarkerStep | None = None
    forget_state: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_words(cls, value: object) -> object:
        if isinstance(value, str):
            value = {value: None}
        if isinstance(value, dict):
            filled = dict(value)
            for key, meant in (("run", {}), ("expect", {}), ("forget_state", True)):
                if key in filled and filled[key] is None:
                    filled[key] = meant
            return filled
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Step:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"a step has exactly one key of: {known}" + (f"; it has {given}" if given else ""))
        return self

    @property
    def kind(self) -> str:
        """The key of this step."""
        return next(key for key in type(self).model_fields if getattr(self, key) is not None)

    @property
    def content(self) -> Any:
        """What stands under the key."""
        return getattr(self, self.kind)


class Access(Strict):
    """What the application user lacks in an API whose tokens are otherwise good."""

    dataverse: Literal["not_a_member", "no_privilege", "disabled"] | None = None
    partner_center: Literal["no_privilege"] | None = None


class Work365Spec(Strict):
    """What the organisation's Work 365 does otherwise than usual.

    ``parent_log``: what becomes of the log when a client of the API changes a parent's quantity. ``pushes``: whether the
    CRM's own engine raises parents. With ``declared`` (usual) the connector is told both; the rest it must find out.
    """

    parent_log: ParentLog = "makes"
    late_by: Span | None = None
    pushes: Pushes = "no"
    copies_order_reference: Copies = "yes"
    marker_column: bool = False
    declared: bool = True

    @model_validator(mode="after")
    def _late_by_belongs_to_late(self) -> Work365Spec:
        if self.late_by is not None and self.parent_log != "late":
            raise ValueError("late_by says how late the log is made; leave it out or give parent_log: late")
        return self


class Scenario(Strict):
    """A world and its timeline. ``policy`` is handed to the connector as it is."""

    name: str
    description: str | None = None
    rules: list[str] = Field(default_factory=list)
    clock: Instant = datetime(2026, 3, 2, 14, tzinfo=UTC)
    time_zone: str | None = None
    policy: dict[str, Any] = Field(default_factory=dict)
    configuration: dict[str, str] = Field(default_factory=dict)
    kill_switch: str | None = None
    engine: bool = False
    work365: Work365Spec | None = None
    renewal_takes: Duration = timedelta(minutes=5)
    accept_only: bool = False
    access: Access = Field(default_factory=Access)
    accounts: list[AccountSpec] = Field(default_factory=list)
    contracts: list[ContractSpec] = Field(default_factory=list)
    products: list[ProductSpec] = Field(default_factory=list)
    subscriptions: list[SubscriptionSpec] = Field(default_factory=list)
    steps: list[Step] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: object) -> object:
        # `policy:` with nothing behind it is null in YAML, and means the same as leaving it out.
        if isinstance(value, dict):
            return {key: content for key, content in value.items() if content is not None}
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError("no such time zone; use an IANA name such as America/New_York") from None
        return value
