"""``linksub plan``: what a run would do, with its money effect, before it does it; ``--out`` saves it for ``apply``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.options import context_of
from connector.cli.run import one_pass
from connector.errors import ConfigError, UsageError
from connector.sync.outcome import RunResult

if TYPE_CHECKING:
    from connector.config import Config


def register(app: typer.Typer) -> None:
    """Add ``linksub plan``."""

    @app.command("plan")
    def plan(
        ctx: typer.Context,
        only: Annotated[
            str | None, typer.Option("--only", metavar="ID", help="One family: the id of its parent or of a child.")
        ] = None,
        out: Annotated[
            Path | None, typer.Option("--out", metavar="FILE", help="Save the plan for linksub apply FILE.")
        ] = None,
        expires: Annotated[
            str | None,
            typer.Option(
                "--expires", metavar="SPAN", help="How long a saved plan may be applied (24h).", show_default=False
            ),
        ] = None,
        detailed_exitcode: Annotated[
            bool, typer.Option("--detailed-exitcode", help="2 if there is something to do, 0 if not.")
        ] = False,
    ) -> int:
        """Show what a run would do and what it would cost. Sends no write; a plan beyond a safety limit is shown too.

        Examples:

          linksub plan

          linksub plan --output json

          linksub plan --out plan.json --expires 2h

          linksub plan --detailed-exitcode || echo "something is due"
        """
        context = context_of(ctx)
        if expires is not None and out is None:
            raise UsageError("--expires goes with --out", hint="linksub plan --out plan.json --expires 2h")
        lifetime = _lifetime(expires)
        if out is None:
            return one_pass(context, dry_run=True, only=only, detailed_exitcode=detailed_exitcode, command="plan")
        _check_place(out)

        kept: dict[str, str] = {}

        def save(config: Config, result: RunResult) -> Mapping[str, object]:
            kept.update(_save(config, result, out, lifetime) if result.error is None else {})
            return {"plan_file": kept or None}

        code = one_pass(
            context,
            dry_run=True,
            only=only,
            detailed_exitcode=detailed_exitcode,
            command="plan",
            keep_inputs=True,
            afterwards=save,
        )
        if kept and not context.as_json:
            from connector.cli.console import typed

            context.stdout.print(f"Saved to {out}\nValid until {kept['expires_at']}. To apply exactly this:")
            context.stdout.print(f"  linksub apply {typed(out)}")
        return code


def _lifetime(text: str | None) -> timedelta:
    from connector.report.planfile import LIFETIME, LONGEST_LIFETIME
    from connector.settings import parse_duration

    if text is None:
        return LIFETIME
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires {text}: {error}") from error
    if found > LONGEST_LIFETIME:
        raise UsageError(f"--expires {text}: a plan lives {LONGEST_LIFETIME.days} days at most")
    return found


def _check_place(path: Path) -> None:
    """Raises UsageError before anything is read when the file could not be written, or holds something else."""
    from connector.report.planfile import is_plan_file

    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}", hint="make it first")
    if os.path.lexists(path) and not (path.is_file() and is_plan_file(path.read_bytes())):
        raise UsageError(f"{path} exists and is no plan file", hint="name another file; only plans are overwritten")


def _save(config: Config, result: RunResult, path: Path, lifetime: timedelta) -> dict[str, str]:
    """Write the plan file, for its owner only: it holds names and quantities of customers."""
    from connector.precautions import made_with
    from connector.report.planfile import plan_file, render
    from connector.wiring import operator

    document = plan_file(result, made_with(config, operator()), lifetime)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(render(document))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ConfigError(
            f"the plan cannot be written to {path}: {error.strerror or error}", hint="name another file"
        ) from error
    return {"path": str(path), "digest": str(document["digest"]), "expires_at": str(document["expires_at"])}
