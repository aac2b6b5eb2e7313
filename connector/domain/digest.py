"""What a decision was made from, as plain values with one canonical form: so that a saved plan knows when it is stale.

The form does not depend on the order in which rows, keys or batches arrived, and every field of every row is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from connector.domain.marker import Marker
from connector.domain.model import LicenseChangeLog, ProviderAccount, Snapshot
from connector.domain.plan import Action
from connector.domain.rules.registry import Environment

Inputs = Mapping[str, Any]
"""Groups (rows, logs, provider, rules of the game) → keys → plain JSON values."""


def canonical_json(value: object) -> str:
    """The one text of a value: keys sorted, no spaces, no binary floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of the canonical form, as ``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def inputs_of(snapshot: Snapshot, env: Environment) -> Inputs:
    """Everything that the decision about a family looks at, except the time and the policy.

    The time moves by itself (a plan expires, and is decided anew before it is applied); the policy belongs to all
    families alike. Other subscriptions of the customer are left out for the same reason: what they decide shows in the
    actions, which are compared.
    """
    rows = {
        one.name: _rows(value)
        for one in fields(snapshot)
        if isinstance(value := getattr(snapshot, one.name), tuple) and one.name != _OTHERS
    }
    return {
        **rows,
        "parent": _rows([snapshot.parent] if snapshot.parent is not None else []),
        "accounts": _rows(account for account in snapshot.accounts if _concerns(account, snapshot)),
        "provider": {"kind": type(snapshot.provider).__name__, **_values(snapshot.provider)},
        "reading": {"incomplete": snapshot.incomplete},
        "calendar": {
            "zone": env.calendar.zone.key,
            "increase_time": env.calendar.increase_time.isoformat(),
            "decrease_time": env.calendar.decrease_time.isoformat(),
        },
        "plug-in": {
            "capabilities": _values(env.capabilities) if env.capabilities is not None else None,
            "marker_capacity": env.marker_capacity,
            "parent_log": env.parent_log.value if env.parent_log is not None else None,
            "pushes": env.pushes,
        },
    }


def _concerns(account: ProviderAccount, snapshot: Snapshot) -> bool:
    """Whether an account is the family's: a snapshot holds those of all customers that were read together with it."""
    rows = [*([snapshot.parent] if snapshot.parent is not None else []), *snapshot.children]
    customers = {row.customer_id for row in rows if row.customer_id is not None}
    return account.account_id in customers or account.id in {row.provider_account_id for row in rows}


_OTHERS = "at_customer"
OWN_ROWS = ("accounts", "children", "logs", "parent", "reading", "scheduled")
"""Groups of :func:`inputs_of` that are the family's own rows in the CRM; the bases may be moved by the same run."""


def _rows(rows: Iterable[Any]) -> dict[str, dict[str, Any]]:
    return {str(row.id): _values(row) for row in rows}


def _values(record: Any) -> dict[str, Any]:
    found = {one.name: _plain(getattr(record, one.name)) for one in fields(record) if not one.name.startswith("_")}
    found.pop("modified_on", None)  # it moves with the version and says no more
    if "order_reference" in found and found.get("marker_text") == found["order_reference"]:
        found.pop("marker_text", None)  # one column
    return found


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case datetime() | date() | time():
            return value.isoformat()
        case tuple() | list() | set() | frozenset():
            return sorted((_plain(item) for item in value), key=canonical_json)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case None | bool() | int() | str():
            return value
        case float():
            return repr(value)
    return {key: _plain(item) for key, item in asdict(value).items()}


def action_record(action: Action) -> dict[str, Any]:
    """One action as plain values, as a plan file keeps it: its kind and every field, logs by their ids in order.

    Logs that only a simulation made are left out: what the CRM will call them is not known yet.
    """
    record: dict[str, Any] = {"action": type(action).__name__}
    for one in fields(action):
        value = getattr(action, one.name)
        if isinstance(value, Marker):
            continue  # it says again what the action carries
        if isinstance(value, tuple):
            ids = [item.id if isinstance(item, LicenseChangeLog) else str(item) for item in value]
            record[one.name] = [log_id for log_id in ids if not log_id.startswith("simulated-")]
        else:
            record[one.name] = _plain(value)
    return record


@dataclass(frozen=True, slots=True)
class Moved:
    """One input that is not what it was: ``what`` in words of the family, ``before`` → ``after`` (None: not there)."""

    what: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.what} {_shown(self.before)} → {_shown(self.after)}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else canonical_json(value)


_ONE_ROW = {"parent": "parent", "children": "child", "accounts": "account", "bases": "base"}


def moved(before: Inputs, after: Inputs) -> tuple[Moved, ...]:
    """What changed between two readings of one family, each named so that a person finds it.

    A row's version (ETag) is only named when nothing else of the row that linksub reads has moved.
    """
    names = {
        row_id: str(row.get("name") or row_id)
        for side in (before, after)
        for group in ("parent", "children")
        for row_id, row in side.get(group, {}).items()
    }
    return tuple(change for group in sorted({*before, *after}) for change in _group_moves(group, before, after, names))


def _group_moves(group: str, before: Inputs, after: Inputs, names: Mapping[str, str]) -> Iterator[Moved]:
    old, new = before.get(group, {}), after.get(group, {})
    if group in ("provider", "calendar", "plug-in", "reading"):
        yield from (
            Moved(f"{group} {key}", old.get(key), new.get(key))
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        )
        return
    for row_id in sorted({*old, *new}):
        was, now = old.get(row_id), new.get(row_id)
        title = _title(group, row_id, was or now or {}, names)
        if was is None or now is None:
            yield Moved(title, "there" if was else None, "there" if now else None)
            continue
        changed = [key for key in sorted({*was, *now}) if was.get(key) != now.get(key)]
        telling = [key for key in changed if key != "etag"]
        yield from (Moved(f"{title} {key}", was.get(key), now.get(key)) for key in telling)
        if changed and not telling:
            yield Moved(f"{title} version", was.get("etag"), now.get("etag"))


def _title(group: str, row_id: str, row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if group in _ONE_ROW:
        return f"{_ONE_ROW[group]} {row.get('name') or row_id}:"
    owner = names.get(str(row.get("subscription_id")), str(row.get("subscription_id")))
    if group == "scheduled":
        return f"scheduled change of {owner}:"
    quantity = row.get("quantity")
    return f"log of {owner} ({quantity:+d}):" if isinstance(quantity, int) else f"log of {owner} ({row_id}):"
