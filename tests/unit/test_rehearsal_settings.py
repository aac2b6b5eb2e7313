"""What a rehearsal tells the connector of a scenario's world, and which state each of its hosts finds."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.cli.hosts import HostStates, running_on
from connector.cli.rehearsal import declared_settings, mapping_with_marker
from connector.sandbox.scenario import build_scenario

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (None, {}),
        ({}, {"work365": {"parent_log": "makes", "pushes": "no"}}),
        ({"parent_log": "late", "pushes": True}, {"work365": {"parent_log": "late", "pushes": "yes"}}),
        ({"pushes": "late", "copies_order_reference": False}, {"work365": {"parent_log": "makes", "pushes": "yes"}}),
        ({"parent_log": "none", "pushes": "yes", "declared": False}, {}),
    ],
)
def test_the_connector_is_told_of_the_log_and_the_pushes_unless_the_scenario_keeps_them_to_itself(
    section: Any, told: dict[str, Any]
) -> None:
    scenario = build_scenario({"name": "x", "work365": section})
    assert declared_settings(scenario) == told


def test_the_mapping_with_a_marker_is_the_shipped_one_and_one_column_more() -> None:
    shipped = yaml.safe_load((ROOT / "mappings" / "work365.yaml").read_text(encoding="utf-8"))
    written = yaml.safe_load(mapping_with_marker())
    marker = written["tables"]["subscription"]["columns"].pop("marker")
    assert marker == {"column": "work365_subscription_linksubmarker", "evidence": "assumed", "optional": True}
    shipped["tables"]["subscription"]["columns"].pop("marker", None)
    for document in (shipped, written):
        for table in document["tables"].values():
            for column in table["columns"].values():
                column.setdefault("optional", False)
    assert written == shipped


def states(tmp_path: Path) -> HostStates:
    return HostStates(tmp_path / "state", tmp_path)


def write(directory: Path, text: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "journal").write_text(text, encoding="utf-8")


def read(directory: Path) -> str | None:
    file = directory / "journal"
    return file.read_text(encoding="utf-8") if file.exists() else None


def one_pass(hosts: HostStates, host: str, journal: str | None, text: str, *, wrote: bool = True) -> str | None:
    """A pass that adds to its journal; returns what it found there."""
    directory = hosts.prepare(host, journal)
    found, copy = read(directory), hosts.copy(directory)
    write(directory, (found or "") + text)
    hosts.keep(host, directory, copy, wrote=wrote)
    return found


def test_host_a_has_the_main_state_and_another_one_of_its_own_unless_it_is_shared(tmp_path: Path) -> None:
    hosts = states(tmp_path)
    assert [one_pass(hosts, "a", journal, "1") for journal in (None, "own", "shared")] == [None, "1", "11"]
    assert read(tmp_path / "state") == "111"
    assert one_pass(hosts, "b", None, "2") is None
    assert one_pass(hosts, "b", "own", "2") == "2"
    assert one_pass(hosts, "b", "shared", "2") == "111"
    assert one_pass(hosts, "a", None, "1") == "1112"
    assert one_pass(hosts, "c", None, "3") is None


def test_a_lost_journal_is_that_hosts_own(tmp_path: Path) -> None:
    hosts = states(tmp_path)
    one_pass(hosts, "a", None, "1")
    one_pass(hosts, "b", None, "2")
    assert one_pass(hosts, "b", "lost", "2") is None
    assert one_pass(hosts, "a", None, "1") == "1"
    assert one_pass(hosts, "a", "lost", "1") is None


def test_an_older_journal_is_what_stood_before_that_hosts_last_pass_that_wrote(tmp_path: Path) -> None:
    hosts = states(tmp_path)
    with pytest.raises(ValueError, match="no pass of host a has written anything"):
        hosts.prepare("a", "older")
    one_pass(hosts, "a", None, "1")
    assert one_pass(hosts, "a", "older", "x", wrote=False) is None, "there was none before its first pass"
    assert one_pass(hosts, "a", None, "2") == "x"
    one_pass(hosts, "a", None, "3")
    one_pass(hosts, "a", None, "idle", wrote=False)
    one_pass(hosts, "b", None, "other")
    assert one_pass(hosts, "a", "older", "", wrote=False) == "x2"
    assert one_pass(hosts, "a", "older", "", wrote=False) == "x2", "it may be put back again"


def test_all_hosts_forget_together(tmp_path: Path) -> None:
    hosts = states(tmp_path)
    for host in ("a", "b"):
        one_pass(hosts, host, None, "1")
    hosts.forget()
    assert [one_pass(hosts, host, None, "1") for host in ("a", "b")] == [None, None]


def test_a_pass_at_another_host_has_another_name_and_only_for_its_time() -> None:
    real = socket.gethostname()
    with running_on("a"):
        assert socket.gethostname() == real
    with pytest.raises(RuntimeError), running_on("b"):
        assert socket.gethostname() == "host-b"
        raise RuntimeError
    assert socket.gethostname() == real
