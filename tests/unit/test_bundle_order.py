"""Which family goes before which: a base and its add-on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain.bundle_order import predecessors
from connector.domain.model import SubscriptionId
from tests.families import environment, family, log, parent, subscription

BASE, ADDON = SubscriptionId("parent"), SubscriptionId("addon")


def base(*changes: int):
    logs = [log("new_york", by, name=f"base-{at}") for at, by in enumerate(changes)]
    return family(parent(50), subscription("new_york", 50), logs=tuple(logs))


def addon(*changes: int):
    logs = [log("audio", by, name=f"addon-{at}") for at, by in enumerate(changes)]
    row = replace(parent(25), id=ADDON, name="addon", bundle_parent=BASE)
    return family(row, subscription("audio", 25, linked_parent=ADDON), logs=tuple(logs))


@pytest.mark.parametrize(
    ("base_changes", "addon_changes", "first"),
    [
        pytest.param((5,), (5,), "base", id="a base grows before its add-on"),
        pytest.param((-5,), (-5,), "addon", id="an add-on shrinks before its base"),
        pytest.param((5,), (-5,), None, id="an add-on that shrinks does not hold a base that only grows"),
        pytest.param((5, -1), (-5,), "addon", id="a base that gives something back goes after an add-on that shrinks"),
        pytest.param((5,), (5, -3), "base", id="an add-on that grows on the whole goes after its base"),
        pytest.param((-5,), (5,), None, id="a base that only shrinks does not hold an add-on that grows"),
        pytest.param((5,), (), None, id="an add-on without a change of its own holds nobody"),
    ],
)
def test_bases_grow_first_and_add_ons_shrink_first(base_changes, addon_changes, first):
    found = predecessors([base(*base_changes), addon(*addon_changes)], lambda _family: environment())
    expected = {BASE: frozenset(), ADDON: frozenset()}
    if first is not None:
        expected |= {ADDON: frozenset({BASE})} if first == "base" else {BASE: frozenset({ADDON})}
    assert found == expected
