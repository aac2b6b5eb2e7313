"""Plan files: one canonical form, a digest that every field is under, and refusal of everything else."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.domain.digest import action_record, canonical_json, digest, inputs_of, moved
from connector.domain.model import LicenseChangeLog, ProvisioningStatus, Subscription
from connector.domain.plan import Plan
from connector.domain.rounds import plan_family
from connector.domain.rules.builtin import BUILTIN
from connector.domain.saved import MadeWith, SavedFamily
from connector.errors import ConfigError, ExitCode
from connector.report.planfile import is_plan_file, plan_file, read_plan_file, render
from connector.sync.outcome import RunResult
from tests.families import NOW, at_provider, environment, family, log, parent, subscription

MADE_WITH = MadeWith(
    "ann@host", "1.0", {"policy": {"netting": True, "limits": {"seats_added": 10}}}, "c0ffee", "sha256:1"
)
SNAPSHOT = family(
    parent(50),
    subscription("ny", 35),
    subscription("atlanta", 25),
    logs=(log("ny", 10), log("atlanta", -3, minutes_ago=9), log("atlanta", 3, minutes_ago=8)),
    provider=at_provider(50, reducible=4),
)
ENV = environment()


def saved(snapshot: Any = SNAPSHOT) -> SavedFamily:
    plan = plan_family(snapshot, ENV, BUILTIN)
    actions = tuple(map(action_record, plan.actions))
    return SavedFamily(plan.family, plan.name, plan.family, True, inputs_of(snapshot, ENV), actions)


def document() -> dict[str, Any]:
    plan = Plan((plan_family(SNAPSHOT, ENV, BUILTIN),))
    result = RunResult("run", NOW, NOW, True, plan, "UTC", saved_families=(saved(),))
    return dict(plan_file(result, MADE_WITH, timedelta(hours=2)))


def test_a_plan_file_is_read_back_as_it_was_written() -> None:
    text = render(document()).encode()
    plan = read_plan_file(text, "plan.json")
    assert is_plan_file(text)
    assert plan.families == (saved(),)
    assert plan.made_with == MADE_WITH
    assert (plan.created_at, plan.expires_at) == (NOW, NOW + timedelta(hours=2))
    assert plan.families[0].plans_the_same(plan_family(SNAPSHOT, ENV, BUILTIN))


def test_the_order_of_keys_and_the_layout_of_the_file_make_no_difference() -> None:
    turned = dict(reversed(list(document().items())))
    assert read_plan_file(json.dumps(turned, indent=7).encode(), "plan.json") == read_plan_file(
        render(document()).encode(), "plan.json"
    )


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [found for key, inner in value.items() for found in leaves(inner, (*path, key))]
    if isinstance(value, list) and value:
        return [found for at, inner in enumerate(value) for found in leaves(inner, (*path, at))]
    return [path]


def test_a_change_of_any_value_in_the_file_is_refused() -> None:
    original = json.loads(render(document()))
    places = leaves(original)
    assert len(places) > 200
    for path in places:
        edited = json.loads(render(document()))
        place = edited
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "something else"
        with pytest.raises(ConfigError) as raised:
            read_plan_file(json.dumps(edited).encode(), "plan.json")
        assert raised.value.exit_code is ExitCode.CONFIGURATION, path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "no plan file"),
        (b"{}", "no plan file"),
        (b'{"kind": "linksub plan", "kind": "linksub plan"}', "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"kind": "linksub plan", "schema_version": 2}', "form 2"),
        (b'{"kind": "linksub plan", "schema_version": 1}', "digest"),
    ],
)
def test_what_is_no_plan_file_is_refused_in_words(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_plan_file(text, "plan.json")


def test_a_file_with_the_right_digest_that_lacks_something_is_refused_too() -> None:
    content = {key: value for key, value in json.loads(render(document())).items() if key not in ("digest", "families")}
    with pytest.raises(ConfigError, match="lacks something"):
        read_plan_file(json.dumps({**content, "digest": digest(content)}).encode(), "plan.json")


def test_the_digest_of_the_inputs_does_not_depend_on_the_order_of_rows() -> None:
    turned = replace(SNAPSHOT, children=SNAPSHOT.children[::-1], logs=SNAPSHOT.logs[::-1])
    assert digest(inputs_of(turned, ENV)) == digest(inputs_of(SNAPSHOT, ENV))
    assert canonical_json({"b": 1, "a": [2]}) == '{"a":[2],"b":1}'


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case datetime():
            return value + timedelta(seconds=1)
        case tuple():
            return (*value, "more")
        case ProvisioningStatus():
            return ProvisioningStatus.FAILED
    return f"{value or ''}-other"


@pytest.mark.parametrize("name", [one.name for one in fields(Subscription) if one.name not in ("id", "modified_on")])
def test_every_field_of_a_row_is_under_the_digest(name: str) -> None:
    child = SNAPSHOT.children[0]
    edited = replace(SNAPSHOT, children=(replace(child, **{name: another(getattr(child, name))}), SNAPSHOT.children[1]))
    assert digest(inputs_of(edited, ENV)) != digest(inputs_of(SNAPSHOT, ENV))
    assert len(saved().moves(inputs_of(edited, ENV))) == 1


@pytest.mark.parametrize("name", [one.name for one in fields(LicenseChangeLog) if one.name not in ("id", "name")])
def test_every_field_of_a_log_is_under_the_digest(name: str) -> None:
    entry = SNAPSHOT.logs[0]
    edited = replace(SNAPSHOT, logs=(replace(entry, **{name: another(getattr(entry, name))}), *SNAPSHOT.logs[1:]))
    assert digest(inputs_of(edited, ENV)) != digest(inputs_of(SNAPSHOT, ENV))


def test_when_a_row_was_changed_says_no_more_than_its_version_does() -> None:
    touched = replace(SNAPSHOT, parent=replace(parent(50), modified_on=NOW))
    assert digest(inputs_of(touched, ENV)) == digest(inputs_of(SNAPSHOT, ENV))


def test_the_marker_is_under_the_digest_once_whether_or_not_it_shares_its_column() -> None:
    shared = replace(SNAPSHOT, parent=parent(50, marker_text="PO 17", order_reference="PO 17"))
    apart = replace(SNAPSHOT, parent=parent(50, marker_text="ls2:", order_reference="PO 17"))
    record = inputs_of(shared, ENV)["parent"]["parent"]
    assert ("marker_text" in record, record["order_reference"]) == (False, "PO 17")
    assert digest(inputs_of(apart, ENV)) != digest(inputs_of(shared, ENV))


def test_accounts_of_customers_that_were_read_together_with_a_family_are_none_of_its_inputs() -> None:
    stranger = replace(SNAPSHOT.accounts[0], id="elsewhere", account_id="another customer")
    together = replace(SNAPSHOT, accounts=(*SNAPSHOT.accounts, stranger))
    assert digest(inputs_of(together, ENV)) == digest(inputs_of(SNAPSHOT, ENV))
    moved_tenant = replace(SNAPSHOT, accounts=(replace(SNAPSHOT.accounts[0], tenant=None),))
    assert digest(inputs_of(moved_tenant, ENV)) != digest(inputs_of(SNAPSHOT, ENV))


def test_what_moved_is_named_with_old_and_new() -> None:
    before = inputs_of(SNAPSHOT, ENV)
    grown = replace(SNAPSHOT.children[0], quantity=36, etag='W/"2"')
    edited = replace(
        SNAPSHOT,
        children=(grown, SNAPSHOT.children[1]),
        logs=SNAPSHOT.logs[1:],
        provider=at_provider(51, reducible=4),
        parent=replace(parent(50), etag='W/"9"'),
    )
    said = [str(change) for change in moved(before, inputs_of(edited, ENV))]
    assert "child ny: quantity 35 → 36" in said
    assert "log of ny (+10): there → nothing" in said
    assert "provider quantity 50 → 51" in said
    assert 'parent parent: version W/"1" → W/"9"' in said
    assert not any("version" in text for text in said if "ny" in text)


def test_other_settings_another_mapping_and_another_linksub_make_a_plan_stale_and_are_named() -> None:
    settings = {"policy": {"netting": False, "limits": {"seats_added": 10}}}
    now = MadeWith("bob@elsewhere", "1.1", settings, "other", "sha256:2")
    assert MADE_WITH.moves(replace(MADE_WITH, created_by="bob@elsewhere")) == ()
    assert MADE_WITH.moves(now) == (
        "policy.netting true → false",
        "the content of the mapping changed",
        "linksub 1.0 → 1.1",
    )
    assert MADE_WITH.moves(replace(MADE_WITH, settings_digest="other")) == ("the configuration is another one",)


def test_only_planned_actions_are_found_in_a_saved_plan_and_only_forwards() -> None:
    planned = plan_family(SNAPSHOT, ENV, BUILTIN).actions
    family_plan = saved()
    assert [family_plan.position_of(action, 0) for action in planned] == list(range(len(planned)))
    assert family_plan.position_of(planned[0], 1) is None
    assert family_plan.position_of(replace(planned[0], target=61), 0) is None  # type: ignore[call-arg]
