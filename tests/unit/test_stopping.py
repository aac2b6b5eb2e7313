"""Asked to stop by a signal, whoever waits wakes: whatever instruction the signal came between."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from connector.cli import repeat as repeating
from connector.cli.stopping import Bell, asked_to_stop
from connector.errors import ExitCode

pytestmark = pytest.mark.skipif(os.name != "posix", reason="left out: signals of POSIX")


@pytest.fixture(autouse=True)
def _no_trace_left() -> Iterator[None]:
    before = sys.gettrace()
    yield
    sys.settrace(before)


def at_instruction(number: int, do: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace that does something right before the N-th instruction within ``Bell``, and what that calls."""
    seen = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        if not isinstance(frame.f_locals.get("self"), Bell):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == number:
                do()
        return trace

    return trace


def test_a_signal_between_any_two_instructions_of_a_wait_ends_it() -> None:
    for number in range(1, 500):
        bell, asked = Bell(), list[str]()

        def ask(reason: str, bell: Bell = bell, asked: list[str] = asked) -> None:
            asked.append(reason)
            bell.ring()

        with asked_to_stop(ask):
            sys.settrace(at_instruction(number, lambda: signal.raise_signal(signal.SIGTERM)))
            woken = bell.wait(0.001)
            sys.settrace(None)
        if not asked:
            break
        assert woken or bell.wait(0), number
        assert bell.wait(60), "it stays rung"
    assert number > 5


def test_without_a_signal_a_wait_ends_after_its_time() -> None:
    assert Bell().wait(0.001) is False


def test_repeating_passes_end_with_75_when_the_signal_comes_within_a_pass() -> None:
    bell = Bell()
    passes: list[int] = []

    def one_pass() -> int:
        passes.append(1)
        signal.raise_signal(signal.SIGTERM)
        return 0

    with asked_to_stop(lambda reason: bell.ring()):
        assert repeating.repeat(3600.0, "https://contoso.example", bell, one_pass) == int(ExitCode.TRY_LATER)
    assert passes == [1]


@pytest.mark.parametrize(
    ("codes", "made", "ends"),
    [([74, 0, 74, 75], 4, 75), ([0, 74, 74, 0], 3, 74), ([78, 0], 1, 78), ([3, 4, 6, 75], 4, 75)],
)
def test_a_journal_that_fails_once_is_tried_again_and_twice_in_a_row_ends_it(
    codes: list[int], made: int, ends: int
) -> None:
    bell = Bell()
    left = list(codes)

    def one_pass() -> int:
        code = left.pop(0)
        if not left:
            bell.ring()
        return code

    assert repeating.repeat(0.001, "https://contoso.example", bell, one_pass) == ends
    assert len(codes) - len(left) == made
