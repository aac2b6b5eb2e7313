"""A saved plan: what a person reviewed, and what has to be unmoved for it to be applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.domain.digest import OWN_ROWS, Inputs, Moved, action_record, digest, moved
from connector.domain.model import SubscriptionId
from connector.domain.plan import Acknowledge, Action, FamilyPlan


@dataclass(frozen=True, slots=True)
class SavedFamily:
    """One family of a saved plan.

    ``actions`` are records (see :func:`connector.domain.digest.action_record`) in their order, ``inputs`` everything
    that they were decided from. ``read_with_parent`` says whether ``read_as`` is a linked parent or a single child.
    """

    family: SubscriptionId
    name: str
    read_as: SubscriptionId
    read_with_parent: bool
    inputs: Inputs
    actions: tuple[Mapping[str, Any], ...]

    def moves(self, inputs: Inputs, *, rows_only: bool = False) -> tuple[Moved, ...]:
        """What is not as it was when the plan was made; ``rows_only`` looks at the family's own rows in the CRM."""
        return moved(_own_rows(self.inputs), _own_rows(inputs)) if rows_only else moved(self.inputs, inputs)

    def plans_the_same(self, plan: FamilyPlan) -> bool:
        """Whether a family's plan of today is this one."""
        return digest([action_record(action) for action in plan.actions]) == digest(list(self.actions))

    def position_of(self, action: Action, start: int) -> int | None:
        """Where an action stands in the plan, from ``start`` on; None if it was not planned.

        Actions before it that are not taken any more are those that an answer which got lost had done already. The
        parent's own log only exists after the plan has begun, so that it is known by its place.
        """
        for at in range(start, len(self.actions)):
            if _is_planned(action, self.actions[at]):
                return at
        return None


def _own_rows(inputs: Inputs) -> Inputs:
    return {group: inputs[group] for group in OWN_ROWS if group in inputs}


def _is_planned(action: Action, planned: Mapping[str, Any]) -> bool:
    record = action_record(action)
    if not isinstance(action, Acknowledge) or planned["action"] != "Acknowledge":
        return digest(record) == digest(dict(planned))
    return bool(
        record["child_logs"] == planned["child_logs"] and set(planned["parent_logs"]) <= set(record["parent_logs"])
    )


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What a plan was made with: who, which linksub, which switches and addresses, and the content of the mapping."""

    created_by: str
    version: str
    settings: Mapping[str, Any]
    settings_digest: str
    mapping_digest: str

    def moves(self, now: MadeWith) -> tuple[str, ...]:
        """What is set otherwise now; who runs it makes no difference."""
        old, new = dict(_leaves(self.settings)), dict(_leaves(now.settings))
        moves = [
            str(Moved(key, old.get(key), new.get(key))) for key in sorted({*old, *new}) if old.get(key) != new.get(key)
        ]
        if not moves and self.settings_digest != now.settings_digest:
            moves.append("the configuration is another one")
        if self.mapping_digest != now.mapping_digest:
            moves.append("the content of the mapping changed")
        if self.version != now.version:
            moves.append(str(Moved("linksub", self.version, now.version)))
        return tuple(moves)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as it was saved. ``digest`` is that of the whole file, which was found unchanged.

    Only families that something is to be done to are here.
    """

    digest: str
    created_at: datetime
    expires_at: datetime
    made_with: MadeWith
    families: tuple[SavedFamily, ...]

    def family(self, family: SubscriptionId) -> SavedFamily | None:
        """One of its families, by id."""
        return next((one for one in self.families if one.family == family), None)
