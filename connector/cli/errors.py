"""Every way a command can end badly, in one place: an exception → a sentence, a hint and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple, TextIO

import typer

from connector.cli import logs
from connector.errors import (
    AuthError,
    ConfigError,
    ConnectorError,
    ExitCode,
    Interrupted,
    JournalError,
    LockHeld,
    MappingError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    SafetyLimitExceeded,
    StalePlan,
    Transient,
    UsageError,
)
from connector.report.inert import strip_controls, to_json

ERROR_SCHEMA_VERSION = 1


class Ending(NamedTuple):
    """How a failed command ends: what happened, what to do next, and with which exit code."""

    sentence: str
    hint: str
    exit_code: int


_HINTS: dict[type[ConnectorError], str] = {
    UsageError: "linksub COMMAND --help shows what a command takes",
    MappingError: "compare the mapping file with the tables and choices of your CRM",
    ConfigError: "mend the configuration; config.example.yaml explains every key",
    LockHeld: "another run is at work; try again when it has ended",
    Interrupted: "run again; linksub continues where the world is",
    JournalError: "check that the state directory is writable and its disk is not full; nothing further was sent",
    StalePlan: "make a new plan and look at it before you apply it",
    SafetyLimitExceeded: "look at the plan: linksub plan --out FILE; if it is right, linksub apply FILE --allow LIMIT=VALUE",
    Transient: "the service is busy or out of reach; try again later",
    OutcomeUnknown: "run again; linksub reads back what happened before it sends anything",
    Rejected: "the service's own text says why; mend the cause and set the change back to Awaiting",
    PreconditionFailed: "somebody changed the row meanwhile; run again",
    AuthError: "check the secret or certificate and what the application may do in Dataverse and Partner Center",
    ProtocolError: "linksub does not understand the answer and will not guess; check that the address is the right one",
    RemoteError: "run again; with -v for the requests",
    ConnectorError: "run again with -vv for the details",
}
"""What to do when an error brings no hint of its own; the nearest class counts."""


def exit_for(error: BaseException) -> Ending:
    """The sentence, the hint and the exit code of any exception that ends a command."""
    if isinstance(error, ConnectorError):
        hint = error.hint or next(_HINTS[kind] for kind in type(error).__mro__ if kind in _HINTS)
        return Ending(_sentence(error), hint, int(error.exit_code))
    if isinstance(error, typer.TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "linksub")
        return Ending(error.format_message().rstrip("."), f"{command} --help shows what it takes", int(ExitCode.USAGE))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Ending("interrupted", _HINTS[Interrupted], int(ExitCode.TRY_LATER))
    if isinstance(error, BrokenPipeError):
        return Ending("whoever read the output went away", "the command may not have finished", int(ExitCode.INTERNAL))
    if isinstance(error, MemoryError):
        return Ending("out of memory", "give the process more memory", int(ExitCode.INTERNAL))
    if isinstance(error, OSError) and error.strerror:
        about = f": {error.filename}" if error.filename is not None else ""
        return Ending(
            f"{error.strerror}{about}", "check the path, its permissions and the disk", int(ExitCode.INTERNAL)
        )
    return Ending(
        f"linksub ran into a mistake of its own ({type(error).__name__})",
        "nothing is lost: run again. With -vv it shows where; please report that",
        int(ExitCode.INTERNAL),
    )


def report_error(
    error: BaseException, *, as_json: bool = False, verbosity: int = 0, stream: TextIO | None = None
) -> int:
    """Write an error to stderr and return the exit code. The traceback is only shown with ``-vv``."""
    ending = exit_for(error)
    problems: Sequence[str] = getattr(error, "problems", ())
    out = sys.stderr if stream is None else stream
    trace = "".join(traceback.format_exception(error)) if verbosity >= 2 else ""
    if as_json:
        body: dict[str, object] = {
            "kind": type(error).__name__,
            "message": logs.redact(ending.sentence),
            "hint": logs.redact(ending.hint),
            "exit_code": ending.exit_code,
        }
        if problems:
            body["problems"] = [logs.redact(problem) for problem in problems]
        if isinstance(error, RemoteError):
            body["remote"] = logs.redacted(_remote(error))
        if trace:
            body["traceback"] = logs.redact(trace)
        text = to_json({"schema_version": ERROR_SCHEMA_VERSION, "error": body})
    else:
        lines = [f"error: {strip_controls(ending.sentence)}"]
        lines += [f"  {strip_controls(problem)}" for problem in problems]
        lines.append(f"hint: {strip_controls(ending.hint)}")
        text = logs.redact("\n".join([*lines, *logs.inert_lines(trace)]))
    try:
        out.write(text + "\n")
        out.flush()
    except (OSError, ValueError):
        pass  # stderr is gone; the exit code still speaks
    return ending.exit_code


def _sentence(error: ConnectorError) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, RemoteError):
        known = {
            "code": error.code if error.code not in text else "",
            "request id": error.request_id or "",
            "correlation id": error.correlation_id or "",
        }
        extra = ", ".join(f"{name} {value}" for name, value in known.items() if value)
        text += f" ({extra})" if extra else ""
    return text


def _remote(error: RemoteError) -> dict[str, object]:
    names = ("service", "operation", "status", "code", "request_id", "correlation_id", "retry_after")
    return {name: getattr(error, name) for name in names}
