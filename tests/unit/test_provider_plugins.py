"""Provider plug-ins: those that ship, those that others bring, and what happens when two want the same key."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from connector.errors import ConfigError
from connector.http.transport import Transport
from connector.providers.builtin import BUILT_IN
from connector.providers.capabilities import Capabilities, FulfilledBy
from connector.providers.partner_center.client import PartnerCenter
from connector.providers.partner_center.errors import classify, parse_error
from connector.providers.plugin import ProviderPlugin, ProviderServices, RemoteService
from connector.providers.registry import connect_plugins, load_plugins
from connector.sync.ports import Clock, Fulfilment


@dataclass
class Entry:
    """An entry point that loads to a given value or fails with it."""

    name: str
    loads: object
    value: str = "their.package:plugin"

    def load(self) -> object:
        if isinstance(self.loads, Exception):
            raise self.loads
        return self.loads


class StillClock:
    """Always the same instant."""

    def now(self) -> datetime:
        return datetime(2026, 3, 2, 14, 0, tzinfo=UTC)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits while connecting")


class Services:
    """Notes which service a plug-in wants to reach; no transport is used while connecting."""

    def __init__(self) -> None:
        self.asked: list[RemoteService] = []

    def clock(self) -> Clock:
        return StillClock()

    def open_transport(self, service: RemoteService) -> Transport:
        self.asked.append(service)
        return object.__new__(Transport)


def connect_theirs(settings: Mapping[str, object], services: ProviderServices) -> Fulfilment | None:
    return None


PLAIN = Capabilities(reports=False, automatic=False)


def theirs(key: str = "distributor") -> ProviderPlugin:
    return ProviderPlugin(
        key, "A distributor", Capabilities(reports=True, automatic=True), FulfilledBy.ADAPTER, connect_theirs
    )


def test_the_providers_of_work_365_ship() -> None:
    plugins = load_plugins([])
    assert {key: plugin.fulfilled_by.value for key, plugin in plugins.items()} == {
        "do_nothing": "nobody",
        "manual": "person",
        "linked": "linked_parent",
        "partner_center": "adapter",
        "rest": "unsupported",
    }


def test_only_partner_center_reports_and_schedules() -> None:
    capabilities = {key: plugin.capabilities for key, plugin in load_plugins([]).items()}
    assert [key for key, can in capabilities.items() if can.reports] == ["partner_center"]
    assert [key for key, can in capabilities.items() if can.schedules] == ["partner_center"]
    assert capabilities["partner_center"].automatic
    assert not capabilities["manual"].automatic
    assert not capabilities["do_nothing"].provisions


def test_another_package_adds_a_provider_by_entry_point() -> None:
    plugins = load_plugins([Entry("distributor", theirs())])
    assert plugins["distributor"].title == "A distributor"
    assert len(plugins) == len(BUILT_IN) + 1


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_linksub_provider.py").write_text(
        textwrap.dedent(
            """
            from connector.providers.capabilities import Capabilities, FulfilledBy
            from connector.providers.plugin import ProviderPlugin
            by_hand = Capabilities(reports=False, automatic=False)
            plugin = ProviderPlugin("paper_form", "Paper form", by_hand, FulfilledBy.PERSON)
            """
        ),
        encoding="utf-8",
    )
    info = tmp_path / "their_linksub_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-linksub-provider\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[linksub.providers]\npaper = their_linksub_provider:plugin\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_plugins()["paper_form"].fulfilled_by is FulfilledBy.PERSON


@pytest.mark.parametrize(
    ("loads", "said"),
    [
        (theirs("partner_center"), "already taken by linksub itself"),
        (ImportError("no module named x"), "cannot be loaded"),
        (ZeroDivisionError("import"), "ZeroDivisionError"),
        ("a text", "not a ProviderPlugin"),
        (theirs("Not A Key"), "lower-case"),
        (theirs(""), "lower-case"),
        (ProviderPlugin("x", "X", PLAIN, FulfilledBy.ADAPTER), "exactly if"),
        (ProviderPlugin("x", "X", PLAIN, FulfilledBy.PERSON, connect_theirs), "exactly if"),
        (ProviderPlugin("x", "X", {"reports": True}, FulfilledBy.PERSON), "wrong type"),  # type: ignore[arg-type]
        (ProviderPlugin("x", "X", PLAIN, FulfilledBy.ADAPTER, None), "cannot be called"),  # type: ignore[arg-type]
    ],
)
def test_a_plugin_that_cannot_be_used_stops_the_start_and_says_why(loads: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugins([Entry("theirs", loads)])
    assert said in caught.value.problems[0]
    assert "their.package:plugin" in caught.value.problems[0]


def test_two_packages_with_one_key_are_a_conflict_that_names_both_and_hides_no_other_problem() -> None:
    entries = [Entry("b", theirs(), "b.package:plugin"), Entry("a", theirs(), "a.package:plugin"), Entry("c", None)]
    with pytest.raises(ConfigError) as caught:
        load_plugins(entries)
    assert len(caught.value.problems) == 2
    assert "b = b.package:plugin" in caught.value.problems[0]
    assert "taken by a = a.package:plugin" in caught.value.problems[0]


def test_partner_center_connects_to_the_public_cloud_by_default() -> None:
    services = Services()
    adapter = load_plugins([])["partner_center"].connect({}, services)
    assert isinstance(adapter, PartnerCenter)
    (asked,) = services.asked
    assert asked == RemoteService(
        name="partner_center",
        base_url="https://api.partnercenter.microsoft.com",
        scope="https://api.partnercenter.microsoft.com/.default",
        parse_error=parse_error,
        classify=classify,
        correlation_header="MS-CorrelationId",
        requests_per_minute=500,
    )


def test_partner_center_goes_where_the_settings_say() -> None:
    services = Services()
    settings = MappingProxyType({"base_url": "https://127.0.0.1:8443", "scope": "s", "requests_per_minute": 60})
    load_plugins([])["partner_center"].connect(settings, services)
    assert (services.asked[0].base_url, services.asked[0].scope, services.asked[0].requests_per_minute) == (
        "https://127.0.0.1:8443",
        "s",
        60,
    )


def test_every_wrong_setting_of_partner_center_is_named_at_once() -> None:
    settings = {"base_url": 5, "scope": " ", "requests_per_minute": True, "baseurl": "x"}
    with pytest.raises(ConfigError) as caught:
        load_plugins([])["partner_center"].connect(settings, Services())
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("key", ["do_nothing", "manual", "linked", "rest"])
def test_a_provider_without_far_side_connects_to_nothing(key: str) -> None:
    services = Services()
    assert load_plugins([])[key].connect({}, services) is None
    assert services.asked == []


def test_the_token_is_for_the_address_of_the_settings_unless_they_say_otherwise() -> None:
    services = Services()
    load_plugins([])["partner_center"].connect({"base_url": "https://partner.example/"}, services)
    assert services.asked[0].scope == "https://partner.example/.default"


def test_a_pass_sees_every_provider_that_is_served_and_not_the_one_that_is_not() -> None:
    services = Services()
    handles = connect_plugins(load_plugins([]), {"partner_center": {"base_url": "https://partner.example"}}, services)
    assert sorted(handles) == ["do_nothing", "linked", "manual", "partner_center"]
    assert [key for key, handle in handles.items() if handle.fulfilment is not None] == ["partner_center"]
    assert services.asked[0].base_url == "https://partner.example"


def test_everything_that_keeps_providers_from_being_connected_is_named_at_once() -> None:
    plugins = load_plugins([Entry("distributor", theirs())])
    with pytest.raises(ConfigError) as caught:
        connect_plugins(plugins, {"partner_center": {"base_url": 1}, "nobody": {}}, Services())
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "nobody",
        "partner_center",
        "distributor",
    ]
