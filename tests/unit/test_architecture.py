"""The house rules, read from the source: who imports whom, what the pure parts may not touch, how long a room is."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "connector"
MAX_LINES = 450

EDGES = frozenset({"crm", "providers", "http", "journal", "report"})
PURE_THIRD_PARTY = frozenset({"pydantic"})

MAY_IMPORT: dict[str, frozenset[str]] = {
    "": frozenset(),
    "__main__": frozenset({"cli"}),
    "errors": frozenset(),
    "document": frozenset({"errors"}),
    "secret_ref": frozenset({"errors"}),
    "settings": frozenset({"domain", "secret_ref"}),
    "config": frozenset({"document", "domain", "errors", "secret_ref", "settings"}),
    "mapping": frozenset({"document", "domain", "errors"}),
    "domain": frozenset(),
    "sync": frozenset({"domain", "errors"}),
    "http": frozenset({"domain", "errors", "sync.ports"}),
    "crm": frozenset({"domain", "errors", "http", "mapping", "sync.ports"}),
    "providers": frozenset({"domain", "errors", "http", "sync.ports"}),
    "journal": frozenset({"domain", "errors", "sync.ports"}),
    "report": frozenset({"domain", "errors", "sync.outcome", "sync.ports"}),  # it renders what came of a pass
    "sandbox": frozenset(),
    "bookkeeping": frozenset(
        {"config", "domain", "errors", "journal", "precautions", "settings", "sync.ports", "sync.outcome"}
    ),
    "precautions": frozenset({"domain", "errors", "mapping", "settings", "sync.safeguard"}),
    "wiring": frozenset(
        {"config", "document", "domain", "errors", "mapping", "precautions", "secret_ref", "settings", "sync", *EDGES}
    ),
    "explaining": frozenset({"config", "crm", "domain", "errors", "journal", "mapping", "settings", "sync", "wiring"}),
    "cli": frozenset(
        {
            "bookkeeping",
            "config",
            "domain",
            "errors",
            "explaining",
            "mapping",
            "precautions",
            "report",
            "secret_ref",
            "settings",
            "sync.outcome",
            "sync.stopping",
            "wiring",
        }
    ),  # what came of a pass is a value like others; how a pass works is wiring's to know
}
"""Room → rooms it may import besides itself. ``sync.ports`` is that one module; a room's name means all of it.

