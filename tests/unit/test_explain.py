"""Who blocks whom: a pure question about logs."""

from __future__ import annotations

from connector.domain.explain import blockers
from tests.families import log


def test_blockers_are_found_through_a_chain_oldest_first_and_a_circle_ends() -> None:
    old, young = log("a", 1, name="old", minutes_ago=90), log("b", 1, name="young", minutes_ago=30)
    middle, last = log("a", 2, name="middle", minutes_ago=60), log("a", 3, name="last", minutes_ago=20)
    other = log("b", 2, name="other", minutes_ago=10)
    logs = [last, other, middle, young, old]
    found = blockers(logs, {middle.id: old.id, last.id: middle.id, other.id: young.id})
    assert [(each.log.id, [entry.id for entry in each.blocked]) for each in found] == [
        ("old", ["middle", "last"]),
        ("young", ["other"]),
    ]
    assert blockers([last], {last.id: middle.id}) == (), "a blocker that was not read"
    assert len(blockers(logs, {old.id: young.id, young.id: old.id})) <= 2, "a circle comes to an end"
