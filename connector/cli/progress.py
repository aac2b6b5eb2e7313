"""Progress of a pass on stderr: a spinner and a bar on a terminal, nothing at all elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from connector.sync.outcome import FamilyOutcome, Progress


class TerminalProgress(Progress):
    """Shows the stage, and how many families are done."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("signing in", total=None)

    def __enter__(self) -> TerminalProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """A new stage began."""
        self._bar.update(self._task, description=text)

    def families(self, total: int) -> None:
        """So many families will be worked on."""
        self._bar.update(self._task, description="families", total=total, completed=0)

    def family_done(self, outcome: FamilyOutcome) -> None:
        """One family ended."""
        self._bar.advance(self._task)
