"""A package outside linksub adds a rule and a provider by entry point; installed, both are listed and both decide."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import connector
from connector.cli.rehearsal import Rehearsal
from connector.sandbox.scenario import build_scenario

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "outside_package"
SKU = "CFQ7TTC0LFLX:0001"
TENANT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package installed into a directory of its own, as ``pip install --target`` leaves it.

    The installed form is written from the package's pyproject here, since an installer may not be at hand (and may not
    reach an index) where tests run.
    """
    site = tmp_path / "site"
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    about = project["project"]
    for name in project["tool"]["setuptools"]["packages"]:
        shutil.copytree(PACKAGE / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n", encoding="utf-8"
    )
    lines = []
    for group, entries in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package on this process's path too."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "linksub_contoso"]:
        del sys.modules[name]


def linksub(site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(each) for each in (site, ROOT) if each is not None)
    return subprocess.run(
        [sys.executable, "-m", "connector", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def story(provider: str, by: int, *expected: dict[str, object], **changes: object) -> Rehearsal:
    bought = {"at_provider": {"quantity": 25, "term": "P1Y"}} if provider == "partner_center" else {}
    return Rehearsal(
        build_scenario(
            {
                "name": "A change at Contoso",
                "accounts": [
                    {"id": "pinecone", "tenant": TENANT, "provider_accounts": [{"provider": provider, "tenant": TENANT}]}
                ],
                "contracts": [{"id": "c", "account": "pinecone"}],
                "subscriptions": [
                    {
                        "id": "parent", "contract": "c", "product": "E3", "part_number": SKU, "provider": provider,
                        "quantity": 25, **bought, **({"provider_subscription": "box-1"} if not bought else {}),
                    },
                    {
                        "id": "ny", "contract": "c", "product": "E3", "part_number": SKU, "provider": "linked",
                        "linked_to": "parent", "quantity": 25,
                    },
                ],
                "steps": [
                    {"change": {"subscription": "ny", "by": by}},
                    {"run": {}},
                    *expected,
                ],
            }
        ),
        changes=changes,
    )  # fmt: skip


def test_an_installed_packages_rule_is_listed(site: Path) -> None:
    listed = linksub(site, "rules", "--output", "json")
    assert listed.returncode == 0, listed.stderr
    rules = {rule["id"]: rule for rule in json.loads(listed.stdout)["rules"]}
    assert rules["CONTOSO-001"]["source"] == "Contoso's purchasing policy"
    shown = linksub(site, "rules", "contoso-001")
    assert "No more than twenty seats are bought at once." in shown.stdout
    assert linksub(None, "rules", "CONTOSO-001").returncode == 64


def test_an_installed_packages_rule_decides(installed: Path) -> None:
    with story("partner_center", 21) as rehearsal:
        assert rehearsal.play().differences == []
        (outcome,) = rehearsal.results[-1].outcomes
        assert (outcome.rule, outcome.state.value) == ("CONTOSO-001", "held")
        assert rehearsal.sandbox.writes().provider == 0
        assert rehearsal.explain(rehearsal.sandbox.world.id_of("ny")) == ["CONTOSO-001"]
    with story("partner_center", 20) as rehearsal:
        assert rehearsal.play().differences == []
        assert rehearsal.sandbox.world.bought("parent").quantity == 45


def test_without_the_package_nobody_holds_the_same_change() -> None:
    with story("partner_center", 21) as rehearsal:
        assert rehearsal.play().differences == []
        assert rehearsal.sandbox.world.bought("parent").quantity == 46


def test_an_installed_packages_provider_is_provisioned_through(installed: Path, tmp_path: Path) -> None:
    """The CRM's provider type "Rest" is Contoso's store here: one line in the mapping says so."""
    text = (Path(connector.__file__).parents[1] / "mappings" / "work365.yaml").read_text(encoding="utf-8")
    assert "\n    rest: [Rest]\n" in text
    mapping = tmp_path / "contoso.yaml"
    mapping.write_text(
        text.replace("\n    rest: [Rest]\n", "\n    rest: [Another]\n    contoso_store: [Rest]\n"), encoding="utf-8"
    )
    store = importlib.import_module("linksub_contoso.provider")
    store.SEATS[(TENANT, "box-1")] = 25
    expected = {
        "expect": {
            "subscriptions": {"parent": {"quantity": 35}},
            "lcls": {"parent": [{"status": "Provisioned"}], "ny": [{"status": "Provisioned"}]},
        }
    }
    with story("rest", 10, expected, mapping=str(mapping)) as rehearsal:
        assert rehearsal.play().differences == []
        (outcome,) = rehearsal.results[-1].outcomes
        assert outcome.state.value == "done", outcome.reason
        assert store.SEATS == {(TENANT, "box-1"): 35}


def test_a_package_that_takes_a_number_that_is_taken_stops_the_start_and_is_named(site: Path) -> None:
    rules = site / "linksub_contoso" / "rules.py"
    rules.write_text(rules.read_text(encoding="utf-8").replace("CONTOSO-001", "LS-014"), encoding="utf-8")
    listed = linksub(site, "rules")
    assert listed.returncode == 78
    assert "LS-014" in listed.stderr


def test_a_package_that_cannot_be_imported_stops_the_start_and_is_named(site: Path) -> None:
    (site / "linksub_contoso" / "rules.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    listed = linksub(site, "rules")
    assert listed.returncode == 78
    assert "linksub_contoso.rules:RULES" in listed.stderr
