"""Two hosts, call by call: each runs in a thread of its own and goes on only when it is given the turn.

One thread runs at a time, and who is next is drawn by lot from the game's seed, so the same seed plays the same game.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

PATIENCE = 60.0
"""Real seconds after which a host that does not give the turn back is stuck: the rig's own mistake."""

T = TypeVar("T")


class Turn(Generic[T]):
    """One host's thread. It works between `go` and its next `give`."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.result: T | None = None
        self.error: BaseException | None = None
        self.is_over = False
        self._thread.start()

    def _run(self) -> None:
        self._wait(self._go)
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - told to whoever plays the game
            self.error = error
        self.is_over = True
        self._back.release()

    def go(self) -> None:
        """Let the host work until its next call, or to its end."""
        self._go.release()
        self._wait(self._back)
        if self.is_over:
            self._thread.join()
            if self.error is not None:
                raise self.error

    def give(self) -> None:
        """Called by the host at each call: give the turn away, and wait for the next."""
        self._back.release()
        self._wait(self._go)

    @staticmethod
    def _wait(turn: threading.Semaphore) -> None:
        if not turn.acquire(timeout=PATIENCE):
            raise RuntimeError("a host waits for a turn that nobody gives it")


def interleave(turns: Sequence[Turn[T]], rng: random.Random) -> int:
    """Let the hosts work in turns until all are done; returns how often the turn changed hands.

    One who has the turn keeps it for a few calls, as on real machines: short and long overlaps both come up.
    """
    changes, last = 0, None
    left = list(turns)
    while left:
        turn = rng.choice(left)
        changes += last is not None and turn is not last
        last = turn
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            turn.go()
            if turn.is_over:
                left.remove(turn)
                break
    return changes
