"""Ctrl-C and the system's request to end: the first is a wish, the second is an order.

A process that is simply killed is safe, too; ending it kindly only saves the next run some work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from connector.errors import ExitCode

_NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]


@contextmanager
def asked_to_stop(ask: Callable[[str], None]) -> Iterator[None]:
    """While inside, the first signal asks and the second ends the process at once with 75."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hears signals on the main thread only; whoever embeds linksub elsewhere sees to them.
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        name = signal.Signals(number).name
        if asked:
            _say(f"{name} again: ending at once; the next run goes on from where things are")
            os._exit(int(ExitCode.TRY_LATER))
        asked = True
        ask(f"{name} received")
        _say(f"{name}: finishing what is in hand; once more ends at once")

    before = {number: signal.signal(number, handle) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # Not through print or logging: whatever the signal interrupted may hold their locks.
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"\n{text}\n".encode())
