"""Lines, terms and tables for a terminal of any width, in which nothing that a person may copy is ever broken.

A word (an id, a URL, a path) and a command of linksub stay on one line, however long. The terminal may show that line
on several, but copies it as one. What is data is shown as plain text, never as markup or terminal escapes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from connector.report.inert import strip_controls

_COMMAND = (
    r"linksub (?:apply|demo|explain|init|journal|plan|rehearse|rules|run|sandbox|status)\b"
    r"(?: (?:list|show|settle|export|verify|up|--?[a-z][\w-]*|\"[^\"]*\"|[A-Z]{2,}\S*|\S*[./=_\d]\S*))*"
)
_UNIT = re.compile(rf"(?:{_COMMAND}\S*|--[a-z][a-z-]* [^\s-]\S*|\S+)\s*|^\s+")
"""What stays together: a command with its arguments, an option with its value, any other word."""

_COMFORT = 12
"""So many columns of a terminal a column of prose gets at least; with less, each row becomes a block of its own."""


def plain(text: str, style: str = "") -> Text:
    """Text from outside: never markup, never a terminal escape, never more than one line."""
    return Text(strip_controls(text), style=style)


class Line:
    """One line of text. Prose goes on below where the terminal is too narrow; what is ``whole`` never does."""

    def __init__(self, text: str | Text, indent: int = 0, *, style: str = "", whole: bool = False) -> None:
        self._text = text if isinstance(text, Text) else plain(text, style)
        self._indent = indent
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = [self._text] if self._whole else wrapped(self._text, options.max_width - self._indent)
        for part in parts:
            yield _unbroken(Text(" " * self._indent), part)


class Terms:
    """Names and their values, one pair below the other; the values named in ``whole`` stay on one line."""

    def __init__(self, rows: Iterable[tuple[str, str | Text]], *, indent: int = 0, whole: Collection[str] = ()) -> None:
        self._rows = [(name, value if isinstance(value, Text) else plain(value)) for name, value in rows]
        self._indent = indent
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = self._indent + max((cell_len(name) for name, _ in self._rows), default=0) + 1
        for name, value in self._rows:
            parts = [value] if name in self._whole else wrapped(value, options.max_width - left)
            for number, part in enumerate(parts):
                head = Text(f"{' ' * self._indent}{name if number == 0 else ''}", style="bold")
                head.pad_right(left - cell_len(head.plain))
                yield _unbroken(head, part)


class Rows:
    """A table where there is room for one, else one block per row. Nothing is ever cut off or broken."""

    def __init__(
        self,
        columns: Sequence[str],
        title: str | None = None,
        *,
        right: Collection[int] = (),
        style: box.Box = box.SIMPLE_HEAD,
        indent: int = 0,
    ) -> None:
        self._columns = columns
        self._title = title
        self._right = right
        self._box = style
        self._indent = indent
        self._rows: list[tuple[Text, ...]] = []
        self._sections: set[int] = set()

    def add_row(self, *cells: str | Text) -> None:
        """One cell per column; a Text is linksub's own, everything else is shown as plain text."""
        self._rows.append(tuple(cell if isinstance(cell, Text) else plain(cell) for cell in cells))

    def add_section(self) -> None:
        """Set the rows that follow apart from those before."""
        self._sections.add(len(self._rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width - self._indent)
        if widths is None:
            if self._title is not None:
                yield Line(Text(self._title, style="italic"), self._indent)
            for row in self._rows:
                pairs = zip(self._columns, row, strict=True)
                yield Terms([pair for pair in pairs if str(pair[1])], indent=self._indent + 2)
                yield Text("")
            return
        edges = self._box is not box.SIMPLE_HEAD
        table = Table(
            title=self._title, title_justify="left", box=self._box, safe_box=True, pad_edge=edges, header_style="bold"
        )
        for index, (column, width) in enumerate(zip(self._columns, widths, strict=True)):
            justify: Literal["left", "right"] = "right" if index in self._right else "left"
            table.add_column(column, justify=justify, width=width, overflow="fold")
        for number, row in enumerate(self._rows):
            lines = (Text("\n").join(wrapped(cell, width)) for cell, width in zip(row, widths, strict=True))
            table.add_row(*lines, end_section=number in self._sections)
        yield Padding(table, (0, 0, 0, self._indent), expand=False)

    def _widths(self, room: int) -> list[int] | None:
        """How wide each column is, None if a table would be too narrow to read or would break something."""
        columns = [[Text(heading), *(row[index] for row in self._rows)] for index, heading in enumerate(self._columns)]
        natural = [max(cell_len(cell.plain) for cell in cells) for cells in columns]
        needed = [max(_longest_unit(cell) for cell in cells) for cells in columns]
        widths = [min(full, max(least, _COMFORT)) for full, least in zip(natural, needed, strict=True)]
        left = room - table_width(widths)
        if left < 0:
            return None
        # What is left goes to the columns that want the least more, so that as many as possible need no second line.
        for index in sorted(range(len(widths)), key=lambda each: natural[each] - widths[each]):
            more = min(left, natural[index] - widths[index])
            widths[index] += more
            left -= more
        return widths


def table_width(widths: Sequence[int]) -> int:
    """How wide a table is at most whose columns are that wide: each has a space on either side, and lines between."""
    return sum(widths) + 3 * len(widths) + 1


def wrapped(text: Text, width: int) -> list[Text]:
    """The text in lines of at most that width, except where a single word or command is longer."""
    offsets, used = [], 0
    for start, unit in _units(text):
        length = cell_len(unit.rstrip())
        if used and used + length > width:
            offsets.append(start)
            used = 0
        used += cell_len(unit)
    lines = list(text.divide(offsets))
    for line in lines[:-1]:
        line.rstrip()
    return lines


def _units(text: Text) -> Iterator[tuple[int, str]]:
    for found in _UNIT.finditer(text.plain):
        yield found.start(), found.group()


def _longest_unit(text: Text) -> int:
    return max((cell_len(unit.rstrip()) for _, unit in _units(text)), default=0)


def _unbroken(*parts: Text) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for part in parts:
        line.append_text(part)
    return line
