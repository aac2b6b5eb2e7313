"""Changes that a subscription holds for its renewal, and keeping them alive across a change of seats.

Partner Center deletes scheduled changes on any change of the quantity ("Manage subscriptions", scheduled changes), so
they are read first and written back afterwards, adjusted by the same number of seats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

_NEXT_TERM = "scheduledNextTermInstructions"
_ACTIONS = "scheduledActions"
# Availability ids change over time, so another one is still the same product.
_NOT_COMPARED = frozenset({"availabilityId"})


@dataclass(frozen=True)
class ScheduledInstructions:
    """What a subscription is told to do at its renewal, verbatim, with the auto-renew switch that goes with it.

    ``next_term`` is ``scheduledNextTermInstructions``, ``actions`` is ``scheduledActions`` (since 2025; when both are
    sent, only the actions count). Treat both as read-only.
    """

    next_term: Mapping[str, Any] | None
    actions: tuple[Mapping[str, Any], ...] | None
    auto_renew: bool | None

    @property
    def quantity(self) -> int | None:
        """The seats of the next term, if the instructions name a number."""
        for instructions in (*(action.get("instructions") for action in self.actions or ()), self.next_term):
            if isinstance(instructions, Mapping) and (seats := _seats(instructions)) is not None:
                return seats
        return None

    def fields(self) -> dict[str, Any]:
        """The fields of a Subscription resource that say this (a copy): what a PATCH has to carry."""
        told: dict[str, Any] = {}
        if self.next_term is not None:
            told[_NEXT_TERM] = deepcopy(dict(self.next_term))
        if self.actions is not None:
            told[_ACTIONS] = [deepcopy(dict(action)) for action in self.actions]
        return told

    def to_json(self) -> str:
        """A text to keep in a journal; :func:`instructions_from_json` reads it."""
        return json.dumps({**self.fields(), "autoRenewEnabled": self.auto_renew})

    def agrees_with(self, other: ScheduledInstructions | None) -> bool:
        """Whether the other says all that this one says; spelling of dates and letters, and additions, do not count."""
        if other is None:
            return False
        told, found = self.fields(), other.fields()
        if _ACTIONS in told and _ACTIONS in found:
            # With both present only the actions count, and the service may drop the rest.
            told.pop(_NEXT_TERM, None)
        return all(_covers(found.get(name), wanted) for name, wanted in told.items())


def read_schedule(resource: Mapping[str, Any]) -> ScheduledInstructions | None:
    """The scheduled changes of a Subscription resource; None when there is none."""
    next_term = resource.get(_NEXT_TERM)
    actions = resource.get(_ACTIONS)
    kept_term = next_term if isinstance(next_term, Mapping) and next_term else None
    kept_actions = tuple(a for a in actions if isinstance(a, Mapping)) if isinstance(actions, list) else ()
    if kept_term is None and not kept_actions:
        return None
    auto_renew = resource.get("autoRenewEnabled")
    return ScheduledInstructions(kept_term, kept_actions or None, auto_renew if isinstance(auto_renew, bool) else None)


def instructions_from_json(text: str) -> ScheduledInstructions | None:
    """The inverse of :meth:`ScheduledInstructions.to_json`. Raises ValueError for anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("scheduled instructions are a JSON object")
    return read_schedule(value)


def adjust_scheduled_quantity(scheduled: int, delta: int) -> int | None:
    """The seats of the next term after ``delta`` seats were added now; None when fewer than one would be left.

    A change scheduled from 25 to 20 seats means five fewer: after ten more seats now it has to say 30.
    """
    adjusted = scheduled + delta
    return adjusted if adjusted >= 1 else None


def adjust_schedule(instructions: ScheduledInstructions, delta: int) -> ScheduledInstructions | None:
    """The instructions with every quantity moved by ``delta`` seats; None when one would fall below one seat."""
    actions = None if instructions.actions is None else [deepcopy(dict(action)) for action in instructions.actions]
    next_term = None if instructions.next_term is None else deepcopy(dict(instructions.next_term))
    for told in (*(action.get("instructions") for action in actions or ()), next_term):
        if not isinstance(told, dict) or (seats := _seats(told)) is None:
            continue
        adjusted = adjust_scheduled_quantity(seats, delta)
        if adjusted is None:
            return None
        told["quantity"] = adjusted
    return replace(instructions, next_term=next_term, actions=None if actions is None else tuple(actions))


def with_quantity(instructions: ScheduledInstructions, quantity: int) -> ScheduledInstructions | None:
    """The instructions with another number of seats; None when they name no number that could be replaced."""
    seats = instructions.quantity
    return None if seats is None else adjust_schedule(instructions, quantity - seats)


def plain_renewal(resource: Mapping[str, Any], quantity: int) -> ScheduledInstructions | None:
    """Instructions for a renewal of the same product and term with another number of seats.

    None when the resource does not say which product that is (its offer is not ``product:sku:availability``).
    """
    parts = str(resource.get("offerId") or "").split(":")
    cycle, term = resource.get("billingCycle"), resource.get("termDuration")
    if len(parts) != 3 or not all(parts) or not isinstance(cycle, str) or not isinstance(term, str):
        return None
    product = {
        "productId": parts[0],
        "skuId": parts[1],
        "availabilityId": parts[2],
        "billingCycle": cycle,
        "termDuration": term,
    }
    return ScheduledInstructions({"product": product, "quantity": quantity}, None, True)


def _seats(instructions: Mapping[str, Any]) -> int | None:
    quantity = instructions.get("quantity")
    return quantity if isinstance(quantity, int) and not isinstance(quantity, bool) else None


def _covers(found: Any, wanted: Any) -> bool:
    """Whether ``found`` holds everything that ``wanted`` holds; a wanted null or empty text may be missing."""
    if wanted is None or wanted == "":
        return found is None or found == ""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            _covers(found.get(key), value) for key, value in wanted.items() if key not in _NOT_COMPARED
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_covers(one, other) for one, other in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, str) and isinstance(found, str):
        return _plain(wanted) == _plain(found)
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)


def _plain(text: str) -> str:
    """A text without regard to case; of a date only the day, as the service spells its time in several ways."""
    folded = text.strip().casefold()
    return (
        folded[:10] if len(folded) > 10 and folded[4:5] == "-" and folded[7:8] == "-" and folded[10] == "t" else folded
    )
