"""What people see: consoles, tables that survive a narrow or missing terminal, and data without terminal escapes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from connector.report.inert import strip_controls
from connector.report.layout import Rows

__all__ = ["make_console", "make_table", "strip_controls", "typed"]

_WIDTH_WITHOUT_TERMINAL = 160


class WholeConsole(Console):
    """A console that cuts nothing off at its right edge: a line that is too long is the terminal's to continue."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as usual; a plain text is never broken either, because it may hold a path or a command."""
        whole = all(isinstance(each, str) for each in objects)
        super().print(*objects, **{"crop": False, "soft_wrap": whole, **options})


def make_console(*, stderr: bool = False, color: bool = True, file: TextIO | None = None) -> Console:
    """A console on stdout or stderr: colours only on a terminal (and never with ``NO_COLOR`` or ``--no-color``).

    Without a terminal it is wide and plain, so that a pipe or a log gets whole rows.
    """
    stream = file if file is not None else sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
    return WholeConsole(
        file=stream, width=width, no_color=not color or None, highlight=False, emoji=False, markup=False
    )


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, right: Sequence[int] = ()
) -> Rows:
    """A table of plain data. ``right`` are indexes of right-aligned (number) columns; None shows as a dash.

    A cell may be a rich Text (made by linksub itself); everything else is data and is stripped of controls. Nothing is
    cut off: what does not fit is wrapped.
    """
    table = Rows(columns, title, right=right)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str | Text:
    if isinstance(value, Text):
        return value
    return "–" if value is None else str(value)


def typed(path: Path) -> str:
    """A path as it is typed in a command line, quoted where that is needed."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))
