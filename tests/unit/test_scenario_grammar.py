"""Scenario files load as the grammar says, and everything wrong with one is said at once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from connector.sandbox.grammar import Step
from connector.sandbox.scenario import ScenarioError, load_scenario, parse_scenario

PUBLISHED = """
name: New York grows
clock: 2026-03-02T14:00:00Z
time_zone: America/New_York
policy: {}
accounts:      [{id: pinecone, name: Pine Cone Vet, tenant: 11111111-1111-4111-8111-111111111111}]
contracts:     [{id: parent, account: pinecone, name: P}, {id: ny, account: pinecone, name: Pine Cone Vet New York}]
subscriptions:
  - {id: p-e3,  contract: parent, product: M365-E3, part_number: "CFQ7TTC0LFLX:0001", provider: partner_center,
     quantity: 25, at_provider: {quantity: 25, term: P1Y, commitment_end: 2026-12-31, auto_renew: true}}
  - {id: ny-e3, contract: ny, product: M365-E3, part_number: "CFQ7TTC0LFLX:0001", provider: linked, linked_to: p-e3,
     quantity: 25}
steps:
  - change: {subscription: ny-e3, quantity: 35}
  - run: {exit: 0}
  - expect:
      subscriptions: {p-e3: {quantity: 35}}
      provider: {p-e3: {quantity: 35}}
      lcls: {ny-e3: [{quantity: 10, status: Provisioned}], p-e3: [{quantity: 10, status: Provisioned}]}
      provider_writes: 1
  - advance: 10m
  - provider_change: {subscription: p-e3, quantity: 70}
  - crm_change: {subscription: p-e3, quantity: 70}
  - set_lcl: {subscription: p-e3, index: -1, status: Provisioned}
  - fault: {service: partner_center, method: PATCH, kind: lost_response, times: 1}
"""


def steps(text: str) -> list[Step]:
    world = "accounts: [{id: a}]\ncontracts: [{id: c}]\nsubscriptions: [{id: s, contract: c}, {id: t, linked_to: s}]\n"
    return parse_scenario(world + "steps:\n" + text).steps


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, source="a.yaml")
    return list(caught.value.problems)


def test_the_published_example_loads() -> None:
    scenario = parse_scenario(PUBLISHED)
    assert scenario.clock == datetime(2026, 3, 2, 14, tzinfo=UTC)
    assert [step.kind for step in scenario.steps] == [
        "change", "run", "expect", "advance", "provider_change", "crm_change", "set_lcl", "fault",
    ]  # fmt: skip
    bought = scenario.subscriptions[0].at_provider
    assert bought is not None and bought.commitment_end == date(2026, 12, 31)


def test_everything_else_that_the_grammar_names_loads() -> None:
    found = steps("""
  - change: {subscription: t, by: -3, effective: 2026-04-01}
  - change: {subscription: t, deactivate: true, effective: on_renewal}
  - change: {subscription: t, activate: true, effective: immediately}
  - change: {subscription: t, price: true}
  - run: {exit: 3, dry_run: true, only: s, crash_after: 4}
  - run:
  - run
  - forget_state: true
  - advance: 7d
  - advance: 1h30m
  - at: 2026-12-31T23:00:00-05:00
  - provider_change: {subscription: s, status: suspended, auto_renew: false, scheduled: {quantity: 5}}
  - crm_change: {subscription: t, provider: do_nothing, part_number: null, state: suspended, linked_to: null}
  - link: {subscription: t, linked_to: s, provider: linked}
  - fault: {service: dataverse, method: POST, path: $batch, kind: status, status: 429, retry_after: 30, skip: 1}
  - fault: {service: sign_in, kind: status, status: 500, body: {a: 1}, times: 2}
  - expect: {crm_writes: 0, explain: {t: LS-014}, lcls: {t: [{status: failed provisioning, message: "no.*"}], s: []}}
  - expect: {provider: {s: {auto_renew: true, status: active, scheduled: null}}}
