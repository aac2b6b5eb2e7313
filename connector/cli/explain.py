"""``linksub explain``: why a family's number is what it is, what each change waits for, and who blocks whom."""

from __future__ import annotations

from typing import Annotated

import typer

from connector.cli.options import Context, context_of


def register(app: typer.Typer) -> None:
    """Add ``linksub explain``."""

    @app.command("explain")
    def explain(
        ctx: typer.Context,
        wanted: Annotated[
            str,
            typer.Argument(
                metavar="ID|NAME",
                help="A parent, a child or a licence change log by its id, or a subscription by a part of its name.",
            ),
        ],
    ) -> int:
        """Say why a number is what it is, what every open change waits for, and who blocks whom. Writes nothing.

        Examples:

          linksub explain 5f0c1c1e-7a7b-4c55-9a43-0e0f6e1b7c11

          linksub explain "New York"

          linksub explain "New York" --output json
        """
        return _explain(context_of(ctx), wanted)


def _explain(context: Context, wanted: str) -> int:
    from connector.explaining import explain
    from connector.report.explanation import explanation_document
    from connector.report.explanation_view import explanation_view

    found = explain(context.load(), wanted)
    if context.as_json:
        context.emit(explanation_document(wanted, found))
    else:
        context.stdout.print(explanation_view(found))
    return 0
