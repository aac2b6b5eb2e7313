"""Where a secret is, never the secret itself: ``env:NAME`` or ``file:PATH``.

A configuration holds references only. The value is fetched when it is needed, as a ``SecretStr`` that no log, report or
error can show by accident.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from connector.errors import ConfigError

_MAX_BYTES = 65_536
BY_REFERENCE = (
    "secrets only by reference: put the value into an environment variable or a file and write env:NAME or file:PATH"
)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is, never the secret. ``plain`` marks a value that was checked to hold none (a database URL)."""

    scheme: Literal["env", "file", "plain"]
    target: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.target}"


def parse_secret_ref(value: object, base: Path | None = None) -> SecretRef:
    """``env:NAME`` or ``file:PATH`` → a reference; a relative path is relative to ``base``.

    Raises ValueError, without showing a literal that somebody wrote.
    """
    if isinstance(value, SecretRef):
        return value
    scheme, _, target = value.partition(":") if isinstance(value, str) else ("", "", "")
    if scheme == "env":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", target):
            raise ValueError("env: needs the name of an environment variable; such as env:LINKSUB_CLIENT_SECRET")
        return SecretRef("env", target)
    if scheme == "file" and target:
        path = Path(target).expanduser()
        return SecretRef("file", str(path if base is None else base / path))
    if scheme == "keyvault":
        raise ValueError("this build has no key vault support; use env:NAME or file:PATH")
    raise ValueError(f"not a reference; {BY_REFERENCE}")


def resolve_secret(ref: SecretRef, environ: Mapping[str, str] | None = None) -> SecretStr:
    """Fetch a secret. Raises ConfigError (naming the reference, never the value) when it is not there."""
    if problem := secret_problem(ref, environ):
        raise ConfigError(f"cannot use the secret {ref}: {problem}", hint="provide it and try again")
    if ref.scheme == "plain":
        return SecretStr(ref.target)
    if ref.scheme == "env":
        return SecretStr((os.environ if environ is None else environ)[ref.target])
    return SecretStr(Path(ref.target).read_text(encoding="utf-8").rstrip("\r\n"))


def secret_problem(ref: SecretRef, environ: Mapping[str, str] | None = None) -> str | None:
    """Why a secret cannot be used, or None: a variable that is not set, a file that is missing or open to everybody."""
    if ref.scheme == "plain":
        return None
    if ref.scheme == "env":
        value = (os.environ if environ is None else environ).get(ref.target)
        return None if value else f"the environment variable {ref.target} is not set; export it for this process"
    path = Path(ref.target)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
            return f"{path} is not a small file; write the path of a file that holds the secret alone"
        if not path.read_text(encoding="utf-8").strip():
            return f"{path} is empty; write the secret into it"
    except UnicodeDecodeError:
        return f"{path} is not UTF-8 text; write the secret into it as text"
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}; create it, readable by this user only"
    return exposure(path)


def exposure(path: Path) -> str | None:
    """Why a file that exists is no place for a secret or a private key: everybody may read or change it. Else None."""
    if os.name != "posix":
        return None
    mode = path.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        may = "read" if mode & stat.S_IROTH else "changed"
        return f"{path} can be {may} by everybody on this machine; run: chmod 600 {path}"
    return None


def resolve_url(ref: SecretRef, environ: Mapping[str, str] | None = None) -> str:
    """The URL of a database that a reference names. Raises ConfigError, without showing it, when it is none.

    Anything else would be taken for the name of a file, and a password would stand in a directory listing.
    """
    url = resolve_secret(ref, environ).get_secret_value()
    if "://" not in url:
        raise ConfigError(
            f"state.url: what {ref} holds is no URL of a database: it has no ://",
            hint="write postgresql+psycopg://user@host/database, or leave state.url out to keep the journal in a file",
        )
    return url