""")
    assert found[8].advance == timedelta(days=7) and found[9].advance == timedelta(minutes=90)
    assert found[10].at == datetime(2027, 1, 1, 4, tzinfo=UTC)
    expected = found[16].expect
    assert expected is not None and expected.lcls is not None and expected.lcls["t"][0].status == "Failed"
    assert found[5].run is not None and found[6].run is not None


def test_worlds_deaths_hosts_and_networks_load() -> None:
    found = steps("""
  - run: {crash_after: parent_raised}
  - run: {crash_in_batch: 0, host: b, journal: own}
  - run: {crash_after: 4, host: second-host, journal: older}
  - fault: {service: partner_center, method: PATCH, kind: status, status: 503, for: 104s}
  - fault: {service: dataverse, kind: replayed, for: 1m, times: 2, skip: 1}
  - fault: {service: partner_center, kind: late, after: 40m}
  - lagging_reads: {service: partner_center, for: 90s}
  - erase_marker: {subscription: s}
  - crm_change: {subscription: s, order_reference: null}
  - expect: {subscriptions: {s: {order_reference: null}, t: {order_reference: 4711}}}
""")
    runs = [step.run for step in found[:3]]
    assert [run.crash_after for run in runs if run is not None] == ["parent_raised", None, 4]
    assert [(run.host, run.journal) for run in runs if run is not None] == [
        ("a", None), ("b", "own"), ("second-host", "older"),
    ]  # fmt: skip
    assert found[3].fault is not None and found[3].fault.lasts == timedelta(seconds=104)
    assert found[5].fault is not None and found[5].fault.after == timedelta(minutes=40)
    assert found[6].lagging_reads is not None and found[6].lagging_reads.lag == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("text", "pushes", "copies"),
    [
        ("{pushes: no, copies_order_reference: yes}", "no", "yes"),
        ("{pushes: yes, copies_order_reference: no}", "yes", "no"),
        ("{pushes: 'yes', copies_order_reference: 'no'}", "yes", "no"),
        ("{pushes: true, copies_order_reference: false}", "yes", "no"),
        ("{pushes: late, copies_order_reference: altered}", "late", "altered"),
        ("{}", "no", "yes"),
    ],
)
def test_yes_and_no_mean_the_same_however_yaml_reads_them(text: str, pushes: str, copies: str) -> None:
    spec = parse_scenario(f"work365: {text}").work365
    assert spec is not None and (spec.pushes, spec.copies_order_reference, spec.parent_log) == (pushes, copies, "makes")


def test_a_scenario_without_the_section_has_the_usual_work365() -> None:
    assert parse_scenario("accounts: []").work365 is None and parse_scenario("work365:").work365 is None


def test_subscriptions_take_what_bad_worlds_need() -> None:
    scenario = parse_scenario("""
accounts: [{id: a, provider_accounts: [{tenant: wrong}, {provider: null, tenant: null}]}]
subscriptions:
  - {id: s, state: suspended, trial: true, created_on: 2026-01-01, reduction: within_window, reduction_days: 7,
     customer: null, provider: null, provider_account: null, part_number: null, quantity: null, cost: 12.50,
     price: 15, currency: EUR, unit: year, order_reference: x, billable: false, deactivate_on: 2026-05-01,
     at_provider: {status: expired, trial: true, id: 33333333-3333-4333-8333-333333333333, scheduled: {quantity: 3},
                   batches: [{quantity: 4, until: 2026-03-05T00:00:00Z}], updates: 1190, max_quantity: 300}}
  - {id: add-on, base: s, linked_to: 99999999-9999-4999-8999-999999999999}
""")
    assert scenario.subscriptions[0].customer is None
    assert "customer" in scenario.subscriptions[0].model_fields_set
    assert "customer" not in scenario.subscriptions[1].model_fields_set


def test_every_problem_is_said_at_once_with_file_key_and_hint() -> None:
    found = problems("""
clok: 2026-03-02T14:00:00Z
time_zone: Mars/Olympus
subscriptions:
  - {id: p, quantitty: 5, at_provider: {term: P2Y, scheduled: {quantity: 1, wat: 2}}}
steps:
  - change: {subscription: p}
  - chnage: {subscription: p, quantity: 1}
  - advance: soon
  - {run: {}, advance: 1d}
  - set_lcl: {subscription: p, status: Done}
""")
    text = "\n".join(found)
    assert "a.yaml: clok: unknown key; did you mean 'clock'?" in found
    assert "a.yaml: subscriptions[1].quantitty: unknown key; did you mean 'quantity'?" in found
    assert "a.yaml: subscriptions[1].at_provider.scheduled.wat: unknown key; known here: quantity, term" in found
    assert "a.yaml: steps[2].chnage: unknown key; did you mean 'change'?" in found
    assert "a.yaml: steps[3].advance: not a length of time such as 45s, 10m, 1h30m or 7d (given: 'soon')" in found
    for needle in ("no such time zone", "at_provider.term", "changes nothing", "exactly one key", "must be Awaiting"):
        assert needle in text
    assert all(line.startswith("a.yaml: ") for line in found)


def test_references_to_nothing_are_found_before_anything_is_played() -> None:
    found = problems("""
