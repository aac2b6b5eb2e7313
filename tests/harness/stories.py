"""The worlds of the harness: one small family each, what is pending in it, and what a person may do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from connector.sandbox.grammar import Scenario, Step
from connector.sandbox.scenario import build_scenario

PARENT, ATLANTA, NEW_YORK, MEMPHIS = "parent", "atlanta", "ny", "memphis"
CHILDREN = (ATLANTA, NEW_YORK, MEMPHIS)
SEATS = {ATLANTA: 10, NEW_YORK: 25, MEMPHIS: 15}
TENANT = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True, slots=True)
class Edit:
    """Something that a person does. ``rules`` are those that may hold the family for it; none: it must go through.

    ``needs_log`` is the subscription that must have a licence change log made in the story, else there is nothing to do.
    """

    name: str
    step: Step = field(repr=False)
    rules: frozenset[str] = frozenset()
    needs_log: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """A family with something pending."""

    name: str
    scenario: Scenario = field(repr=False)


def _scenario(name: str, *steps: dict[str, Any]) -> Scenario:
    sku = {"product": "M365-E3", "part_number": "CFQ7TTC0LFLX:0001"}
    bought = {
        "quantity": sum(SEATS.values()),
        "term": "P1Y",
        "commitment_end": "2026-12-31",
        "auto_renew": True,
        "scheduled": None,
        "batches": [{"quantity": 12, "until": "2026-03-08T14:00:00Z"}],
    }
    parent = {
        "id": PARENT, "contract": PARENT, **sku, "provider": "partner_center", "quantity": sum(SEATS.values()),
        "at_provider": {key: value for key, value in bought.items() if value is not None},
    }  # fmt: skip
    children = [
        {"id": child, "contract": child, **sku, "provider": "linked", "linked_to": PARENT, "quantity": seats}
        for child, seats in SEATS.items()
    ]
    return build_scenario(
        {
            "name": name,
            "clock": "2026-03-02T14:00:00Z",
            "time_zone": "America/New_York",
            "accounts": [{"id": "pinecone", "name": "Pine Cone Vet", "tenant": TENANT}],
            "contracts": [{"id": each, "account": "pinecone"} for each in (PARENT, *CHILDREN)],
            "subscriptions": [parent, *children],
            "steps": list(steps),
        }
    )


def _story(name: str, **changes: int) -> Story:
    return Story(name, _scenario(name, *({"change": {"subscription": key, "by": by}} for key, by in changes.items())))


STORIES = {
    story.name: story
    for story in (
        _story("increase", ny=10),
        _story("move-and-increase", atlanta=-5, ny=5, memphis=4),
        _story("move", atlanta=-5, ny=5),
        _story("decrease", ny=-4),
    )
}

_OF_THE_PARENT = frozenset({"LS-015", "LS-049"})


def _edits() -> tuple[Edit, ...]:
    raw: list[tuple[str, dict[str, Any], frozenset[str], str | None]] = [
        ("a child grows by 1", {"change": {"subscription": MEMPHIS, "by": 1}}, frozenset(), None),
        ("a child shrinks by 1", {"change": {"subscription": NEW_YORK, "by": -1}}, frozenset(), None),
        ("the parent is edited", {"crm_change": {"subscription": PARENT, "quantity": 73}}, _OF_THE_PARENT, None),
        (
            "the provider is edited",
            {"provider_change": {"subscription": PARENT, "quantity": 87}},
            frozenset({"LS-062"}),
            None,
        ),
        (
            "the parent's log is set to Failed",
            {"set_lcl": {"subscription": PARENT, "index": -1, "status": "Failed"}},
            frozenset({"LS-005"}),
            PARENT,
        ),
        (
            "the parent's log is set to Awaiting",
            {"set_lcl": {"subscription": PARENT, "index": -1, "status": "Awaiting"}},
            _OF_THE_PARENT,
            PARENT,
        ),
        (
            "a child's log is set to Not Applicable",
            {"set_lcl": {"subscription": NEW_YORK, "index": 0, "status": "Not Applicable"}},
            _OF_THE_PARENT,
            NEW_YORK,
        ),
    ]
    steps = _scenario("edits", *(step for _, step, _, _ in raw)).steps
    return tuple(Edit(name, step, rules, needs) for (name, _, rules, needs), step in zip(raw, steps, strict=True))


EDITS = _edits()
