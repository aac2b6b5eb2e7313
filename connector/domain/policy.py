"""What a person lets linksub do: every key of ``policy:`` in the configuration and in scenario files.

The defaults follow the sources where they speak and are the careful choice where they are silent.
"""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

Limit = Annotated[int, Field(ge=0)] | None


class Limits(BaseModel):
    """Safety limits of one run. None switches a limit off. Amounts of money are minor currency units per month."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parents_changed: Limit = 500
    """Families whose parent quantity or provider quantity one run may change."""
    seats_added: Limit = 1000
    """Seats that one run may add at providers, over all families."""
    seats_removed: Limit = 500
    """Seats that one run may remove at providers, over all families."""
    seats_added_per_customer: Limit = None
    """The same for one customer."""
    seats_removed_per_customer: Limit = None
    """The same for one customer."""
    family_percent: Annotated[int, Field(ge=0)] | None = None
    """By how much one family may change, in percent of what is settled; only from ``family_percent_from`` seats up."""
    family_percent_from: Annotated[int, Field(ge=0)] = 20
    """Families below this number of seats do not count for ``family_percent``."""
    money_added: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Currency (ISO 4217) → how much more per month one run may spend. Unknown prices count as unsafe when set."""
    source_shrunk_percent: Annotated[int, Field(ge=0, le=100)] | None = 50
    """Stop when the CRM lists this many percent fewer linked subscriptions than the last finished run saw."""


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
    purchase: Literal["hold"] = "hold"
    """A parent that has no provider subscription yet would need a purchase. Only ``hold`` exists: linksub cannot buy."""
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
