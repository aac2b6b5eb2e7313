"""Ctrl-C and the system's request to end: the first is a wish, the second is an order.

A process that is simply killed is safe, too; ending it kindly only saves the next run some work.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from connector.errors import ExitCode

_NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]


class Bell:
    """Wakes whoever waits, once and for all. May be rung by a signal handler.

    A ``threading.Event`` must not be: its lock may be held by the very code that the signal interrupted, and then the
    process waits for itself for ever. ``SimpleQueue.put`` is made for that.
    """

    def __init__(self) -> None:
        self._rung = False
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake whoever waits, now or later."""
        self._rung = True
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True as soon as it was rung, or within a second of it.

        A signal that comes in the instant before the wait begins does not wake it: Python's handler runs only once the
        wait is over. So no single wait is long.
        """
        until = time.monotonic() + seconds
        while not self._rung and (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self._queue.get(timeout=min(left, 1.0))
        return self._rung


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
