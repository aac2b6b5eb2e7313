"""Write a commented config.yaml to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.options import DEFAULT_CONFIG, context_of
from connector.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add ``linksub init``."""

    @app.command("init")
    def init(
        ctx: typer.Context,
        file: Annotated[Path | None, typer.Argument(help="Where to write it.", show_default="config.yaml")] = None,
    ) -> None:
        """Write a commented config.yaml to start from. An existing file is never overwritten."""
        from connector.config import example_text

        context = context_of(ctx)
        path = file or context.config_path or DEFAULT_CONFIG
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as out:
                out.write(example_text())
        except FileExistsError as error:
            raise UsageError(
                f"{path} exists already", hint="linksub init never overwrites; name another file"
            ) from error
        except FileNotFoundError as error:
            raise UsageError(f"there is no directory {path.parent}", hint="make it first") from error
        if context.as_json:
            context.emit({"schema_version": 1, "written": str(path)})
        else:
            context.stdout.print(
                f"Wrote {path}\nNext: fill in dataverse.url, sign_in.tenant_id and sign_in.client_id,\n"
                "export the secret as LINKSUB_CLIENT_SECRET, then look before you leap:\n  linksub plan"
            )
