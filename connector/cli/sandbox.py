"""``linksub sandbox up``: the embedded services in the foreground, for people and for other clients."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import yaml

from connector.cli.options import Context, context_of
from connector.cli.rehearse import builtin_directory
from connector.cli.stopping import Bell
from connector.errors import ConfigError, UsageError


def register(app: typer.Typer) -> None:
    """Add ``linksub sandbox``."""
    group = typer.Typer(
        help="An embedded Dataverse, Partner Center and sign-in service on loopback.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @group.callback()
    def _group() -> None:
        """Keeps ``up`` a command of its own."""

    @group.command("up")
    def up(
        ctx: typer.Context,
        scenario: Annotated[
            Path | None, typer.Option("--scenario", metavar="FILE", help="World to serve; without it Pine Cone Vet.")
        ] = None,
        write_config: Annotated[
            Path | None, typer.Option("--write-config", metavar="FILE", help="Also write a ready configuration here.")
        ] = None,
        port: Annotated[
            int, typer.Option("--port", min=0, max=65533, help="First of three ports; 0 takes free ones.")
        ] = 0,
    ) -> int:
        """Serve the sandbox until Ctrl-C. With --output json one line says where, once it listens.

        Examples:

          linksub sandbox up --write-config sandbox.yaml

          linksub sandbox up --scenario my-world.yaml --output json

          linksub --config sandbox.yaml run --dry-run
        """
        return _serve(context_of(ctx), scenario, write_config, port)

    app.add_typer(group, name="sandbox")


def _serve(context: Context, scenario_file: Path | None, write_config: Path | None, port: int) -> int:
    from connector.cli.console import typed
    from connector.cli.rehearsal import settings_for, write_secret
    from connector.sandbox.app import Sandbox
    from connector.sandbox.scenario import ScenarioError, load_scenario
    from connector.sandbox.server import SandboxServer

    path = scenario_file or builtin_directory() / "pine_cone_vet.yaml"
    if not path.is_file():
        raise UsageError(f"there is no scenario {path}", hint="--scenario takes the path of a scenario file")
    try:
        scenario = load_scenario(path)
    except ScenarioError as error:
        raise ConfigError(
            f"the scenario {path} cannot be used", problems=error.problems, hint="README, Scenarios, has the grammar"
        ) from error
    ports = {"dataverse": port, "partner_center": port + 1, "sign_in": port + 2} if port else {}
    # Handlers before the first line: whoever reads it may end us at once.
    ended = Bell()

    def end(number: int, frame: FrameType | None) -> None:
        ended.ring()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with (
        tempfile.TemporaryDirectory(prefix="linksub-sandbox-") as directory,
        SandboxServer(Sandbox.from_scenario(scenario), ports=ports) as server,
    ):
        endpoints = server.endpoints
        secret = write_secret(Path(directory), endpoints.client_secret)
        config_file = (write_config or Path(directory) / "config.yaml").absolute()
        settings = settings_for(endpoints, secret, config_file.parent / ".linksub-sandbox") | {
            "policy": scenario.policy
        }
        _write(config_file, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        if context.as_json:
            sys.stdout.write(json.dumps(endpoints.to_json() | {"config": str(config_file)}) + "\n")
            sys.stdout.flush()
        else:
            context.stdout.print(
                f"Dataverse       {endpoints.dataverse}/api/data/v9.2/\n"
                f"Partner Center  {endpoints.partner_center}/v1/\n"
                f"Sign-in         {endpoints.sign_in}/{endpoints.tenant}\n"
                f"Client          {endpoints.client_id}\n"
                f"Secret          in {secret}\n"
                f"Trust           {endpoints.ca_bundle}\n\n"
                f"Serving {scenario.name!r}; its clock stands at {scenario.clock:%Y-%m-%d %H:%M} UTC and time passes only"
                " when it is told to.\n"
                f"Try:  linksub --config {typed(config_file)} plan\n"
                "Ctrl-C ends it."
            )
        while not ended.wait(0.5):
            pass
    return 0


def _write(path: Path, text: str) -> None:
    """Write a configuration that only its owner can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
