"""``linksub journal``: what was intended, sent and confirmed; who did it; and the one thing that a person may close."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.logs import redacted
from connector.cli.options import Context, context_of
from connector.errors import ExitCode, UsageError
from connector.report.inert import to_json

_Id = Annotated[str, typer.Argument(metavar="ID", help="Id of an intent or a run, or its first characters.")]


def register(app: typer.Typer) -> None:
    """Add ``linksub journal``."""
    group = typer.Typer(
        help="Look into the journal: every intended, sent and confirmed purchase, and who ran it. No network.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )

    @group.command("list")
    def list_(
        ctx: typer.Context,
        state: Annotated[
            list[str] | None, typer.Option("--state", help="Only these: planned, sending, unknown, confirmed, …")
        ] = None,
        only_open: Annotated[bool, typer.Option("--open", help="Only those that are not settled yet.")] = False,
        family: Annotated[str | None, typer.Option("--family", metavar="ID", help="Id of the linked parent.")] = None,
        limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="At most so many, newest first.")] = 50,
    ) -> None:
        """List the purchases that were intended, newest first.

        Examples:

          linksub journal list --open

          linksub journal list --state unknown --output json
        """
        from connector import bookkeeping
        from connector.report.journal import intents_view

        context = context_of(ctx)
        document = bookkeeping.list_intents(
            context.load(check_secrets=False),
            _now(),
            states=state or (),
            only_open=only_open,
            family=family,
            limit=limit,
        )
        context.emit(document) if context.as_json else context.stdout.print(intents_view(document))

    @group.command("show")
    def show(ctx: typer.Context, wanted: _Id) -> None:
        """Show one intent, or one run: its terms, its steps, and its audit trail."""
        from connector import bookkeeping
        from connector.report.journal import show_view

        context = context_of(ctx)
        document = bookkeeping.show(context.load(check_secrets=False), _now(), wanted)
        context.emit(document) if context.as_json else context.stdout.print(show_view(document))

    @group.command("settle")
    def settle(
        ctx: typer.Context,
        wanted: Annotated[str, typer.Argument(metavar="ID", help="Id of an open intent, or its first characters.")],
        note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What you found at the provider, and why.")],
    ) -> None:
        """Close an open intent by hand, after you looked at the provider. Who did it, and the note, are kept.

        Rarely needed: the next run settles open intents by reading back. It changes nothing but the journal.

        Example:

          linksub journal settle 3f2a90c1 --note "Partner Center shows 60; invoice checked"
        """
        from connector import bookkeeping
        from connector.report.journal import settled_view
        from connector.wiring import operator

        context = context_of(ctx)
        document = bookkeeping.settle(context.load(check_secrets=False), _now(), wanted, note, operator())
        context.emit(document) if context.as_json else context.stdout.print(settled_view(document))

    @group.command("export")
    def export(
        ctx: typer.Context,
        file: Annotated[
            Path | None, typer.Argument(metavar="[FILE]", help="Where to; without it stdout.", show_default=False)
        ] = None,
    ) -> None:
        """Write everything in the journal as JSON lines: runs, intents, their steps, the audit trail.

        Example:

          linksub journal export journal.jsonl
        """
        _export(context_of(ctx), file)

    @group.command("verify")
    def verify(ctx: typer.Context) -> int:
        """Check that nothing in the journal was changed, removed or damaged. 74 if something was."""
        from connector import bookkeeping
        from connector.report.journal import verified_view

        context = context_of(ctx)
        document = bookkeeping.verify(context.load(check_secrets=False), _now())
        context.emit(document) if context.as_json else context.stdout.print(verified_view(document))
        return int(ExitCode.DONE if document["sound"] else ExitCode.CANNOT_JOURNAL)

    app.add_typer(group, name="journal")


def _export(context: Context, file: Path | None) -> None:
    from connector import bookkeeping

    documents = bookkeeping.export(context.load(check_secrets=False), _now())
    if file is None:
        for document in documents:
            sys.stdout.write(to_json(redacted(document)) + "\n")
        sys.stdout.flush()
        return
    try:
        # It holds names and quantities of customers: its owner's from the first moment on.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as out:
            lines = sum(1 for document in documents if out.write(to_json(redacted(document)) + "\n"))
    except FileExistsError as error:
        raise UsageError(f"{file} exists already", hint="name another file") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint="name another file") from error
    if context.as_json:
        context.emit({"schema_version": 1, "command": "journal export", "written": str(file), "lines": lines})
    else:
        context.stdout.print(f"Wrote {lines} lines to {file}")


def _now() -> datetime:
    return datetime.now(UTC)
