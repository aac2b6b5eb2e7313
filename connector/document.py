"""A YAML file that a person wrote: read safely, with the line of every key, and every problem at once.

Scalars follow YAML 1.2: ``23:30`` and ``on`` stay text (YAML 1.1 reads them as the number 1410 and as true, which
would turn a clock time into another one without a word). Keys given twice, tags that build objects, aliases that expand
without bound and files beyond a megabyte are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from connector.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: mapping keys and sequence indexes from the top."""

_MAX_BYTES = 1_000_000
_MAX_NODES = 50_000
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a person has to mend. ``key`` is the path of keys; ``line`` counts from 1."""

    file: str
    key: KeyPath
    what: str
    fix: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        named = f"{place}: {show_key(self.key)}" if self.key else place
        return f"{named}: {self.what}" + (f" - {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Document:
    """The plain values of a file, the line of each key path, and what was wrong with its form."""

    file: str
    data: Any
    lines: dict[KeyPath, int]
    problems: tuple[Problem, ...] = ()

    def line_of(self, key: KeyPath) -> int | None:
        """The line of a key, or of the nearest key above it that is in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)


def show_key(key: KeyPath) -> str:
    """A key path as people write it: ``sign_in.certificate.path``, ``steps[2].run``."""
    shown = ""
    for part in key:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2's core schema (the part that configurations use)."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$"), list("-+0123456789")
)


def read_document(path: Path, *, what: str = "file") -> Document:
    """Read a YAML file. Raises ConfigError when it cannot be read at all or is not YAML.

    Problems of form that leave the rest readable (a key given twice) are kept in ``problems``, so that the caller can
    report them together with its own.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{what} not found: {path}", hint="check the path") from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the {what} {path}: {error.strerror or error}", hint="check its permissions"
        ) from error
    return parse_document(raw, str(path))


def parse_document(raw: bytes, file: str) -> Document:
    """The same for bytes that are already in memory; ``file`` is only shown."""
    if len(raw) > _MAX_BYTES:
        raise _unusable(Problem(file, (), f"is larger than {_MAX_BYTES} bytes", "is this the right file?"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _unusable(Problem(file, (), "is not UTF-8 text", "save it as UTF-8", line)) from error
    lines: dict[KeyPath, int] = {}
    problems: list[Problem] = []
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document(file, None, {})
            problems.extend(_look_over(node, file, lines))
            data = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # Never the snippet that PyYAML offers: the line may hold a secret that somebody pasted.
        mark = error.problem_mark or error.context_mark
        problem = Problem(
            file,
            (),
            f"is not valid YAML: {error.problem or error.context}",
            "check indentation, colons and quotes here",
            mark.line + 1 if mark else None,
        )
        raise _unusable(problem) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _unusable(
            Problem(file, (), "is not valid YAML", "it holds control characters or is nested too deep")
        ) from error
    return Document(file, data, lines, tuple(problems))


def _look_over(root: yaml.Node, file: str, lines: dict[KeyPath, int]) -> Iterator[Problem]:
    """Walk the whole tree once, aliases expanded, noting lines; bounded, so that an alias bomb ends here."""
    pending: list[tuple[yaml.Node, KeyPath, tuple[int, ...]]] = [(root, (), ())]
    visited = 0
    while pending:
        node, key, above = pending.pop()
        visited += 1
        line = node.start_mark.line + 1
        lines.setdefault(key, line)
        if visited > _MAX_NODES:
            raise _unusable(
                Problem(file, key, f"holds more than {_MAX_NODES} values", "aliases (*) expand too far", line)
            )
        if id(node) in above or len(above) > _MAX_DEPTH:
            raise _unusable(Problem(file, key, "contains itself or is nested too deep", "remove the alias (*)", line))
        inside = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for name, value in node.value:
                at = name.start_mark.line + 1
                if not isinstance(name, yaml.ScalarNode):
                    raise _unusable(Problem(file, key, "has a key that is not plain text", "write key: value", at))
                here = (*key, str(name.value))
                if name.value in seen:
                    fix = f"it stands on line {seen[name.value]} too; keep one"
                    yield Problem(file, here, "is given twice", fix, at)
                seen.setdefault(name.value, at)
                lines.setdefault(here, at)
                pending.append((value, here, inside))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((value, (*key, index), inside) for index, value in enumerate(node.value))


def _unusable(problem: Problem) -> ConfigError:
    return ConfigError(f"{problem.file} cannot be used", problems=[str(problem)])
