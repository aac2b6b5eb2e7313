"""One small world for each deciding rule, in which that rule and no other has the word.

``test_mutation_of_rules`` takes each rule out of the book (and turns it round) and shows that its world comes out
differently. A rule without a world here fails a test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from connector.domain.model import (
    CatalogueEntry,
    LicenseChangeLog,
    LogKind,
    NotAtProvider,
    NotReported,
    ReductionBehavior,
    ScheduledEvent,
    ScheduledLicenseChangeLog,
    ScheduledStatus,
    Snapshot,
    Subscription,
    SubscriptionId,
    TenantId,
    Unreadable,
)
from connector.domain.policy import Policy
from connector.domain.rules.registry import Environment
from tests.families import (
    ACCOUNT,
    FAILED,
    MANUAL,
    NOT_APPLICABLE,
    NOW,
    PROVISIONED,
    at_provider,
    carrying,
    environment,
    family,
    log,
    parent,
    raised,
    subscription,
)


@dataclass(frozen=True)
class Witness:
    """A world in which a rule decides."""

    snapshot: Snapshot
    env: Environment


def _family(child: Subscription | None = None, *, delta: int = 10, seats: int = 50, **changes: Any) -> Snapshot:
    """A parent and two children that add up; New York's change is open."""
    new_york = child or subscription("new_york", 25)
    grown = replace(new_york, quantity=(new_york.quantity or 0) + delta)
    logs = changes.pop("logs", (log("new_york", delta),))
    the_parent = changes.pop("the_parent", parent(seats))
    return family(the_parent, subscription("atlanta", 25), grown, logs=logs, **changes)


def _carried(**parent_log: Any) -> Snapshot:
    """An earlier pass raised the parent by New York's ten; the provider has not confirmed them."""
    return _on_its_way(log("new_york", 10), **parent_log)


def _on_its_way(pending: LicenseChangeLog, **parent_log: Any) -> Snapshot:
    own = log("parent", 10, name="own", minutes_ago=1, **parent_log)
    row = carrying(60, raised(pending, before=50))
    return _family(the_parent=row, logs=(pending, own), provider=at_provider(50))


def _paid_and_failed() -> Snapshot:
    """New York's ten are bought, and a person set its log to Failed."""
    found = _on_its_way(log("new_york", 10, status=FAILED), status=PROVISIONED)
    return replace(found, provider=at_provider(60))


def _pushed() -> Snapshot:
    """Work 365's own engine raised the parent by ten, and two children asked for ten."""
    logs = (log("new_york", 10), log("atlanta", 10), log("parent", 10, name="own", minutes_ago=1))
    rows = (subscription("atlanta", 35), subscription("new_york", 35))
    return family(parent(60), *rows, logs=logs, provider=at_provider(50))


def _addon(base_quantity: int = 25, *, delta: int = 5, base_open: bool = False, **base: Any) -> Snapshot:
    """An add-on family of 25 seats on a base parent."""
    row = subscription(
        "base", base_quantity, linked_parent=None, provider="partner_center", part_number="CFQ7TTC0LF8R:0001"
    )
    open_logs = (log("base", 5),) if base_open else ()
    grown = replace(subscription("new_york", 25), quantity=25 + delta)
    return family(
        parent(25, bundle_parent=SubscriptionId("base")),
        grown,
        logs=(log("new_york", delta),),
        bases=(replace(row, **base),),
        base_logs=open_logs,
        provider=at_provider(25, reducible=25),
    )


def _scheduled(day: date, status: ScheduledStatus = ScheduledStatus.PENDING) -> Snapshot:
    entry = ScheduledLicenseChangeLog(
        "slcl", SubscriptionId("new_york"), ScheduledEvent.UPDATE, status, day, 40, NOW - timedelta(days=30)
    )
    return _family(scheduled=(entry,))


SKU = "CFQ7TTC0LFLX:0001"
BASE_SKU = "CFQ7TTC0LF8R:0001"
_OTHER = TenantId("22222222-2222-4222-8222-222222222222")
_REDUCIBLE = at_provider(50, reducible=25)
_SHARE = Policy.model_validate({"products": {SKU: {"prerequisites": [BASE_SKU], "max_percent_of_prerequisites": 100}}})
_POOL = Policy.model_validate({"products": {SKU: {"max_seats_per_customer": 55}}})
_RATIO = Policy.model_validate({"products": {SKU: {"seats_per_base_seat": 1}}})


def _stopped_with_a_return_by_hand() -> Snapshot:
    """One raise carried forty seats more and gave sixty back; the forty were stopped, the sixty settled by hand."""
    more = log("new_york", 40, name="more", minutes_ago=9)
    given = log("new_york", -60, name="given", minutes_ago=8)
    logs = (replace(more, status=FAILED), replace(given, status=PROVISIONED), log("parent", -20, minutes_ago=1))
    row = carrying(30, raised(more, given, before=50))
    return family(row, subscription("new_york", 30), logs=logs, provider=at_provider(50))


