"""What a person lets linksub do: every key of ``policy:`` in the configuration and in scenario files.

The defaults follow the sources where they speak and are the careful choice where they are silent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator

_PERCENT = re.compile(r"([0-9]{1,6}) ?%")


@dataclass(frozen=True, slots=True)
class Percent:
    """A share: ``20%`` in the configuration."""

    value: int

    def __str__(self) -> str:
        return f"{self.value}%"


def _share(value: object) -> object:
    """``20%`` → Percent; anything else is left to the number's own check."""
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    return Percent(int(match[1])) if match else value


def _bare_percent(value: object) -> object:
    """A limit that is a percentage by its name takes ``50`` and ``50%`` alike."""
    found = _share(value)
    return found.value if isinstance(found, Percent) else found


def _whole(value: object) -> object:
    if isinstance(value, Percent):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("must be a whole number from 0 up, a percentage such as 20%, or null")
    return value


Number = Annotated[int, Field(ge=0, strict=True)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Limit = Number | None
SeatLimit = Annotated[
    int | Percent,
    BeforeValidator(_whole),
    BeforeValidator(_share),
    PlainSerializer(lambda value: str(value) if isinstance(value, Percent) else value),
]
"""Seats, or a percentage of the seats that are settled in the families that the run looks at."""


class Limits(BaseModel):
    """Safety limits of one run. None switches a limit off. Amounts of money are minor currency units per month.

    A limit is what is still allowed: a run stops when it would go beyond. Percentages of seats count what is *settled*
    (confirmed by the provider side) in all families that the run looks at, of that customer or of that one family.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parents_changed: Limit = 2500
    """Families whose parent quantity or provider quantity one run may change."""
    seats_added: SeatLimit | None = 5000
    """Seats that one run may add at providers, over all families; a number or a percentage."""
    seats_removed: SeatLimit | None = 2500
    """Seats that one run may remove at providers, over all families; a number or a percentage."""
    seats_added_per_customer: SeatLimit | None = None
    """The same for one customer."""
    seats_removed_per_customer: SeatLimit | None = None
    """The same for one customer."""
    seats_per_family_and_day: Limit = 5000
    """Seats that may be ordered and given back for one family within 24 hours, all runs together: what moves a family back
    and forth, whatever it is, comes to an end there."""
    family_percent: Annotated[Number, BeforeValidator(_bare_percent)] | None = None
    """By how much one family may change, in percent of what is settled in it."""
    percent_from: Annotated[int, Field(ge=1)] = 20
    """Percentages of seats are not looked at below this number of settled seats: 1 of 2 is 50 % and means nothing."""
    money_added: dict[Currency, Number] = Field(default_factory=dict)
    """Currency (ISO 4217) → how much more per month one run may spend. Once any currency is set, the others have the
    limit 0. What other families save does not count against it."""
    seats_without_price: Number = 0
    """Once money is limited: seats whose price nobody entered that one run may add."""
    source_shrunk_percent: Annotated[Annotated[int, Field(ge=0, le=100)], BeforeValidator(_bare_percent)] | None = 50
    """Stop when the CRM lists more than this many percent fewer linked subscriptions than the last finished run saw."""
    source_shrunk_from: Annotated[int, Field(ge=1)] = 10
    """Below this number of linked subscriptions a smaller number is no alarm: people unlink a few on purpose."""

    @field_validator("seats_removed", "seats_removed_per_customer")
    @classmethod
    def _no_more_than_all(cls, value: int | Percent | None) -> int | Percent | None:
        if isinstance(value, Percent) and value.value > 100:
            raise ValueError("more than 100% of the seats cannot be removed")
        return value


class ProductRule(BaseModel):
    """Limits of one product, by part number; None does not limit. The sources give them per SKU and change them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_seats_per_customer: Annotated[int, Field(ge=0)] | None = None
    """Seats of this SKU that one customer may have, over all its subscriptions (Microsoft 365 Business: 300)."""
    prerequisites: tuple[str, ...] = ()
    """Part numbers of the base products that this add-on is measured by."""
    max_percent_of_prerequisites: Annotated[int, Field(ge=0)] | None = None
    """At most this share of the customer's base seats (Copilot: 100)."""
    min_percent_of_prerequisites: Annotated[int, Field(ge=0)] | None = None
    """At least this share of the customer's base seats (Multi-Geo: 5)."""
    seats_per_base_seat: Annotated[int, Field(ge=1)] | None = None
    """Bundle ratio: at most so many seats per seat of the base that the add-on hangs on."""


class Policy(BaseModel):
    """Switches and limits of a run. Times are wall-clock times in the tenant's time zone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_zone: str | None = None
    """IANA zone that wins over the CRM's setting; None reads the CRM, and UTC if that is unset too."""
    increase_time: time = time(0, 5)
    """When increases and activations of a dated change take place."""
    decrease_time: time = time(23, 30)
    """When decreases and deactivations of a dated change take place."""
    netting: bool = True
    """True nets what is due together per family; False sends increases first and decreases after them."""
    decreases: Literal["allow", "hold"] = "allow"
    """Whether seats may be given back at the provider at all; ``hold`` keeps every net decrease for a person."""
    refused_decrease: Literal["fail", "wait", "schedule"] = "fail"
    """A decrease that the provider's window does not allow: fail the log, let it wait, or ask for a change at renewal."""
    provider_drift: Literal["hold", "push"] = "hold"
    """The provider reports a quantity that nothing explains: hold and report, or push the target over it."""
    child_when_parent_fails: Literal["awaiting", "failed"] = "awaiting"
    """What a child's log becomes when the parent's push fails (the sources are silent; see docs/rules.md)."""
    parent_log: Literal["leave", "create"] = "leave"
    """Where the CRM makes no log of a parent that the API raises (``work365.parent_log: none``): leave it so, or create it
    (this needs the privilege to create licence change logs)."""
    purchase: Literal["hold"] = "hold"
    """A parent that has no provider subscription yet would need a purchase. Only ``hold`` exists: linksub cannot buy."""
    products: dict[str, ProductRule] = Field(default_factory=dict)
    """Part number → limits of that product (Copilot, Multi-Geo, pooled maxima, bundle ratios)."""
    limits: Limits = Field(default_factory=Limits)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(f"no such time zone: {value!r} (an IANA name such as Europe/Berlin)") from error
        return value
