"""Logging, set up here and nowhere else: to stderr, as text for people or one JSON object per line for machines.

Modules log an event name as the message and everything else as ``extra`` fields. Whatever is written passes the
redactor first (:func:`use_redactor`).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from connector.report.inert import strip_controls, to_json

Redactor = Callable[[str], str]
"""Takes a line that is about to be written and returns it without secrets."""

_OURS = "connector"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Output(logging.Handler):
    """The one handler. Looks up ``sys.stderr`` at every line, so that nothing holds on to a closed stream."""

    def __init__(self, form: str, stream: TextIO | None) -> None:
        super().__init__()
        self.form = form
        self.stream = stream
        self.redactors: tuple[Redactor, ...] = ()
        self.constant: dict[str, object] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.form == "json":
                # Value by value: a mask over the finished line could swallow a quote and break it.
                line = to_json(redacted(_as_json(record, self.constant), self.redact))
            else:
                line = self.redact(_as_text(record, self.constant))
            stream = self.stream if self.stream is not None else sys.stderr
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            self.handleError(record)

    def redact(self, text: str) -> str:
        for redactor in self.redactors:
            text = redactor(text)
        return text


def configure_logging(
    *,
    verbosity: int = 0,
    level: str = "warning",
    form: str = "text",
    stream: TextIO | None = None,
) -> None:
    """Install the one handler; calling it again replaces it and keeps its redactors and fields.

    ``verbosity`` −1 shows warnings only, 0 what ``level`` says, 1 everything of linksub, 2 also that of libraries.
    """
    root = logging.getLogger()
    before = _handler()
    handler = _Output(form, stream)
    if before is not None:
        handler.constant, handler.redactors = before.constant, before.redactors
        root.removeHandler(before)
    root.addHandler(handler)
    ours = {-1: logging.WARNING, 0: _LEVELS[level]}.get(verbosity, logging.DEBUG)
    logging.getLogger(_OURS).setLevel(ours)
    root.setLevel(logging.DEBUG if verbosity >= 2 else logging.WARNING)
    logging.captureWarnings(True)


def use_redactor(redactor: Redactor) -> None:
    """Send every further line and error through ``redactor``, after those already in use; once is enough."""
    if _handler() is None:
        configure_logging()
    if (handler := _handler()) is not None and redactor not in handler.redactors:
        handler.redactors += (redactor,)


def redact(text: str) -> str:
    """The text as it may be shown, by the redactors in use."""
    handler = _handler()
    return text if handler is None else handler.redact(text)


def set_fields(**fields: object) -> None:
    """Fields that every line of this process carries, such as ``run_id``."""
    handler = _handler()
    if handler is not None:
        handler.constant.update(fields)


def redacted(value: Any, mask: Redactor = redact) -> Any:
    """A document of plain values with every text in it masked; what is no plain value becomes its text."""
    if isinstance(value, Mapping):
        return {mask(str(key)): redacted(inner, mask) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, mask) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


def inert_lines(trace: str) -> list[str]:
    """A traceback for people: what an exception says cannot start a line of its own or paint on the terminal."""
    return [f"  {strip_controls(line)}" for line in trace.rstrip().splitlines()]


def reset_logging() -> None:
    """Take the handler away again (tests)."""
    if (handler := _handler()) is not None:
        logging.getLogger().removeHandler(handler)
    logging.getLogger(_OURS).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def _handler() -> _Output | None:
    return next((one for one in logging.getLogger().handlers if isinstance(one, _Output)), None)


def _fields(record: logging.LogRecord, constant: dict[str, object]) -> dict[str, object]:
    own = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
    return constant | own


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _as_json(record: logging.LogRecord, constant: dict[str, object]) -> dict[str, object]:
    line = {"ts": _time(record), "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
    if trace := _traceback(record):
        line["traceback"] = trace
    return _fields(record, constant) | line


def _as_text(record: logging.LogRecord, constant: dict[str, object]) -> str:
    fields = "".join(f" {key}={_short(value)}" for key, value in _fields(record, constant).items())
    line = strip_controls(f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()}{fields}")
    return "\n".join([line, *inert_lines(_traceback(record))])


def _short(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or text == "" else text