def _witness(snapshot: Snapshot, policy: Policy | None = None, **env: Any) -> Witness:
    return Witness(snapshot, environment(policy, **env))


WITNESSES: dict[str, Witness] = {
    "LS-002": _witness(_family(subscription("new_york", 25, provider="manual"), seats=25)),
    "LS-003": _witness(_family(subscription("new_york", 25, provider="do_nothing"), seats=25)),
    "LS-004": _witness(
        _family(logs=(log("new_york", 4, name="first", status=FAILED, minutes_ago=9), log("new_york", 6)))
    ),
    "LS-005": _witness(_carried(status=FAILED, message="no credit")),
    "LS-008": _witness(_family(logs=(log("new_york", 10, kind=LogKind.AUDIT),), delta=0)),
    "LS-009": _witness(_family(logs=(log("new_york", 10, provision_on=NOW.date() + timedelta(days=3)),))),
    "LS-010": _witness(family(None, subscription("new_york", 35, linked_parent=None), logs=(log("new_york", 10),))),
    "LS-011": _witness(_family(subscription("new_york", 25, part_number="CFQ7TTC0LHT4:0001"))),
    "LS-012": _witness(_family(the_parent=parent(50, provider="linked", linked_parent=SubscriptionId("another")))),
    "LS-013": _witness(_family(the_parent=parent(50, provider_account_id=None), accounts=())),
    "LS-014": _witness(_family(subscription("new_york", 25, customer_id=None))),
    "LS-015": _witness(_family(the_parent=parent(57), provider=at_provider(57))),
    "LS-016": _witness(
        _family(subscription("new_york", 25, reduction=ReductionBehavior.DISALLOWED), delta=-5, provider=_REDUCIBLE)
    ),
    "LS-017": _witness(_family(delta=-5)),
    "LS-018": _witness(
        family(
            parent(25),
            subscription("new_york", 25, active=False),
            logs=(log("new_york", -25),),
            provider=at_provider(25, reducible=25),
        )
    ),
    "LS-019": _witness(_family(provider=at_provider(50, status="suspended"))),
    "LS-020": _witness(_addon(provider="do_nothing")),
    "LS-021": _witness(
        replace(_family(), at_customer=(at_provider(50), replace(at_provider(55), part_number=BASE_SKU, id="base"))),
        _SHARE,
    ),
    "LS-029": _witness(_addon(base_open=True)),
    "LS-035": _witness(_carried(status=NOT_APPLICABLE)),
    "LS-044": _witness(
        _family(delta=-5, provider=at_provider(50, auto_renew=False)), Policy(refused_decrease="schedule")
    ),
    "LS-049": _witness(
        _family(the_parent=parent(70), logs=(log("new_york", 10), log("parent", 20)), provider=at_provider(50))
    ),
    "LS-052": _witness(_family(provider=NotAtProvider("the tenant has no subscription of this SKU"))),
    "LS-054": _witness(_family(incomplete="a page failed")),
    "LS-055": _witness(replace(_family(), children=(subscription("atlanta", None), subscription("new_york", 35)))),
    "LS-056": _witness(_family(), capabilities=None),
    "LS-057": _witness(_family(accounts=(replace(ACCOUNT, tenant=_OTHER),))),
    "LS-058": _witness(
        _family(
            the_parent=carrying(60, raised(log("new_york", 10), before=50), provider="manual"),
            provider=NotReported(),
        ),
        capabilities=MANUAL,
    ),
    "LS-059": _witness(_family(provider=Unreadable("status 503"))),
    "LS-060": _witness(_family(delta=-5, provider=_REDUCIBLE), Policy(decreases="hold")),
    "LS-062": _witness(_family(provider=at_provider(70))),
    "LS-064": _witness(_addon(25), _RATIO),
    "LS-065": _witness(_scheduled(NOW.date() - timedelta(days=3))),
    "LS-066": _witness(_scheduled(NOW.date() + timedelta(days=3))),
    "LS-067": _witness(_family(catalogue=(CatalogueEntry("E3", "another", "Contoso", SKU),))),
    "LS-070": _witness(_pushed(), pushes=True),
    "LS-072": _witness(_family(the_parent=parent(50, marker_text="ls2:cut"))),
    "LS-073": _witness(_paid_and_failed()),
    "LS-074": _witness(_on_its_way(log("new_york", 10, status=NOT_APPLICABLE))),
    "LS-080": _witness(_stopped_with_a_return_by_hand()),
    "LS-081": Witness(
        _family(delta=-5, provider=at_provider(50, reducible=10)), replace(environment(), addon_first="Audio")
    ),
    "PC-009": _witness(_family(provider=at_provider(50, is_trial=True))),
    "PC-011": _witness(replace(_family(), at_customer=(at_provider(50),)), _POOL),
}
"""Rule id → its world."""

HEALTHY = _witness(_family(the_parent=parent(50), provider=_REDUCIBLE))
"""Nothing is wrong here: New York's ten seats go."""
