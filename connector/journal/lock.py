"""One run at a time on one host and state directory.

The lock is the kernel's, on an open file: it cannot outlive its process, whatever that dies of. Beside it lies a file
that names the holder, for people; it is never asked whether the lock is held.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from connector.errors import ConfigError, JournalError, LockHeld

LOCK_FILE = "run.lock"
HOLDER_FILE = "run.holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the run lock; ``since`` is an aware instant."""

    run_id: str
    host: str
    pid: int
    command: str
    since: datetime

    def __str__(self) -> str:
        return (
            f"run {self.run_id} (`{self.command}`, process {self.pid} on {self.host}, since {self.since.isoformat()})"
        )


@contextmanager
def hold_run_lock(directory: Path, holder: Holder) -> Iterator[None]:
    """Hold the run lock of a state directory, which is made (0700) if need be; does not wait.

    Raises LockHeld naming the holder if a process that is alive holds it, JournalError if the directory cannot be
    written, ConfigError if its file system has no locks.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without flock there is no fallback to a file whose mere existence is the lock: it would survive its process.
        lock = FileLock(directory / LOCK_FILE, mode=0o600, thread_local=False, fallback_to_soft=False)
        lock.acquire(blocking=False)
    except Timeout as error:
        named = read_holder(directory)
        raise LockHeld(
            f"the state directory {directory} is in use by {named}",
            holder=named,
            hint="Wait for that run to end. The lock goes when its process does; there is nothing to delete.",
        ) from error
    except NotImplementedError as error:
        raise ConfigError(
            f"the file system of the state directory {directory} has no locks",
            hint="Keep the state directory on a local disk.",
        ) from error
    except OSError as error:
        raise JournalError(
            f"the state directory {directory} cannot be locked: {error}",
            hint="Check its owner, its mode and the free space.",
        ) from error
    side = directory / HOLDER_FILE
    try:
        _write_holder(side, holder)
        yield
    finally:
        with suppress(OSError):
            side.unlink(missing_ok=True)
        lock.release()


def read_holder(directory: Path) -> str:
    """The holder as the side file names it, in words; it may name one that is gone."""
    holder = _named_holder(directory)
    return "another run, which has not given its name" if holder is None else str(holder)


def running_holder(directory: Path) -> str | None:
    """The holder that the side file names, unless it names a process of this host that is gone. Asks no lock.

    Trying the lock would get in the way of a run that starts at this very moment.
    """
    holder = _named_holder(directory)
    if holder is None or (holder.host == socket.gethostname() and not _is_alive(holder.pid)):
        return None
    return str(holder)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _named_holder(directory: Path) -> Holder | None:
    try:
        found = json.loads((directory / HOLDER_FILE).read_text(encoding="utf-8"))
        return Holder(
            run_id=str(found["run_id"]),
            host=str(found["host"]),
            pid=int(found["pid"]),
            command=str(found["command"]),
            since=datetime.fromisoformat(found["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_holder(side: Path, holder: Holder) -> None:
    # Not being able to tell one's name is no reason to stop: the lock is held.
    with suppress(OSError):
        fresh = side.with_name(f"{side.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({**asdict(holder), "since": holder.since.isoformat()}, file)
        fresh.replace(side)
