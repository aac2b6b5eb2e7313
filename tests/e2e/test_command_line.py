"""The command line against the sandbox, both as processes of their own: exit codes, errors and documents."""

from __future__ import annotations

import json
from pathlib import Path

import requests
import yaml

from connector.mapping import load_mapping


def changed(config: Path, **changes: object) -> Path:
    """A copy of a configuration with dotted keys changed."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        place = settings
        *parts, last = dotted.split("__")
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    path = config.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_sandbox_up_says_in_one_line_where_it_is_and_a_run_against_it_does_the_story(sandbox, linksub):
    running = sandbox()
    assert set(running.where) == {
        "dataverse",
        "partner_center",
        "sign_in",
        "tenant",
        "client_id",
        "client_secret",
        "ca_bundle",
        "config",
    }
    running.step(change={"subscription": "ny-e3", "quantity": 35})
    planned = linksub("--config", running.config, "plan", "--output", "json", "--detailed-exitcode")
    assert planned.returncode == 2, planned.stderr
    document = json.loads(planned.stdout)
    assert document["schema_version"] == 1
    assert document["plan"]["seats_added"] == 10
    assert document["plan"]["money_per_month_minor"] == {"USD": 36000}
    ran = linksub("--config", running.config, "run", "-v")
    assert ran.returncode == 0, ran.stderr
    assert "50 → 60 seats" in ran.stdout
    assert "PATCH subscription" in ran.stdout
    again = linksub("--config", running.config, "run", "--output", "json")
    assert (again.returncode, json.loads(again.stdout)["outcomes"]) == (0, [])


def test_a_change_made_over_the_web_api_by_another_client_is_pushed(sandbox, linksub):
    running = sandbox()
    where = running.where
    token = requests.post(
        f"{where['sign_in']}/{where['tenant']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": where["client_id"],
            "client_secret": where["client_secret"],
            "scope": f"{where['dataverse']}/.default",
        },
        verify=where["ca_bundle"],
        timeout=10,
    ).json()["access_token"]
    api = f"{where['dataverse']}/api/data/v9.2/work365_subscriptions"
    talk = {"headers": {"Authorization": f"Bearer {token}"}, "verify": where["ca_bundle"], "timeout": 10}
    found = requests.get(
        api,
        params={"$filter": "contains(work365_subscription_subscriptionname,'EMS-E3 Pine Cone Vet Atlanta')"},
        **talk,
    )
    [atlanta] = found.json()["value"]
    url = f"{api}({atlanta['work365_subscriptionid']})"
    assert requests.patch(url, json={"work365_subscription_quantity": 6}, **talk).status_code == 204
    assert linksub("--config", running.config, "run").returncode == 0
    trace = running.control("GET", "trace")
    entries = trace["entries"] if isinstance(trace, dict) else trace
    assert [entry["method"] for entry in entries if entry["write"] and entry["service"] == "partner_center"] == [
        "PATCH"
    ]


def test_a_wrong_secret_ends_with_77_and_says_what_to_do_without_the_secret(sandbox, linksub, tmp_path):
    running = sandbox()
    secret = tmp_path / "wrong"
    secret.write_text("not-the-secret-at-all", encoding="utf-8")
    secret.chmod(0o600)
    failed = linksub("--config", changed(running.config, sign_in__client_secret=f"file:{secret}"), "run")
    assert failed.returncode == 77
    assert "AADSTS7000215" in failed.stderr
    assert "hint:" in failed.stderr
    assert "not-the-secret-at-all" not in failed.stderr + failed.stdout


def test_no_permission_ends_with_77(sandbox, linksub):
    story = (Path(__file__).parents[2] / "connector/sandbox/scenarios/new_york_grows.yaml").read_text(encoding="utf-8")
    for refusal, text in (("not_a_member", "not a member"), ("no_privilege", "privilege")):
        running = sandbox(f"access: {{dataverse: {refusal}}}\n{story}")
        failed = linksub("--config", running.config, "run")
        assert failed.returncode == 77
        assert text in failed.stderr
        assert "hint:" in failed.stderr


def test_an_unreachable_service_ends_with_75_and_is_named(sandbox, linksub):
    running = sandbox()
    failed = linksub(
        "--config", changed(running.config, sign_in__authority="https://127.0.0.1:9", http__attempts=1), "run"
    )
    assert failed.returncode == 75
    assert "sign-in" in failed.stderr.lower() or "sign_in" in failed.stderr
    for service in ("dataverse", "partner_center"):
        running.step(change={"subscription": "ny-e3", "by": 1})
        running.step(fault={"service": service, "kind": "lost_request", "times": 1})
        failed = linksub("--config", changed(running.config, http__attempts=1), "run")
        assert failed.returncode == 75, (service, failed.stderr, failed.stdout)
        assert service in (failed.stderr + failed.stdout).lower().replace("partner center", "partner_center")
        assert linksub("--config", running.config, "run").returncode == 0


def test_a_column_that_the_organisation_lacks_ends_with_78_and_names_its_neighbours(sandbox, linksub, tmp_path):
    running = sandbox()
    assert load_mapping("work365").name == "work365"
    shipped = Path(__file__).parents[2] / "mappings" / "work365.yaml"
    own = tmp_path / "own.yaml"
    own.write_text(
        shipped.read_text(encoding="utf-8").replace("work365_subscription_quantity,", "work365_subscription_quantty,"),
        encoding="utf-8",
    )
    failed = linksub("--config", changed(running.config, mapping=str(own)), "run")
    assert failed.returncode == 78
    assert "work365_subscription_quantty" in failed.stderr
    assert "work365_subscription_quantity" in failed.stderr


def test_a_typo_in_the_configuration_ends_with_78_with_file_line_and_fix(sandbox, linksub):
    running = sandbox()
    failed = linksub("--config", changed(running.config, policy__provder_drift="push"), "run")
    assert failed.returncode == 78
    assert "provder_drift" in failed.stderr
    assert "did you mean provider_drift" in failed.stderr
    assert "changed.yaml" in failed.stderr


def test_no_configuration_and_a_wrong_option_are_told_apart(linksub):
    assert linksub("run").returncode == 78
    assert linksub("run", "--onyl", "x").returncode == 64
    assert linksub("rehearse", "nowhere.yaml").returncode == 64


def test_rehearse_says_what_differed_and_ends_with_1(linksub, tmp_path):
    story = (Path(__file__).parents[2] / "connector/sandbox/scenarios/new_york_grows.yaml").read_text(encoding="utf-8")
    (tmp_path / "good.yaml").write_text(story, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(
        story.replace("p-e3: {quantity: 60}", "p-e3: {quantity: 61}", 1), encoding="utf-8"
    )
    good, bad = linksub("rehearse", "good.yaml"), linksub("rehearse", "good.yaml", "bad.yaml")
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "expected 61, was 60" in bad.stdout
    broken = linksub("rehearse", "--output", "json", "good.yaml")
    assert json.loads(broken.stdout)["passed"] == 1


def test_a_scenario_with_a_typo_is_refused_with_its_place(linksub, tmp_path):
    (tmp_path / "typo.yaml").write_text(
        "name: x\nclock: 2026-03-02T14:00:00Z\nsubscriptons: []\nsteps: []\n", encoding="utf-8"
    )
    failed = linksub("rehearse", "typo.yaml")
    assert failed.returncode == 1
    assert "subscriptons" in failed.stdout


def test_the_demo_tells_the_story_and_its_second_run_writes_nothing(linksub):
    told = linksub("demo", "--output", "json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["second_run_wrote_nothing"] is True
    assert [run["exit_code"] for run in document["runs"]] == [0, 0, 0]
    shown = linksub("demo", COLUMNS="60")
    assert "writes at Partner Center: 0, in Dataverse: 0" in shown.stdout


def test_explain_says_why_and_who_blocks_whom_as_text_and_as_a_document(sandbox, linksub):
    running = sandbox()
    running.step(change={"subscription": "ny-e3", "quantity": 35})
    body = {"code": "800023", "description": "Credit limit exceeded.", "data": [], "source": "PartnerFD"}
    running.step(fault={"service": "partner_center", "method": "PATCH", "status": 403, "body": body})
    assert linksub("--config", running.config, "run").returncode == 3
    text = linksub("--config", running.config, "explain", "M365-E3 Pine Cone Vet New York")
    assert text.returncode == 0, text.stderr
    assert "The +10 that it was raised by" in text.stdout
    assert "Who blocks whom" in text.stdout
    assert "[LS-005]" in text.stdout
    several = linksub("--config", running.config, "explain", "New York")
    assert several.returncode == 64
    assert "may mean 2 subscriptions" in several.stderr
    whole = linksub("--config", running.config, "explain", "M365-E3 Pine Cone Vet New York", "--output", "json")
    document = json.loads(whole.stdout)
    assert document["schema_version"] == 1
    (family,) = document["families"]
    (blocker,) = family["blockers"]
    assert blocker["message"] == "Credit limit exceeded."
    asked = linksub("--config", running.config, "explain", blocker["blocks"][0]["log"], "--output", "json")
    assert json.loads(asked.stdout)["families"][0]["asked_log"] == blocker["blocks"][0]["log"]
    unknown = linksub("--config", running.config, "explain", "Chattanooga")
    assert unknown.returncode == 64
    assert "Chattanooga" in unknown.stderr
