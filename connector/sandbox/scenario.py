"""Scenario files: reading them, and saying everything that is wrong with one at once.

The grammar itself stands in :mod:`connector.sandbox.grammar`.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from connector.sandbox.grammar import Scenario, Step


class ScenarioError(Exception):
    """A scenario that cannot be played; ``problems`` holds one line per mistake: file, key and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario file. Raises ScenarioError with every problem that the file has."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError([f"{file}: cannot be read: {error}"]) from error
    return parse_scenario(text, source=str(file), name=file.stem)


def parse_scenario(text: str, *, source: str = "scenario", name: str = "scenario") -> Scenario:
    """Read a scenario from YAML text. ``name`` is used if the text gives none. Raises ScenarioError."""
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader that refuses more still
    except yaml.YAMLError as error:
        raise ScenarioError([f"{source}: not readable as YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ScenarioError([f"{source}: not readable as YAML: it is nested too deep"]) from error
    if not isinstance(document, dict):
        raise ScenarioError([f"{source}: a scenario is a mapping with clock, accounts, subscriptions and steps"])
    return build_scenario({"name": name, **document}, source=source)


def build_scenario(document: Mapping[str, Any], *, source: str = "scenario") -> Scenario:
    """A scenario from plain values. Raises ScenarioError."""
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(_readable(error, Scenario, source)) from error
    problems = [f"{source}: {problem}" for problem in _references(scenario)]
    if problems:
        raise ScenarioError(problems)
    return scenario


def build_step(document: object, scenario: Scenario, *, source: str = "step") -> Step:
    """One step from plain values, as a person sends it to a running sandbox. Raises ScenarioError."""
    try:
        step = Step.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(_readable(error, Step, source)) from error
    problems = [f"{source}: {problem}" for problem in _step_references("", step, _Known(scenario))]
    if problems:
        raise ScenarioError(problems)
    return step


_MAX_VALUES = 1_000_000


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; one that contains itself stands for more than are allowed."""
    if id(node) not in known:
        known[id(node)] = _MAX_VALUES + 1  # until it is counted
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """YAML's safe subset; a key that stands twice, and aliases that expand without bound, are mistakes."""

    def get_single_node(self) -> yaml.Node | None:
        """The document's tree, if it is not larger with its aliases expanded than a scenario can be."""
        root: yaml.Node | None = super().get_single_node()
        if root is not None and _expanded(root, {}) > _MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "aliases (*) expand too far", root.start_mark)
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# A clock time such as 23:30 is a clock time, as in YAML 1.2, and not a number to the base of sixty.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$") if tag == "tag:yaml.org,2002:int" else pattern)
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:float" or first in "-+0123456789."
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _readable(error: ValidationError, model: type[BaseModel], source: str) -> list[str]:
    lines: dict[str, None] = {}
    for entry in error.errors(include_url=False):
        place = entry["loc"]
        where = _path(place)
        if entry["type"] == "extra_forbidden":
            known = _known_keys(model, place[:-1])
            close = difflib.get_close_matches(str(place[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"
            lines[f"{source}: {where}: unknown key; {hint}"] = None
        elif entry["type"] == "missing":
            lines[f"{source}: {where}: missing; add it"] = None
        else:
            message = entry["msg"].removeprefix("Value error, ")
            given = entry.get("input")
            shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
            lines[f"{source}: {where}: {message}{shown}"] = None
    return list(lines)


def _path(place: Sequence[int | str]) -> str:
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        elif not part.startswith(("function-", "constrained-", "literal[")):
            text += f".{part}" if text else part
    return text or "(the whole file)"


def _known_keys(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The keys that the grammar knows at a place, found by walking the models' annotations."""
    current: list[Any] = [model]
    for part in place:
        following: list[Any] = []
        for candidate in current:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel) and part in candidate.model_fields:
                following += _unwrapped(candidate.model_fields[str(part)].annotation)
            elif typing.get_origin(candidate) in (list, tuple, dict):
                following += _unwrapped(typing.get_args(candidate)[-1])
        current = following or current
    keys: list[str] = []
    for candidate in current:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            keys += [field.alias or name for name, field in candidate.model_fields.items()]
    return keys


def _unwrapped(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _unwrapped(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [found for option in typing.get_args(annotation) for found in _unwrapped(option)]
    return [annotation]


class _Known:
    """The aliases of a scenario, by what they stand for."""

    def __init__(self, scenario: Scenario) -> None:
        self.accounts = {account.id for account in scenario.accounts}
        self.contracts = {contract.id for contract in scenario.contracts}
        self.subscriptions = {sub.id for sub in scenario.subscriptions}


def _references(scenario: Scenario) -> Iterator[str]:
    for kind, aliases in (
        ("accounts", [account.id for account in scenario.accounts]),
        ("contracts", [contract.id for contract in scenario.contracts]),
        ("subscriptions", [sub.id for sub in scenario.subscriptions]),
    ):
        for alias in sorted({alias for alias in aliases if aliases.count(alias) > 1}):
            yield f"{kind}: the id {alias!r} stands twice"
    known = _Known(scenario)
    for number, account in enumerate(scenario.accounts, start=1):
        yield from _unknown(f"accounts[{number}].parent", account.parent, known.accounts)
    for number, contract in enumerate(scenario.contracts, start=1):
        yield from _unknown(f"contracts[{number}].account", contract.account, known.accounts)
    for number, sub in enumerate(scenario.subscriptions, start=1):
        where = f"subscriptions[{number}]"
        yield from _unknown(f"{where}.contract", sub.contract, known.contracts)
        yield from _unknown(f"{where}.customer", sub.customer, known.accounts)
        yield from _unknown(f"{where}.linked_to", sub.linked_to, known.subscriptions)
        yield from _unknown(f"{where}.base", sub.base, known.subscriptions)
    for number, step in enumerate(scenario.steps, start=1):
        yield from _step_references(f"steps[{number}].", step, known)


def _step_references(where: str, step: Step, known: _Known) -> Iterator[str]:
    place, content = f"{where}{step.kind}", step.content
    for field in ("subscription", "linked_to", "base"):
        yield from _unknown(f"{place}.{field}", getattr(content, field, None), known.subscriptions)
    yield from _unknown(f"{place}.contract", getattr(content, "contract", None), known.contracts)
    yield from _unknown(f"{place}.customer", getattr(content, "customer", None), known.accounts)
    if step.expect is not None:
        for field in ("subscriptions", "provider", "lcls", "slcls", "explain"):
            for alias in getattr(step.expect, field) or ():
                yield from _unknown(f"{place}.{field}", alias, known.subscriptions)


def _unknown(where: str, alias: object, known: set[str]) -> Iterator[str]:
    # A GUID may point at nothing on purpose: that is how a scenario builds a dangling lookup.
    if not isinstance(alias, str) or alias in known or (len(alias) == 36 and alias.count("-") == 4):
        return
    close = difflib.get_close_matches(alias, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
    yield f"{where}: no such id {alias!r}; {hint}"
