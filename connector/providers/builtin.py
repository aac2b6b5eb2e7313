"""The providers that ship with linksub, as Work 365 knows them (Microsoft CSP is its ``partner_center``)."""

from __future__ import annotations

from collections.abc import Mapping

from connector.errors import ConfigError
from connector.providers.capabilities import Capabilities, FulfilledBy
from connector.providers.partner_center.client import PartnerCenter
from connector.providers.partner_center.errors import SERVICE, classify, parse_error
from connector.providers.plugin import ProviderPlugin, ProviderServices, RemoteService
from connector.sync.ports import Fulfilment

PUBLIC_CLOUD = "https://api.partnercenter.microsoft.com"
"""Public cloud and US Government; 21Vianet has its own address (Microsoft docs: "Partner Center REST URLs")."""

REQUESTS_PER_MINUTE = 500
"""Microsoft's limit for subscription resources, per tenant ("Subscription resources")."""


def connect_partner_center(settings: Mapping[str, object], services: ProviderServices) -> Fulfilment | None:
    """The Partner Center adapter. Sends nothing yet.

    ``settings``: ``base_url`` (default: public cloud), ``scope`` (default: that address followed by ``/.default``) and
    ``requests_per_minute``. Raises ConfigError with every problem found.
    """
    problems = [f"partner_center: unknown key {key!r}" for key in settings if key not in _SETTINGS]
    base_url = settings.get("base_url", PUBLIC_CLOUD)
    scope = settings.get("scope", f"{str(base_url).rstrip('/')}/.default")
    per_minute = settings.get("requests_per_minute", REQUESTS_PER_MINUTE)
    for key, value in (("base_url", base_url), ("scope", scope)):
        if not isinstance(value, str) or not value.strip():
            problems.append(f"partner_center: {key} is not a text")
    if not isinstance(per_minute, int) or isinstance(per_minute, bool) or per_minute < 1:
        problems.append("partner_center: requests_per_minute is not a whole number above 0")
    if problems or not isinstance(base_url, str) or not isinstance(scope, str) or not isinstance(per_minute, int):
        raise ConfigError(
            "the settings of provider partner_center cannot be used: " + "; ".join(problems),
            problems=problems,
            hint=f"It knows {', '.join(sorted(_SETTINGS))}.",
        )
    transport = services.open_transport(
        RemoteService(
            name=SERVICE,
            base_url=base_url,
            scope=scope,
            parse_error=parse_error,
            classify=classify,
            correlation_header="MS-CorrelationId",
            requests_per_minute=per_minute,
        )
    )
    return PartnerCenter(transport)


_SETTINGS = frozenset({"base_url", "scope", "requests_per_minute"})

BUILT_IN: tuple[ProviderPlugin, ...] = (
    ProviderPlugin(
        "do_nothing",
        "Do Nothing",
        Capabilities(reports=False, automatic=False, provisions=False),
        FulfilledBy.NOBODY,
    ),
    ProviderPlugin("manual", "Manual", Capabilities(reports=False, automatic=False), FulfilledBy.PERSON),
    ProviderPlugin(
        "linked", "Linked Subscription", Capabilities(reports=False, automatic=True), FulfilledBy.LINKED_PARENT
    ),
    ProviderPlugin(
        "partner_center",
        "Microsoft CSP (Partner Center)",
        Capabilities(reports=True, automatic=True, reduces=True, schedules=True),
        FulfilledBy.ADAPTER,
        connect_partner_center,
    ),
    ProviderPlugin(
        "rest",
        "Rest",
        Capabilities(reports=False, automatic=False, reduces=False, provisions=False),
        FulfilledBy.UNSUPPORTED,
    ),
)
