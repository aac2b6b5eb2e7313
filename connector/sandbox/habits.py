"""What an organisation's Work 365 does otherwise than usual. None of it is public, so scenarios say which world it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

Status = Literal["Awaiting Provisioning", "Provisioned", "Failed Provisioning", "Not Applicable"]
Kind = Literal["Create", "Update", "Audit", "Activate", "Deactivate"]
ParentLog = Literal["makes", "late", "not_applicable", "none"]

LATE_BY = timedelta(seconds=5)
PUSHED_AFTER = timedelta(seconds=7)
ALTERED_LENGTH = 20
AS_ON_ROW = "\0"
"""Stands for the subscription's Order Reference as it is; no text of a row holds this sign."""


@dataclass(frozen=True, slots=True)
class Habits:
    """The organisation's ways.

    ``parent_log``: what becomes of the log when a client of the API changes a parent's quantity. ``pushes``: whether the
    CRM's own engine raises the linked parent by the delta of a child's change. ``copies_order_reference``: whether a
    parent's logs carry its Order Reference; ``altered`` in capitals and cut.
    """

    parent_log: ParentLog = "makes"
    late_by: timedelta = LATE_BY
    pushes: Literal["yes", "no", "late"] = "no"
    copies_order_reference: Literal["yes", "no", "altered"] = "yes"

    def reference(self, text: str | None) -> str | None:
        """A parent's Order Reference as it stands on the log that a change of quantity makes."""
        if self.copies_order_reference == "no" or text is None:
            return None
        return text if self.copies_order_reference == "yes" else text.upper()[:ALTERED_LENGTH]


USUAL = Habits()


@dataclass(frozen=True, slots=True)
class ChangeDetails:
    """How the change that is being made takes effect. ``provision_on`` None means immediately."""

    effective: date | None = None
    provision_on: datetime | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class NewLog:
    """A licence change log that is to be made; ``sub`` is the subscription's row after the change."""

    sub: Mapping[str, Any]
    subscription_id: str
    kind: Kind
    quantity: int
    status: Status
    details: ChangeDetails
    reference: str | None = AS_ON_ROW


@dataclass(frozen=True, slots=True)
class LateLog:
    """A job of the CRM: make a log."""

    due: datetime
    log: NewLog


@dataclass(frozen=True, slots=True)
class LatePush:
    """A job of the CRM: raise a parent by a child's log, if that still waits then."""

    due: datetime
    log_id: str
    parent_id: str


Job = LateLog | LatePush
