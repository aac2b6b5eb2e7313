"""Compares a world with what a scenario expects of it, and says in words what differs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from connector.sandbox.clock import as_utc
from connector.sandbox.expected import Expect, status_word
from connector.sandbox.partner_center.subscription import CloudSubscription
from connector.sandbox.work365 import LOG, SCHEDULED, SUBSCRIPTION
from connector.sandbox.world import World

Explain = Callable[[str], str | Sequence[str] | None]
_SUB = "work365_subscription_"
_LCL = "work365_licensechangelog_"
_SLCL = "work365_slcl_"


@dataclass(frozen=True, slots=True)
class Writes:
    """What clients changed since the last comparison: operations that took effect, and the requests they came in."""

    provider: int
    crm: int
    crm_requests: int


def differences(expect: Expect, world: World, writes: Writes, explain: Explain | None = None) -> list[str]:
    """Everything that is not as expected; an empty list when all is. Only what is mentioned is compared."""
    return [
        *_subscriptions(expect, world),
        *_provider(expect, world),
        *_logs(expect, world),
        *_scheduled_logs(expect, world),
        *_writes(expect, writes),
        *_explanations(expect, world, explain),
    ]


def describe_subscription(world: World, row: Mapping[str, Any]) -> dict[str, Any]:
    """One subscription in plain JSON values: the row, its logs since the beginning, and what the provider has."""
    alias = world.alias_of(row[f"{SUBSCRIPTION}id"]) or ""
    bought = world.bought(alias)
    described = {
        "id": row[f"{SUBSCRIPTION}id"],
        **_subscription(row, world),
        "lcls": [_log(log, world) for log in world.logs_of(alias)],
        "at_provider": None if bought is None else _bought(bought, world),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return plain


def _subscriptions(expect: Expect, world: World) -> Iterator[str]:
    for alias, wanted in (expect.subscriptions or {}).items():
        row = world.store.get(SUBSCRIPTION, world.id_of(alias))
        if row is None or wanted is None:
            if (row is None) != (wanted is None):
                yield f"subscription {alias}: expected {_there(wanted)}, was {_there(row)}"
            continue
        actual = _subscription(row, world)
        yield from _compared(f"subscription {alias}", wanted, actual, whole=True)


def _subscription(row: Mapping[str, Any], world: World) -> dict[str, Any]:
    return {
        "quantity": row[f"{_SUB}quantity"],
        "state": "suspended" if row["statecode"] else "active",
        "provider": world.provider_key(row[f"{_SUB}provider"]),
        "linked_to": world.alias_of(row[f"{_SUB}linkedsubscription"]),
        "base": world.alias_of(row[f"{_SUB}parentsubscription"]),
        "customer": world.alias_of(row[f"{_SUB}customer"]),
        "contract": world.alias_of(row[f"{_SUB}billingcontract"]),
        "part_number": row[f"{_SUB}partnumber"],
        "order_reference": row[f"{_SUB}orderreference"],
        "provider_subscription": row[f"{_SUB}subscriptionid"],
        "commitment_end": row[f"{_SUB}commitmentenddate"],
        "trial": row[f"{_SUB}istrial"],
        "name": row[f"{_SUB}subscriptionname"],
        "auto_renew": row[f"{_SUB}autorenew"],
        "deactivate_on": row[f"{_SUB}deactivateon"],
    }


def _provider(expect: Expect, world: World) -> Iterator[str]:
    for alias, wanted in (expect.provider or {}).items():
        bought = world.bought(alias)
        if bought is None or wanted is None:
            if (bought is None) != (wanted is None):
                yield f"provider {alias}: expected {_there(wanted)}, was {_there(bought)}"
            continue
        actual = _bought(bought, world)
        yield from _compared(f"provider {alias}", wanted, actual)


def _bought(bought: CloudSubscription, world: World) -> dict[str, Any]:
    now = world.cloud.now()
    return {
        "quantity": bought.quantity,
        "status": bought.status,
        "auto_renew": bought.auto_renew,
        "scheduled": bought.scheduled,
        "updates": bought.updates,
        "term": bought.term,
        "commitment_end": bought.commitment_end,
        "trial": bought.is_trial,
        "reducible": sum(batch.quantity for batch in bought.open_batches(now)),
        "friendly_name": bought.friendly_name,
        "id": bought.id,
        "max_quantity": bought.max_quantity,
    }


def _logs(expect: Expect, world: World) -> Iterator[str]:
    for alias, wanted in (expect.lcls or {}).items():
        actual = [_log(row, world) for row in world.logs_of(alias)]
        if len(actual) != len(wanted):
            shown = ", ".join(f"{log['quantity']:+} {log['status']}" for log in actual) or "none"
            yield f"lcls {alias}: expected {len(wanted)}, were {len(actual)} ({shown})"
        for number, (one, log) in enumerate(zip(wanted, actual, strict=False), start=1):
            yield from _compared(f"lcls {alias}[{number}]", one, log)


def _log(row: Mapping[str, Any], world: World) -> dict[str, Any]:
    return {
        "quantity": row[f"{_LCL}quantity"],
        "status": _status(world, row),
        "message": row[f"{_LCL}provisioningmessage"],
        "kind": _label(world, LOG, f"{_LCL}type", row),
        "archived": _label(world, LOG, "statuscode", row) == "Archived",
        "effective": row[f"{_LCL}effectivedate"],
        "provision_on": row[f"{_LCL}provisionon"],
        "scheduled": row[f"{_LCL}provisionon"] is not None,
        "provisioned_on": row[f"{_LCL}actualprovisionedon"],
        "order_reference": row[f"{_LCL}orderreference"],
        "customer": world.alias_of(row[f"{_LCL}customer"]),
    }


def _scheduled_logs(expect: Expect, world: World) -> Iterator[str]:
    for alias, wanted in (expect.slcls or {}).items():
        rows = world.store.find(SCHEDULED, f"{_SLCL}subscription", world.id_of(alias))
        rows = sorted(rows, key=lambda row: (row["createdon"], row[f"{_SLCL}provisionon"] or row["createdon"]))
        if len(rows) != len(wanted):
            yield f"slcls {alias}: expected {len(wanted)}, were {len(rows)}"
        for number, (one, row) in enumerate(zip(wanted, rows, strict=False), start=1):
            actual = {
                "quantity": row[f"{_SLCL}quantity"],
                "status": _label(world, SCHEDULED, "statuscode", row),
                "event": _label(world, SCHEDULED, f"{_SLCL}subscriptionevent", row),
                "effective": row[f"{_SLCL}effectivedate"],
                "provision_on": row[f"{_SLCL}provisionon"],
            }
            yield from _compared(f"slcls {alias}[{number}]", one, actual)


def _writes(expect: Expect, writes: Writes) -> Iterator[str]:
    if expect.provider_writes is not None and expect.provider_writes != writes.provider:
        yield f"provider_writes: expected {expect.provider_writes}, were {writes.provider}"
    # A change set is one request and several writes; people count it either way.
    if expect.crm_writes is not None and expect.crm_writes not in (writes.crm, writes.crm_requests):
        yield f"crm_writes: expected {expect.crm_writes}, were {writes.crm} (in {writes.crm_requests} requests)"


def _explanations(expect: Expect, world: World, explain: Explain | None) -> Iterator[str]:
    for alias, wanted in (expect.explain or {}).items():
        if explain is None:
            yield f"explain {alias}: nobody is here to explain"
            continue
        answer = explain(world.id_of(alias))
        given = [] if answer is None else [answer] if isinstance(answer, str) else list(answer)
        rules = [] if wanted is None else [wanted] if isinstance(wanted, str) else wanted
        missing = [rule for rule in rules if rule.upper() not in {one.upper() for one in given}]
        if missing or (not rules and given):
            yield f"explain {alias}: expected {', '.join(rules) or 'nothing'}, was {', '.join(given) or 'nothing'}"


_SEARCHED = frozenset({"message", "order_reference"})
_CASELESS = frozenset({"state", "kind", "status", "event", "part_number", "provider_subscription"})


def _compared(what: str, wanted: BaseModel, actual: Mapping[str, Any], *, whole: bool = False) -> Iterator[str]:
    for name in type(wanted).model_fields:
        if name not in wanted.model_fields_set:
            continue
        expected, found = getattr(wanted, name), actual[name]
        if isinstance(expected, BaseModel):
            if found is None:
                yield f"{what} {name}: expected {expected.model_dump(exclude_unset=True)}, was none"
            else:
                yield from _compared(f"{what} {name}", expected, {"quantity": found.get("quantity")})
        elif not _same(name, expected, found, whole=whole):
            yield f"{what} {name}: expected {_shown(expected)}, was {_shown(found)}"


def _same(name: str, expected: Any, found: Any, *, whole: bool) -> bool:
    if expected is None or found is None:
        return expected is found
    if name in _SEARCHED:
        search = re.fullmatch if whole else re.search
        return bool(expected == found or search(expected, found, re.IGNORECASE))
    if name in _CASELESS:
        state = {"inactive": "suspended"}
        wanted = str(expected).lower()
        return state.get(wanted, wanted) == str(found).lower()
    if isinstance(expected, datetime):
        return bool(as_utc(expected) == found)
    return bool(expected == found)


def _status(world: World, row: Mapping[str, Any]) -> str | None:
    label = _label(world, LOG, f"{_LCL}provisioningstatus", row)
    return None if label is None else status_word(label)


def _label(world: World, table: str, column: str, row: Mapping[str, Any]) -> str | None:
    value = row[column]
    if value is None:
        return None
    try:
        return world.store.schema.label(table, column, value)
    except KeyError:
        return str(value)


def _shown(value: object) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)


def _there(value: object) -> str:
    return "none" if value is None else "one"
