"""Reading a configuration: one YAML file, checked as a whole before anything is sent.

:func:`load_config` reports every problem at once, each with file, line, key and what to do. Keys and their
meaning are in :mod:`connector.settings`; a secret is only ever a reference (:mod:`connector.secret_ref`).
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connector.document import Document, KeyPath, Problem, read_document
from connector.errors import ConfigError
from connector.secret_ref import SecretRef, exposure, parse_secret_ref, resolve_secret, resolve_url, secret_problem
from connector.settings import Config, credential_problems

__all__ = ["Config", "SecretRef", "example_text", "load_config", "resolve_secret", "resolve_url"]

_SECRETS: tuple[KeyPath, ...] = (
    ("sign_in", "client_secret"),
    ("sign_in", "certificate", "passphrase"),
    ("sign_in", "partner_center", "client_secret"),
    ("state", "url"),
)
"""Every key that holds a reference to a secret."""


def example_text() -> str:
    """The text of ``config.example.yaml``, as it ships with the package."""
    return files("connector").joinpath("config.example.yaml").read_text(encoding="utf-8")


def load_config(path: Path, *, environ: Mapping[str, str] | None = None, check_secrets: bool = True) -> Config:
    """Read and check a configuration. Raises ConfigError with every problem that was found.

    ``check_secrets`` also makes sure that every referenced secret can be fetched; commands that never sign in skip it.
    """
    document = read_document(path, what="configuration")
    problems = list(document.problems)
    if not isinstance(document.data, dict | None):
        problem = Problem(str(path), (), "must be key: value pairs", "see config.example.yaml", 1)
        raise ConfigError(f"{path} is not a configuration", problems=[str(problem)])
    # A section whose lines are all commented out is empty, not wrong. `state` is always looked at, because its default
    # path starts at the file.
    data = {"state": {}} | {key: value for key, value in (document.data or {}).items() if value is not None}
    base = path.absolute().parent
    config: Config | None = None
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # The choice of credential is looked at below: pydantic skips it when any key of the section is wrong.
        problems.extend(_problem(document, details) for details in found if details["loc"] != ("sign_in",))
        problems.extend(_sign_in_problems(document, data.get("sign_in")))
    if check_secrets:
        problems.extend(_secret_problems(document, data, base, environ))
    if problems or config is None:
        problems.sort(key=lambda problem: problem.line or 0)
        unique = tuple(dict.fromkeys(map(str, problems)))
        count = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
        raise ConfigError(
            f"the configuration {path} has {count}", problems=unique, hint="config.example.yaml explains every key"
        )
    return config.read_from(path)


def _problem(document: Document, details: Any) -> Problem:
    key: KeyPath = tuple(details["loc"])
    line = document.line_of(key)
    if details["type"] == "extra_forbidden":
        known = list(_model_at(key[:-1]).model_fields)
        close = difflib.get_close_matches(str(key[-1]), known, n=1, cutoff=0.5)
        fix = f"did you mean {close[0]}?" if close else f"remove it; known here: {', '.join(known)}"
        return Problem(document.file, key, "unknown key", fix, line)
    field = _model_at(key[:-1]).model_fields.get(str(key[-1])) if key else None
    meaning = field.description if field is not None and field.description else ""
    if details["type"] == "missing":
        return Problem(document.file, key, "is missing", meaning or "add it", line)
    what, _, fix = str(details["msg"]).removeprefix("Value error, ").partition("; ")
    return Problem(document.file, key, what[:1].lower() + what[1:], fix or meaning, line)


def _model_at(key: Sequence[str | int]) -> type[BaseModel]:
    """The model that holds the fields under a key path; the nearest one above if there is none."""
    model: type[BaseModel] = Config
    for part in key:
        field = model.model_fields.get(str(part))
        candidates = (field.annotation, *typing.get_args(field.annotation)) if field is not None else ()
        inner = next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
        if inner is None:
            return model
        model = inner
    return model


def _sign_in_problems(document: Document, section: object) -> list[Problem]:
    key, line = ("sign_in",), document.line_of(("sign_in",))
    if section is None:
        return [Problem(document.file, key, "is missing", "at least tenant_id, client_id and one credential")]
    if not isinstance(section, Mapping):
        return [
            Problem(document.file, key, "must be a section", "at least tenant_id, client_id and one credential", line)
        ]
    parts = [problem.partition("; ") for problem in credential_problems(section)]
    return [Problem(document.file, key, what, fix, line) for what, _, fix in parts]


def _secret_problems(
    document: Document, data: Mapping[str, Any], base: Path, environ: Mapping[str, str] | None
) -> list[Problem]:
    problems = []
    for key in _SECRETS:
        value: Any = data
        for part in key:
            value = value.get(part) if isinstance(value, Mapping) else None
        if not isinstance(value, str) or not value.startswith(("env:", "file:")):
            continue
        try:
            ref = parse_secret_ref(value, base)
        except ValueError:
            continue  # reported by the model
        if problem := secret_problem(ref, environ):
            what, _, fix = problem.partition("; ")
            problems.append(Problem(document.file, key, what, fix, document.line_of(key)))
    return problems + _exposed_certificate(document, data, base)


def _exposed_certificate(document: Document, data: Mapping[str, Any], base: Path) -> list[Problem]:
    """The file of the certificate holds its private key, so it is as secret as a secret."""
    key: KeyPath = ("sign_in", "certificate", "path")
    value: Any = data
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    path = base / Path(value).expanduser() if isinstance(value, str) and value else None
    if path is None or not path.is_file() or (problem := exposure(path)) is None:
        return []
    what, _, fix = problem.partition("; ")
    return [Problem(document.file, key, what, fix, document.line_of(key))]
