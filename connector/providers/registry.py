"""Finding provider plug-ins: those that ship, and those that other installed packages bring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, Protocol

from connector.errors import ConfigError
from connector.providers.builtin import BUILT_IN
from connector.providers.capabilities import Capabilities, FulfilledBy
from connector.providers.plugin import ProviderPlugin, ProviderServices, connects_to_nothing
from connector.sync.ports import ProviderHandle

ENTRY_POINT_GROUP = "linksub.providers"

_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")


class EntryPoint(Protocol):
    """The part of :class:`importlib.metadata.EntryPoint` that is used here."""

    @property
    def name(self) -> str:
        """What the package calls it."""

    @property
    def value(self) -> str:
        """``module:attribute``."""

    def load(self) -> Any:
        """Import the module and return the attribute."""


def load_plugins(entry_points: Iterable[EntryPoint] | None = None) -> Mapping[str, ProviderPlugin]:
    """Every provider plug-in by its key; ``entry_points`` are those of the installed packages unless given.

    Raises ConfigError with every problem found: an entry point that cannot be imported, is not a ProviderPlugin,
    contradicts itself, or takes a key that is taken. A broken plug-in stops the start rather than a run later.
    """
    found = metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
    plugins = {plugin.key: plugin for plugin in BUILT_IN}
    origin = dict.fromkeys(plugins, "linksub itself")
    problems: list[str] = []
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        source = f"{entry.name} = {entry.value}"
        try:
            plugin = entry.load()
        except Exception as error:  # noqa: BLE001 - somebody else's module may fail in any way while it is imported
            problems.append(f"{source}: cannot be loaded ({type(error).__name__}: {error})")
            continue
        problem = _problem_of(plugin)
        if problem is not None:
            problems.append(f"{source}: {problem}")
        elif plugin.key in plugins:
            problems.append(f"{source}: the key {plugin.key!r} is already taken by {origin[plugin.key]}")
        else:
            plugins[plugin.key] = plugin
            origin[plugin.key] = source
    if problems:
        raise ConfigError(
            "provider plug-ins cannot be used: " + "; ".join(problems),
            problems=problems,
            hint="Remove or repair the packages that bring them (`pip list`).",
        )
    return MappingProxyType(plugins)


def connect_plugins(
    plugins: Mapping[str, ProviderPlugin], settings: Mapping[str, Mapping[str, object]], services: ProviderServices
) -> Mapping[str, ProviderHandle]:
    """The providers as a pass sees them, connected; ``settings`` are each plug-in's own, by its key.

    A provider that linksub does not serve is left out, as rules hold families whose provider nothing handles; with
    capabilities it would pass for one that a person serves. Raises ConfigError with every problem found. Sends nothing.
    """
    problems = [f"{key}: there are settings for it and no such provider" for key in settings if key not in plugins]
    handles: dict[str, ProviderHandle] = {}
    for key, plugin in plugins.items():
        if plugin.fulfilled_by is FulfilledBy.UNSUPPORTED:
            continue
        try:
            fulfilment = plugin.connect(settings.get(key, {}), services)
        except ConfigError as error:
            problems.extend(error.problems or [f"{key}: {error}"])
            continue
        if plugin.fulfilled_by is FulfilledBy.ADAPTER and fulfilment is None:
            problems.append(f"{key}: it is fulfilled by an adapter and connected none")
        handles[key] = ProviderHandle(key, plugin.title, plugin.capabilities, fulfilment)
    if problems:
        raise ConfigError("providers cannot be connected: " + "; ".join(problems), problems=problems)
    return MappingProxyType(handles)


def _problem_of(plugin: object) -> str | None:
    if not isinstance(plugin, ProviderPlugin):
        return f"it is a {type(plugin).__name__}, not a ProviderPlugin"
    if not isinstance(plugin.key, str) or not _KEY.fullmatch(plugin.key):
        return f"its key {plugin.key!r} is not made of lower-case letters, digits and underscores"
    if not isinstance(plugin.capabilities, Capabilities) or not isinstance(plugin.fulfilled_by, FulfilledBy):
        return "its capabilities or who fulfils it are of the wrong type"
    if not callable(plugin.connect):
        return "its connect cannot be called"
    has_adapter = plugin.connect is not connects_to_nothing
    if has_adapter != (plugin.fulfilled_by is FulfilledBy.ADAPTER):
        return "it connects an adapter exactly if it is fulfilled by one"
    return None
