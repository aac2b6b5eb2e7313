"""The command line: one file per command, one frame around them (options, errors, logs, exit codes)."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script ``linksub``. Returns the exit code; never raises."""
    from connector.cli.app import run

    return run(argv)