``connector`` itself (its version) is open to everybody but the sandbox and the domain. A room that is not listed here
is refused: add it when its place in the house is decided.
"""

SANDBOX_COMMANDS = frozenset({"demo", "rehearsal", "rehearse", "sandbox"})
"""Commands (and what they share) that may also import ``connector.sandbox``."""

IMPURE_MODULES = frozenset(
    {
        "asyncio", "http", "importlib", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
        "shutil", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
    }
)  # fmt: skip
"""Parts of the standard library that the domain has no use for: input, output, clocks, chance, the process."""


def module_name(path: Path) -> str:
    """``connector/domain/model.py`` → ``domain.model``; a package is named after its directory."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(module: str, tree: ast.AST, *, is_package: bool = False) -> Iterator[str]:
    """Absolute names of everything that a module imports, wherever in it the import stands."""
    package = ["connector", *module.split(".")] if module else ["connector"]
    package = package if is_package else package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from connector.sync import ports` names a module just as `from connector.sync.ports import Clock` does.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def import_breaches(module: str, tree: ast.AST, *, is_package: bool = False) -> Iterator[str]:
    room = module.split(".")[0]
    if room not in MAY_IMPORT:
        yield f"{module}: the room '{room}' has no place in the house yet (MAY_IMPORT)"
        return
    for name in imported(module, tree, is_package=is_package):
        top, _, inside = name.partition(".")
        if top != "connector":
            if room == "domain":
                yield from _domain_breaches(module, top)
            continue
        target = inside.split(".")[0]
        if target == room:
            continue
        if not _is_room(target):  # something of connector/__init__.py
            if room in ("domain", "sandbox"):
                yield f"{module}: imports {name}"
            continue
        allowed = MAY_IMPORT[room]
        if room == "cli" and target == "sandbox" and module.split(".")[-1] in SANDBOX_COMMANDS:
            continue
        if not any(inside == one or inside.startswith(f"{one}.") for one in allowed):
            yield f"{module}: imports {name}"


def _is_room(name: str) -> bool:
    return name in MAY_IMPORT or (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def _domain_breaches(module: str, top: str) -> Iterator[str]:
    if top in IMPURE_MODULES:
        yield f"{module}: the domain is pure, but imports {top}"
    elif top not in sys.stdlib_module_names and top not in PURE_THIRD_PARTY:
        yield f"{module}: the domain imports the standard library and pydantic only, not {top}"


def purity_breaches(module: str, tree: ast.AST) -> Iterator[str]:
    """Clocks, chance, environment and output in the two rooms that must get them handed in."""
    if module.split(".")[0] not in ("domain", "sync"):
        return
    aliases = {
        alias.asname: alias.name.split(".")[-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "open", "input")
        ):
            yield f"{module}:{node.lineno}: calls {node.func.id}()"
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            owner = aliases.get(owner, owner)
            if (owner, node.attr) in _IMPURE_ATTRIBUTES:
                yield f"{module}:{node.lineno}: uses {owner}.{node.attr}"
        names: tuple[str, ...] = ()
        if isinstance(node, ast.Import):
            names = tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        for name in names:
            if name in ("random", "secrets", "time.sleep", "time.time", "os.environ", "os.getenv", "uuid.uuid4"):
                yield f"{module}:{getattr(node, 'lineno', 0)}: imports {name}"


_IMPURE_ATTRIBUTES = frozenset(
    {
        ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
        ("time", "sleep"), ("time", "time"), ("time", "monotonic"),
        ("os", "environ"), ("os", "getenv"), ("uuid", "uuid1"), ("uuid", "uuid4"),
    }
)  # fmt: skip


def form_breaches(module: str, source: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > MAX_LINES:
        yield f"{module}: {lines} lines; a room has at most {MAX_LINES}"
    for part in module.split("."):
        if part.removesuffix("s") in ("util", "manager", "helper"):
            yield f"{module}: '{part}' does not say what lives there"


def breaches(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Everything that one module does against the house rules."""
    tree = ast.parse(source)
    return [
        *import_breaches(module, tree, is_package=is_package),
        *purity_breaches(module, tree),
        *form_breaches(module, source),
    ]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "connector")
def test_a_module_keeps_the_house_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = breaches(module_name(path), source, is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


def test_there_are_modules_to_look_at() -> None:
    rooms = {module_name(path).split(".")[0] for path in MODULES}
    assert {"domain", "sync", "sandbox", "cli", *EDGES} <= rooms


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.seats", "import requests"),
        ("domain.seats", "import logging"),
        ("domain.seats", "from os import path"),
        ("domain.seats", "from connector.errors import ConnectorError"),
        ("domain.seats", "from connector.sync.ports import Clock"),
        ("domain.rules.links", "from ...sync import ports"),
        ("domain.seats", "from connector import __version__"),
        ("domain.seats", "def f():\n    import socket"),
        ("domain.seats", "print(1)"),
        ("domain.calendar", "from datetime import datetime\nnow = datetime.now()"),
        ("domain.calendar", "import datetime\nnow = datetime.datetime.now()"),
        ("domain.calendar", "from datetime import date\ntoday = date.today()"),
        ("sync.unit", "from connector.http.transport import Transport"),
        ("sync.unit", "from connector import crm"),
        ("sync.unit", "import connector.journal.store"),
        ("sync.unit", "from connector.wiring import build"),
        ("sync.unit", "import time\ntime.sleep(1)"),
        ("sync.unit", "from time import sleep"),
        ("sync.unit", "import random"),
        ("sync.unit", "from datetime import datetime as dt\nnow = dt.now()"),
        ("sync.unit", "import os\nx = os.environ['A']"),
        ("sync.unit", "from uuid import uuid4"),
        ("http.transport", "from connector.crm import client"),
        ("http.transport", "from connector.sync.unit import Unit"),
        ("http.transport", "from connector.sync import unit"),
        ("crm.client", "from connector.journal import store"),
        ("crm.client", "from ..providers import registry"),
        ("providers.registry", "from connector.crm.client import Client"),
        ("journal.store", "from connector.http import transport"),
        ("report.plan", "from connector.http import transport"),
        ("report.plan", "from connector.config import Config"),
        ("sandbox.service", "from connector.domain.model import Price"),
        ("sandbox.service", "from connector.errors import ConnectorError"),
        ("sandbox.service", "from connector import __version__"),
        ("sandbox.dataverse.rows", "from ...http import transport"),
        ("wiring", "from connector.cli import main"),
        ("wiring", "from connector.sandbox.wire import Request"),
        ("cli.run", "from connector.http.redaction import redact"),
        ("cli.run", "from connector.crm.client import Client"),
        ("cli.run", "from connector.sync.unit import Unit"),
        ("cli.run", "from connector.sandbox.wire import Request"),
        ("cli.plan", "import connector.journal"),
        ("report.plan", "from connector.sync.run import Pass"),
        ("errors", "from connector.domain.model import Price"),
        ("config", "from connector.wiring import build"),
        ("attic", "x = 1"),
        ("crm.utils", "x = 1"),
        ("sync.run_manager.managers", "x = 1"),
        ("sync.long", "x = 1\n" * (MAX_LINES + 1)),
    ],
)  # fmt: skip
def test_a_breach_is_noticed(module: str, source: str) -> None:
    assert breaches(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.seats", "from pydantic import Field\nfrom connector.domain.model import Price\nimport dataclasses"),
        ("domain.rules.links", "from ..model import Price\nfrom . import registry"),
        ("domain.calendar", "from datetime import datetime, UTC\ndef f(now: datetime): return now.astimezone(UTC)"),
        ("sync.unit", "from connector.errors import StalePlan\nfrom connector.domain import seats\nimport logging"),
        ("sync.unit", "def f(clock): return clock.now()"),
        ("http.transport", "import requests\nfrom connector.sync.ports import Clock\nfrom connector.sync import ports"),
        ("http.session", "from connector import __version__"),
        ("crm.client", "from connector.http.transport import Transport\nfrom connector import http"),
        ("sandbox.service", "from connector.sandbox.wire import Request\nimport trustme"),
        ("wiring", "from connector.sync.unit import Unit\nfrom connector.crm import client\nimport os"),
        ("cli.run", "from connector.wiring import build\nfrom connector.report import plan\nprint(1)"),
        ("cli.demo", "from connector.sandbox.service import Sandbox"),
        ("sync.long", "x = 1\n" * MAX_LINES),
    ],
)  # fmt: skip
def test_what_the_house_allows_passes(module: str, source: str) -> None:
    assert breaches(module, source) == []


def test_a_package_resolves_its_relative_imports_from_itself() -> None:
    assert breaches("crm", "from .client import Client", is_package=True) == []
    assert breaches("crm", "from ..journal import store", is_package=True)
