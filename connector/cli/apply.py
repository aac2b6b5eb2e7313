"""``linksub apply FILE``: exactly the plan that a person reviewed, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.options import context_of
from connector.cli.run import one_pass
from connector.errors import ConfigError, UsageError


def register(app: typer.Typer) -> None:
    """Add ``linksub apply``."""

    @app.command("apply")
    def apply(
        ctx: typer.Context,
        file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan that linksub plan --out FILE saved.")],
        allow: Annotated[
            list[str] | None,
            typer.Option(
                "--allow",
                metavar="LIMIT=VALUE",
                help="Let this one plan go that far beyond one safety limit; may be repeated. It is journaled.",
            ),
        ] = None,
    ) -> int:
        """Do exactly what a saved plan says: only its families, only its actions.

        Refused with exit code 6, before anything is written, when the plan expired or anything that it was decided from
        has moved: a row of the CRM, the provider, the policy. A family that moves while the plan is applied is left
        alone. A plan is applied once; after a crash in the middle it is stale, and linksub run finishes what it began.

        Examples:

          linksub apply plan.json

          linksub apply plan.json --allow seats_added=2000

          linksub apply plan.json --allow money_added.EUR=250000
        """
        from connector.report.planfile import read_plan_file

        allowed = _allowances(allow or ())
        try:
            raw = file.read_bytes()
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {file}", hint="linksub plan --out FILE writes one") from error
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror or error}", hint="check its permissions") from error
        saved = read_plan_file(raw, str(file))
        return one_pass(context_of(ctx), dry_run=False, only=None, command="apply", saved=saved, allow=allowed)


def _allowances(given: Sequence[str]) -> dict[str, str]:
    """``seats_added=200`` → name and value. Raises UsageError, without having looked at anything."""
    from connector.domain.policy import Limits
    from connector.precautions import allowed_limits

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"--allow {text}: give a limit and a value", hint="--allow seats_added=200")
        if name in found:
            raise UsageError(f"--allow {name} is given twice", hint="give each limit once")
        found[name] = value
    allowed_limits(Limits(), found)
    return found
