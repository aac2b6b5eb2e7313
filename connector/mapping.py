"""The mapping: what linksub's words are called in one CRM. Built in by name (``work365``), or a file of one's own.

The built-in mapping defines the words: another file may name other tables, columns and labels, but not other words.
It is checked as a whole; every problem is reported with its place and what to do.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from connector.document import Document, KeyPath, Problem, parse_document, read_document
from connector.errors import ConfigError, MappingError

BUILT_IN = "work365"
OWN_MARKER = "marker"
"""linksub's word for a column of its own, on a subscription: no CRM comes with one, so the built-in mapping has none."""
OPEN_CHOICES = frozenset({"provider_type"})
"""Choices to which a mapping may add keys: a provider plug-in of another package brings its own."""

LogicalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=128)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Label = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Evidence = Literal["public", "assumed", "confirmed"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ColumnMapping(_Part):
    """One column: its logical name, and what it refers to or chooses from."""

    column: LogicalName
    evidence: Evidence
    lookup: Word | None = None
    """The table (linksub's word) that a lookup points to."""
    choice: Word | None = None
    """The choice (linksub's word) whose labels the column holds."""
    optional: bool = False
    """The organisation may lack it: what depends on it is then switched off."""


class TableMapping(_Part):
    """One table and its columns by linksub's words."""

    logical_name: LogicalName
    evidence: Evidence
    columns: dict[Word, ColumnMapping]


class SettingNames(_Part):
    """Names of the configuration rows that linksub reads."""

    time_zone: Annotated[str, StringConstraints(min_length=1)]
    kill_switch: Annotated[str, StringConstraints(min_length=1)]


class CrmMapping(_Part):
    """A whole mapping file. ``choices`` is choice → key → labels, the first of which is the one that is written."""

    schema_version: Literal[1]
    name: Annotated[str, StringConstraints(min_length=1)]
    tables: dict[Word, TableMapping]
    settings: SettingNames
    choices: dict[Word, dict[Word, Annotated[list[Label], Field(min_length=1)]]]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content, the same for the same content however the file is laid out."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode("utf-8")).hexdigest()


def built_in_mappings() -> tuple[str, ...]:
    """Names of the mappings that ship with linksub."""
    return tuple(sorted({name for name, _ in _shipped()}))


def load_mapping(name_or_path: str | Path) -> CrmMapping:
    """A mapping by the name of a built-in one, or from a file.

    Raises MappingError with all problems, ConfigError when the file cannot be read at all.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return _checked(read_document(Path(name_or_path), what="mapping"), _built_in(BUILT_IN))
    return _built_in(text)


def _shipped() -> Iterator[tuple[str, bytes]]:
    """(name, content) of what ships: inside an installed package, or beside the package in a checkout."""
    installed = files("connector").joinpath("_mappings")
    if installed.is_dir():
        for entry in installed.iterdir():
            if entry.name.endswith(".yaml"):
                yield entry.name.removesuffix(".yaml"), entry.read_bytes()
        return
    for path in sorted((Path(__file__).resolve().parent.parent / "mappings").glob("*.yaml")):
        yield path.stem, path.read_bytes()


def _built_in(name: str) -> CrmMapping:
    for shipped, content in _shipped():
        if shipped == name:
            document = parse_document(content, f"{name}.yaml (built in)")
            return _checked(document, None if name == BUILT_IN else _built_in(BUILT_IN))
    known = ", ".join(built_in_mappings()) or "none"
    raise ConfigError(
        f"there is no built-in mapping {name!r} (there are: {known})",
        hint="Write the name of a built-in mapping, or the path of a file that ends in .yaml.",
    )


def _checked(document: Document, words: CrmMapping | None) -> CrmMapping:
    problems = list(document.problems)
    mapping: CrmMapping | None = None
    try:
        mapping = CrmMapping.model_validate(document.data)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            key = tuple(part for part in item["loc"] if part != "[key]")
            problems.append(
                Problem(document.file, key, *_in_words(item["type"], item["msg"], key), document.line_of(key))
            )
    if mapping is not None:
        problems += _inner_problems(document, mapping)
        if words is not None:
            problems += _word_problems(document, mapping, words)
    if problems or mapping is None:
        problems.sort(key=lambda problem: problem.line or 0)
        raise MappingError(
            f"the mapping {document.file} cannot be used: {len(problems)} problem(s)",
            problems=[str(problem) for problem in problems],
            hint="Compare with the built-in mapping work365, which explains every entry.",
        )
    return mapping


def _in_words(kind: str, message: str, key: KeyPath) -> tuple[str, str]:
    if kind == "missing":
        return "is missing", "add it"
    if kind == "extra_forbidden":
        known = (
            "schema_version",
            "name",
            "tables",
            "settings",
            "choices",
            "logical_name",
            "evidence",
            "columns",
            "column",
        )
        near = difflib.get_close_matches(str(key[-1]), (*known, "lookup", "choice", "optional"), n=1)
        return "is not a key of a mapping", f"did you mean {near[0]!r}?" if near else "remove it"
    return message[0].lower() + message[1:], "see the built-in mapping"


def _inner_problems(document: Document, mapping: CrmMapping) -> Iterator[Problem]:
    """What the file says of itself: lookups and choices that exist, labels and columns that are used once."""

    def problem(key: KeyPath, what: str, fix: str) -> Problem:
        return Problem(document.file, key, what, fix, document.line_of(key))

    for word, table in mapping.tables.items():
        taken: dict[str, str] = {}
        for column_word, column in table.columns.items():
            key: KeyPath = ("tables", word, "columns", column_word)
            if column.lookup is not None and column.lookup not in mapping.tables:
                yield problem(
                    (*key, "lookup"), f"points to {column.lookup!r}, which is no table here", "name a table above"
                )
            if column.choice is not None and column.choice not in mapping.choices:
                yield problem(
                    (*key, "choice"), f"is {column.choice!r}, which is no choice here", "add it under choices"
                )
            if column.lookup is not None and column.choice is not None:
                yield problem(key, "is both a lookup and a choice", "keep one of them")
            if column.column in taken:
                yield problem(
                    key, f"names the same column as {taken[column.column]!r}", "each word needs its own column"
                )
            taken.setdefault(column.column, column_word)
    for choice, keys in mapping.choices.items():
        seen: dict[str, str] = {}
        for choice_key, labels in keys.items():
            for label in labels:
                folded = fold(label)
                if seen.get(folded, choice_key) != choice_key:
                    where: KeyPath = ("choices", choice, choice_key)
                    yield problem(where, f"claims the label {label!r} of {seen[folded]!r}", "a label means one thing")
                seen.setdefault(folded, choice_key)


def _word_problems(document: Document, mapping: CrmMapping, words: CrmMapping) -> Iterator[Problem]:
    """Words that linksub does not know, and words that it needs and does not find."""

    def unknown(key: KeyPath, known: list[str]) -> Problem:
        near = difflib.get_close_matches(str(key[-1]), known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else "remove it"
        return Problem(document.file, key, "is not a word that linksub knows", fix, document.line_of(key))

    def missing(key: KeyPath, fix: str) -> Problem:
        return Problem(document.file, key, "is missing", fix, document.line_of(key))

    for word in mapping.tables.keys() - words.tables.keys():
        yield unknown(("tables", word), list(words.tables))
    for word, table in words.tables.items():
        if word not in mapping.tables:
            yield missing(("tables", word), "add the table")
            continue
        own = mapping.tables[word].columns
        known = _known_columns(word, table)
        for column_word in own.keys() - known.keys():
            yield unknown(("tables", word, "columns", column_word), list(known))
        for column_word, column in known.items():
            key: KeyPath = ("tables", word, "columns", column_word)
            if column_word not in own:
                if not column.optional:
                    yield missing(key, "add the column")
                continue
            if own[column_word].optional and not column.optional:
                yield Problem(document.file, key, "cannot be optional", "linksub needs it", document.line_of(key))
            for kind in ("lookup", "choice"):
                if getattr(own[column_word], kind) != getattr(column, kind):
                    needed = getattr(column, kind)
                    fix = f"write {kind}: {needed}" if needed else f"remove {kind}"
                    yield Problem(
                        document.file, key, f"has another {kind} than linksub expects", fix, document.line_of(key)
                    )
    for choice in mapping.choices.keys() - words.choices.keys():
        yield unknown(("choices", choice), list(words.choices))
    for choice, keys in words.choices.items():
        own_keys = mapping.choices.get(choice)
        if own_keys is None:
            yield missing(("choices", choice), "add the choice")
            continue
        if choice not in OPEN_CHOICES:
            for choice_key in own_keys.keys() - keys.keys():
                yield unknown(("choices", choice, choice_key), list(keys))
        for choice_key in keys.keys() - own_keys.keys():
            yield missing(("choices", choice, choice_key), "add it with the label that the organisation uses")


def _known_columns(word: str, table: TableMapping) -> dict[str, ColumnMapping]:
    """The columns that a table of a mapping may have: those of the built-in mapping, and the marker's own."""
    if word != "subscription":
        return dict(table.columns)
    return {OWN_MARKER: ColumnMapping(column=OWN_MARKER, evidence="assumed", optional=True), **table.columns}


def fold(label: str) -> str:
    """A label as it is compared: without regard to case and to runs of white space."""
    return re.sub(r"\s+", " ", label).strip().casefold()
