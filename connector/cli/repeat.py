"""``--every``: passes one after the other until somebody stops it; what a service manager without timers needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from connector.cli.stopping import Bell
from connector.errors import ExitCode, UsageError
from connector.settings import parse_duration

_ENDS_IT = frozenset({ExitCode.USAGE, ExitCode.CONFIGURATION, ExitCode.PERMISSION, ExitCode.INTERNAL})
"""Exit codes that the next pass would only repeat: a person has to do something first."""

_SPREAD = 0.1
"""By how much of the interval a pause may be longer, so that installations do not all knock at the same second."""


def parse_interval(every: str) -> float:
    """Seconds between passes. Raises UsageError."""
    try:
        return parse_duration(every).total_seconds()
    except ValueError as error:
        raise UsageError(f"--every {every}: {error}", hint="linksub run --every 5m") from error


def pause_after(number: int, seconds: float, place: str) -> float:
    """Seconds to wait after the given pass (1, 2, …): the interval and up to a tenth more.

    How much more follows from the environment's address and the number: no chance, the same on every machine and day.
    """
    digest = hashlib.sha256(f"{place}|{number}".encode()).digest()
    return seconds * (1 + _SPREAD * int.from_bytes(digest[:4]) / 2**32)


def repeat(seconds: float, place: str, stopped: Bell, one_pass: Callable[[], int]) -> int:
    """Run passes until ``stopped`` is rung (75), or until one ends in a way that repeating does not mend (its code).

    A journal that cannot be written once may have been busy: the next pass tries again, and a second time in a row ends it.
    """
    number, before = 0, 0
    while True:
        code = one_pass()
        number += 1
        if code in _ENDS_IT or code == before == ExitCode.CANNOT_JOURNAL:
            return code
        before = code
        if stopped.wait(pause_after(number, seconds, place)):
            return int(ExitCode.TRY_LATER)
