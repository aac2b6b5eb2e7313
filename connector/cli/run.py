"""``linksub run``: one pass, or one every few minutes; ``--dry-run`` only shows what it would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.options import Context, context_of
from connector.cli.stopping import Bell, asked_to_stop
from connector.errors import ExitCode, SafetyLimitExceeded, StalePlan, UsageError
from connector.sync.outcome import RunResult
from connector.sync.stopping import StopRequest

if TYPE_CHECKING:
    from connector.config import Config
    from connector.domain.saved import SavedPlan


def register(app: typer.Typer) -> None:
    """Add ``linksub run``."""

    @app.command("run")
    def run(
        ctx: typer.Context,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Read and decide only: no write leaves, no state changes.")
        ] = False,
        only: Annotated[
            str | None, typer.Option("--only", metavar="ID", help="One family: the id of its parent or of a child.")
        ] = None,
        every: Annotated[
            str | None, typer.Option("--every", metavar="SPAN", help="Repeat until stopped, such as every 5m.")
        ] = None,
        detailed_exitcode: Annotated[
            bool, typer.Option("--detailed-exitcode", help="With --dry-run: 2 if there is something to do.")
        ] = False,
    ) -> int:
        """Push every due child change to its parent and its provider, and acknowledge it.

        Examples:

          linksub run --dry-run

          linksub run --only 5f0c1c1e-7a7b-4c55-9a43-0e0f6e1b7c11

          linksub run --every 5m -v
        """
        context = context_of(ctx)
        if detailed_exitcode and not dry_run:
            raise UsageError(
                "--detailed-exitcode goes with --dry-run", hint="linksub run --dry-run --detailed-exitcode"
            )
        if every is None:
            return one_pass(context, dry_run=dry_run, only=only, detailed_exitcode=detailed_exitcode)
        from connector.cli.repeat import parse_interval, repeat

        seconds, stop, stopped = parse_interval(every), StopRequest(), Bell()

        def ask(reason: str) -> None:
            stop.ask(reason)
            stopped.ring()

        with asked_to_stop(ask):
            place = context.load().dataverse.url
            return repeat(seconds, place, stopped, lambda: one_pass(context, dry_run=dry_run, only=only, stop=stop))


def one_pass(
    context: Context,
    *,
    dry_run: bool,
    only: str | None,
    detailed_exitcode: bool = False,
    command: str = "run",
    stop: StopRequest | None = None,
    keep_inputs: bool = False,
    saved: SavedPlan | None = None,
    allow: Mapping[str, str] | None = None,
    afterwards: Callable[[Config, RunResult], Mapping[str, object]] | None = None,
) -> int:
    """One pass from configuration to exit code. Signals end it (75), unless ``stop`` is given: then its owner sees to it.

    ``afterwards`` is called with the result before it is shown, and adds to the document for machines.
    """
    if stop is None:
        stop = StopRequest()
        # A dry run has nothing in hand that would be worth finishing.
        with asked_to_stop(_interrupt if dry_run else stop.ask):
            return one_pass(
                context,
                dry_run=dry_run,
                only=only,
                detailed_exitcode=detailed_exitcode,
                command=command,
                stop=stop,
                keep_inputs=keep_inputs,
                saved=saved,
                allow=allow,
                afterwards=afterwards,
            )
    from connector.cli.progress import TerminalProgress
    from connector.wiring import RunRequest, run_once

    config = context.load()
    request = RunRequest(
        dry_run=dry_run, only=only, command=command, keep_inputs=keep_inputs, saved=saved, allow=allow or {}
    )
    with TerminalProgress(context.stderr, quiet=context.as_json or context.verbosity < 0) as progress:
        result = run_once(config, request, progress=progress, stop=stop)
    show(context, result, command, afterwards(config, result) if afterwards is not None else None)
    code = result.exit_code
    if detailed_exitcode and code is ExitCode.DONE and result.plan.has_changes:
        code = ExitCode.CHANGES_PENDING
    return int(code)


def _interrupt(reason: str) -> None:
    raise KeyboardInterrupt(reason)


def show(context: Context, result: RunResult, command: str, addition: Mapping[str, object] | None = None) -> None:
    """The result on stdout, as text or as one JSON document; an error that ended the run goes to stderr as well."""
    from connector.cli.errors import report_error
    from connector.report.document import run_document
    from connector.report.terminal import plan_view, requests_view, run_view

    if context.as_json:
        context.emit({**run_document(result, command), **(addition or {})})
    else:
        if result.error is None or result.plan.families:
            stopped = isinstance(result.error, SafetyLimitExceeded | StalePlan) and not result.outcomes
            context.stdout.print(plan_view(result.plan) if result.dry_run or stopped else run_view(result))
        if context.verbosity > 0:
            context.stdout.print(requests_view(result.requests))
    if result.error is not None:
        report_error(result.error, as_json=context.as_json, verbosity=context.verbosity)
