"""``--every``: passes one after the other until somebody stops it; what a service manager without timers needs."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from connector.cli.options import Context
from connector.errors import ExitCode, UsageError
from connector.settings import parse_duration

logger = logging.getLogger(__name__)

_ENDS_IT = frozenset(
    {ExitCode.USAGE, ExitCode.CONFIGURATION, ExitCode.PERMISSION, ExitCode.CANNOT_JOURNAL, ExitCode.INTERNAL}
)
"""Exit codes that the next pass would only repeat: a person has to do something first."""


def repeat(context: Context, every: str, one_pass: Callable[[], int]) -> int:
    """Run passes until SIGTERM or Ctrl-C, or until one ends in a way that repeating does not mend."""
    try:
        seconds = parse_duration(every).total_seconds()
    except ValueError as error:
        raise UsageError(f"--every {every}: {error}", hint="linksub run --every 5m") from error
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = one_pass()
        while code not in _ENDS_IT and not stopped.wait(seconds):
            code = one_pass()
        return code
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
