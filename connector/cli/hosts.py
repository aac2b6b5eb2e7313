"""Several hosts of one rehearsal: which state each finds, and what it looked like before."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAIN = "a"
"""The host that always has the main state directory."""


class HostStates:
    """The state directories of all hosts under one temporary directory."""

    def __init__(self, main: Path, aside: Path) -> None:
        self._main = main
        self._own = aside / "hosts"
        self._copies = aside / "copies"
        self._before: dict[tuple[str, Path], Path | None] = {}
        self._number = 0

    def prepare(self, host: str, journal: str | None) -> Path:
        """The state directory of the coming pass, made ready: ``lost`` empties it, ``older`` puts it back.

        Raises ValueError when there is nothing older to put back.
        """
        directory = self._main if host == MAIN or journal == "shared" else self._own / host
        if journal == "lost":
            shutil.rmtree(directory, ignore_errors=True)
        elif journal == "older":
            if (host, directory) not in self._before:
                raise ValueError(f"no pass of host {host} has written anything, so there is no older journal of it")
            shutil.rmtree(directory, ignore_errors=True)
            copy = self._before[host, directory]
            if copy is not None:
                shutil.copytree(copy, directory)
        return directory

    def copy(self, directory: Path) -> Path | None:
        """A copy of a state directory as it is now; None if there is none."""
        if not directory.is_dir():
            return None
        self._number += 1
        return Path(shutil.copytree(directory, self._copies / str(self._number)))

    def keep(self, host: str, directory: Path, copy: Path | None, *, wrote: bool) -> None:
        """A pass ended: ``copy`` is what came before it, and stays the older state if the pass wrote something."""
        unused = copy
        if wrote:
            unused = self._before.get((host, directory))
            self._before[host, directory] = copy
        if unused is not None:
            shutil.rmtree(unused, ignore_errors=True)

    def forget(self) -> None:
        """Delete the state of every host."""
        shutil.rmtree(self._main, ignore_errors=True)
        shutil.rmtree(self._own, ignore_errors=True)


@contextmanager
def running_on(host: str) -> Iterator[None]:
    """While inside, this process believes that it runs on another machine, unless it is the main one."""
    if host == MAIN:
        yield
        return
    real = socket.gethostname
    socket.gethostname = lambda: f"host-{host}"
    try:
        yield
    finally:
        socket.gethostname = real
