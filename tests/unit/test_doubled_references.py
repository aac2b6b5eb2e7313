"""Two changes of one family whose references are the same: what is written can be read back."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from connector.domain.marker import Known, parse, reference
from connector.domain.model import LogId
from connector.domain.raising import raised_marker
from connector.domain.seats import balance
from tests.families import at_provider, family, log, parent, subscription


def two_of_one_reference():
    seen: dict[str, LogId] = {}
    for number in range(100_000):
        made = LogId(str(UUID(int=number)))
        if reference(made) in seen:
            return seen[reference(made)], made
        seen[reference(made)] = made
    raise AssertionError("a hash of 24 bits has some")


def test_a_raise_names_two_changes_that_share_a_reference_so_that_they_are_told_apart():
    one, other = two_of_one_reference()
    logs = (replace(log("new_york", 10), id=one), replace(log("atlanta", 3), id=other))
    rows = (parent(50), subscription("new_york", 40), subscription("atlanta", 23))
    snapshot = family(*rows, logs=logs, provider=at_provider(50))
    marker = raised_marker(snapshot, balance(snapshot), logs)
    groups = Known(logs).changes_of_all(parse(str(marker)).groups)
    assert [{change.id for change in changes} for _, changes in groups] == [{one, other}]
