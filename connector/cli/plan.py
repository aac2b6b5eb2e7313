"""``linksub plan``: what a run would do, with its money effect, before it does it."""

from __future__ import annotations

from typing import Annotated

import typer

from connector.cli.options import context_of
from connector.cli.run import one_pass


def register(app: typer.Typer) -> None:
    """Add ``linksub plan``."""

    @app.command("plan")
    def plan(
        ctx: typer.Context,
        only: Annotated[
            str | None, typer.Option("--only", metavar="ID", help="One family: the id of its parent or of a child.")
        ] = None,
        detailed_exitcode: Annotated[
            bool, typer.Option("--detailed-exitcode", help="2 if there is something to do, 0 if not.")
        ] = False,
    ) -> int:
        """Show what a run would do and what it would cost. Reads only.

        Examples:

          linksub plan

          linksub plan --output json > plan.json

          linksub plan --detailed-exitcode || echo "something is due"
        """
        return one_pass(context_of(ctx), dry_run=True, only=only, detailed_exitcode=detailed_exitcode, command="plan")
