"""Keeps secrets out of logs and reports: masks by value what was registered, and by shape what was not."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from threading import Lock

from pydantic import SecretStr

MASK = "***"

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",;}]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{5,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)*"), MASK),
    (
        re.compile(
            r"(?i)(['\"]?\b(?:client_secret|client_assertion|refresh_token|access_token|id_token|password|sslpassword|passphrase|assertion)"
            r"\b['\"]?\s*[:=]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s&,;}]+)"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
)

_lock = Lock()
_registered: tuple[str, ...] = ()


def register_secrets(secrets: Iterable[SecretStr | str]) -> None:
    """Remember values that must never be shown. Values under 4 characters are left out: masking them hides prose."""
    global _registered
    with _lock:
        values = set(_registered)
        for secret in secrets:
            value = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
            if len(value) >= 4:
                values.add(value)
        _registered = tuple(sorted(values, key=lambda value: (-len(value), value)))


def forget_secrets() -> None:
    """Forget every registered value (a process that starts over with another configuration)."""
    global _registered
    with _lock:
        _registered = ()


def redact(text: str) -> str:
    """The text with registered secrets (longest first) and everything that looks like a credential masked."""
    for secret in _registered:
        text = text.replace(secret, MASK)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


class RedactingFilter(logging.Filter):
    """Masks a record's message and its text fields. Put it on handlers, so that no logger can get past it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; always lets it through."""
        record.msg = redact(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in record.__dict__.items():
            if isinstance(value, str) and name not in _OWN_FIELDS:
                record.__dict__[name] = redact(value)
        return True


_OWN_FIELDS = frozenset(
    {"msg", "message", "name", "levelname", "pathname", "filename", "module", "funcName", "exc_text"}
)


class RedactingFormatter(logging.Formatter):
    """A formatter whose finished line is masked, for handlers that get records from elsewhere."""

    def format(self, record: logging.LogRecord) -> str:
        """Format, then mask."""
        return redact(super().format(record))