contracts: [{id: c, account: nobody}, {id: c}]
subscriptions: [{id: ny-e3, linked_to: p-e3}, {id: p-e5, contract: d, base: ny-e4}]
steps:
  - change: {subscription: ny-e4, quantity: 1}
  - expect: {provider: {p-e3: {quantity: 1}}, lcls: {x: []}}
""")
    assert "a.yaml: contracts: the id 'c' stands twice" in found
    assert "a.yaml: contracts[1].account: no such id 'nobody'; known: none" in found
    assert "a.yaml: subscriptions[1].linked_to: no such id 'p-e3'; did you mean 'p-e5'?" in found
    assert "a.yaml: subscriptions[2].base: no such id 'ny-e4'; did you mean 'ny-e3'?" in found
    assert "a.yaml: steps[1].change.subscription: no such id 'ny-e4'; did you mean 'ny-e3'?" in found
    assert any(line.startswith("a.yaml: steps[2].expect.provider: no such id 'p-e3'") for line in found)
    assert any(line.startswith("a.yaml: steps[2].expect.lcls: no such id 'x'") for line in found)


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("accounts: [{id: a, id: b}]", "key 'id' stands twice"),
        ("accounts: [", "not readable as YAML"),
        ("- a", "a scenario is a mapping"),
        ("accounts: [{id: no}]", "put it in quotes"),
        ("accounts: !!python/object/apply:os.system ['true']", "not readable as YAML"),
        ("accounts: [{id: a, tenant: xyz}]", "not a GUID"),
        ("steps: [{expect: {lcls: {a: [{message: '('}]}}}]", "not a regular expression"),
        ("steps: [{change: {subscription: a, quantity: 1, by: 1}}]", "either quantity or by"),
        ("work365: {parent_logs: late}", "did you mean 'parent_log'?"),
        ("work365: {parent_log: never}", "'makes', 'late', 'not_applicable' or 'none'"),
        ("work365: {late_by: 5s}", "give parent_log: late"),
        ("work365: {parent_log: late, late_by: 0s}", "longer than nothing"),
        ("work365: {pushes: sometimes}", "'yes', 'no' or 'late'"),
        ("steps: [{run: {crash_after: bought}}]", "or one of: parent_raised, purchased, scheduled, acknowledged"),
        ("steps: [{run: {crash_after: 0}}]", "a number of calls from 1 on"),
        ("steps: [{run: {crash_after: true}}]", "a number of calls from 1 on"),
        ("steps: [{run: {crash_after: 1, crash_in_batch: 1}}]", "a process dies once"),
        ("steps: [{run: {crash_in_batch: -1}}]", "greater than or equal to 0"),
        ("steps: [{run: {host: ../b}}]", "steps[1].run.host"),
        ("steps: [{run: {journal: borrowed}}]", "'shared', 'own', 'lost' or 'older'"),
        ("steps: [{fault: {after: 1m}}]", "give kind: late"),
        ("steps: [{fault: {fore: 1m}}]", "did you mean 'for'?"),
        ("steps: [{fault: {lasts: 1m}}]", "unknown key"),
        ("steps: [{fault: {for: 0s}}]", "longer than nothing"),
        ("steps: [{lagging_reads: {}}]", "steps[1].lagging_reads.for: missing"),
        ("steps: [{lagging_reads: {service: dataverse, for: 1m}}]", "'partner_center'"),
        ("steps: [{erase_marker: {subscription: nobody}}]", "no such id 'nobody'"),
    ],
)
def test_what_is_no_scenario_is_refused_with_the_reason(text: str, needle: str) -> None:
    assert needle in "\n".join(problems(text))


def test_files_are_loaded_by_path_and_named_after_it(tmp_path: Path) -> None:
    file = tmp_path / "seat-move.yaml"
    file.write_text("accounts: []\npolicy:\nsteps:\n", encoding="utf-8")
    assert load_scenario(file).name == "seat-move"
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "missing.yaml")
