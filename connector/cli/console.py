"""What people see: consoles, tables that survive a narrow or missing terminal, and data without terminal escapes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connector.report.inert import strip_controls

__all__ = ["make_console", "make_table", "strip_controls"]

_WIDTH_WITHOUT_TERMINAL = 160


def make_console(*, stderr: bool = False, color: bool = True, file: TextIO | None = None) -> Console:
    """A console on stdout or stderr: colours only on a terminal (and never with ``NO_COLOR`` or ``--no-color``).

    Without a terminal it is wide and plain, so that a pipe or a log gets whole rows.
    """
    stream = file if file is not None else sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, no_color=not color or None, highlight=False, emoji=False, markup=False)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, right: Sequence[int] = ()
) -> Table:
    """A table of plain data. ``right`` are indexes of right-aligned (number) columns; None shows as a dash.

    A cell may be a rich Text (made by linksub itself); everything else is data and is stripped of controls. Nothing is
    cut off: what does not fit is wrapped.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, safe_box=True, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return Text("–" if value is None else strip_controls(str(value)))
