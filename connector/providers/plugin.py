"""What a provider plug-in is: who fulfils a subscription's changes, what that provider can do, and how to reach it.

Another package adds one through the entry-point group ``linksub.providers``; an entry point names a
:class:`ProviderPlugin`. Rules only ever see :class:`~connector.domain.model.Capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from connector.errors import RemoteError
from connector.http.transport import Transport
from connector.providers.capabilities import Capabilities, FulfilledBy
from connector.sync.ports import Clock, Fulfilment


@dataclass(frozen=True, slots=True)
class RemoteService:
    """What a transport has to know about a provider's service.

    ``name`` appears in errors and logs, ``scope`` is what to ask the sign-in service for, ``requests_per_minute`` the
    service's own limit. ``parse_error`` reads (status, body) as (code, text); ``classify`` says which error a (status,
    code) is, or None to leave it to HTTP.
    """

    name: str
    base_url: str
    scope: str
    parse_error: Callable[[int, bytes], tuple[str, str]]
    classify: Callable[[int, str], type[RemoteError] | None]
    correlation_header: str = "x-correlation-id"
    requests_per_minute: int | None = None


class ProviderServices(Protocol):
    """What the wiring lends to a plug-in while it connects: never a session or a secret of its own."""

    def clock(self) -> Clock:
        """Time as the run sees it."""

    def open_transport(self, service: RemoteService) -> Transport:
        """Requests to one service with origin guard, sign-in, retry and rate gate. Raises ConfigError."""


Connect = Callable[[Mapping[str, object], ProviderServices], Fulfilment | None]
"""(the plug-in's own part of the configuration, services) → its adapter. Raises ConfigError; sends nothing."""


def connects_to_nothing(settings: Mapping[str, object], services: ProviderServices) -> Fulfilment | None:
    """For providers without a far side that linksub talks to."""
    return None


@dataclass(frozen=True, slots=True)
class ProviderPlugin:
    """One provider. ``key`` is what a subscription's provider is called inside linksub, ``title`` what people read.

    A plug-in that is fulfilled by an adapter **must** give ``connect``, and its adapter **must** keep the promises of
    :class:`connector.sync.ports.Fulfilment`.
    """

    key: str
    title: str
    capabilities: Capabilities
    fulfilled_by: FulfilledBy
    connect: Connect = connects_to_nothing
