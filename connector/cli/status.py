"""``linksub status``: how things stand, from the state directory alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from connector.cli.options import context_of
from connector.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add ``linksub status``."""

    @app.command("status")
    def status(
        ctx: typer.Context,
        runs: Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many of the last runs.")] = 5,
    ) -> int:
        """Show how things stand: last runs, open intents, families that wait for a person or an instant. No network.

        Exit code 74 if the journal is damaged or out of reach.

        Examples:

          linksub status

          linksub status --output json | jq .oldest_waiting
        """
        from connector import bookkeeping
        from connector.report.journal import status_view

        context = context_of(ctx)
        document = bookkeeping.status(context.load(check_secrets=False), datetime.now(UTC), runs=runs)
        context.emit(document) if context.as_json else context.stdout.print(status_view(document))
        return int(ExitCode.CANNOT_JOURNAL if document["health"]["problem"] else ExitCode.DONE)
