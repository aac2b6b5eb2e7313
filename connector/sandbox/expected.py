"""What a scenario may expect of the world: only what is mentioned is compared."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator


def _pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_pattern)]

STATUS_WORDS = {
    "awaiting": "Awaiting",
    "awaiting provisioning": "Awaiting",
    "provisioned": "Provisioned",
    "completed": "Provisioned",
    "failed": "Failed",
    "failed provisioning": "Failed",
    "not applicable": "Not Applicable",
    "n/a": "Not Applicable",
}
LONG_STATUS = {
    "Awaiting": "Awaiting Provisioning",
    "Provisioned": "Provisioned",
    "Failed": "Failed Provisioning",
    "Not Applicable": "Not Applicable",
}


def status_word(value: str) -> str:
    """The short word for a provisioning status, given short or long. Raises ValueError."""
    word = STATUS_WORDS.get(value.strip().lower().replace("_", " "))
    if word is None:
        raise ValueError("must be Awaiting, Provisioned, Failed or Not Applicable")
    return word


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedSubscription(_Strict):
    """A subscription in the CRM. ``order_reference`` is the whole text, or a regular expression for all of it."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    quantity: int | None = None
    state: str | None = None
    provider: str | None = None
    linked_to: str | None = None
    base: str | None = None
    customer: str | None = None
    contract: str | None = None
    part_number: str | None = None
    order_reference: Pattern | None = None
    provider_subscription: str | None = None
    commitment_end: date | None = None
    trial: bool | None = None
    name: str | None = None
    auto_renew: bool | None = None
    deactivate_on: date | None = None


class ExpectedScheduled(_Strict):
    """A change that the provider will make at renewal."""

    quantity: int | None = None


class ExpectedCloud(_Strict):
    """A subscription at the provider. ``reducible`` is the sum of the seats that may be given back now."""

    quantity: int | None = None
    status: str | None = None
    auto_renew: bool | None = None
    scheduled: ExpectedScheduled | None = None
    updates: int | None = None
    term: str | None = None
    commitment_end: date | None = None
    trial: bool | None = None
    reducible: int | None = None
    id: str | None = None
    max_quantity: int | None = None
    friendly_name: str | None = None


class ExpectedLog(_Strict):
    """A licence change log. ``message`` and ``order_reference`` are regular expressions that must be found."""

    quantity: int | None = None
    status: str | None = None
    message: Pattern | None = None
    kind: str | None = None
    archived: bool | None = None
    effective: date | None = None
    provision_on: datetime | None = None
    scheduled: bool | None = None
    provisioned_on: datetime | None = None
    order_reference: Pattern | None = None
    customer: str | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _status(cls, value: object) -> object:
        return status_word(value) if isinstance(value, str) else value


class ExpectedScheduledLog(_Strict):
    """A scheduled licence change log. ``status`` is Pending, Archived or Merge Failed."""

    quantity: int | None = None
    status: str | None = None
    event: str | None = None
    effective: date | None = None
    provision_on: datetime | None = None


class Expect(_Strict):
    """One ``expect`` step. Counts of writes are those since the last ``expect``."""

    subscriptions: dict[str, ExpectedSubscription | None] | None = None
    provider: dict[str, ExpectedCloud | None] | None = None
    lcls: dict[str, list[ExpectedLog]] | None = None
    slcls: dict[str, list[ExpectedScheduledLog]] | None = None
    provider_writes: int | None = None
    crm_writes: int | None = None
    explain: dict[str, str | list[str] | None] | None = None

    @field_validator("lcls", "slcls", mode="before")
    @classmethod
    def _none_is_no_logs(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: [] if logs is None else logs for key, logs in value.items()}
        return value
