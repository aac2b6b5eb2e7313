"""The options that every command takes, and what a command gets to work with: :class:`Context`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector.cli.logs import configure_logging, redacted
from connector.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from connector.config import Config

DEFAULT_CONFIG = Path("config.yaml")


class Output(StrEnum):
    """How results are written to stdout."""

    TEXT = "text"
    JSON = "json"


class LogFormat(StrEnum):
    """How logs are written to stderr."""

    TEXT = "text"
    JSON = "json"


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="LINKSUB_CONFIG",
        show_default=False,
        help="Configuration file; without it ./config.yaml.",
    ),
]
OutputOption = Annotated[
    Output | None, typer.Option("--output", show_default=False, help="Results as text (default) or one JSON document.")
]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; -vv also what libraries say.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", show_default=False, help="Log warnings and errors only.")]
LogFormatOption = Annotated[
    LogFormat | None, typer.Option("--log-format", show_default=False, help="Logs as text or as JSON lines.")
]
NoColorOption = Annotated[bool, typer.Option("--no-color", show_default=False, help="No colours.")]


@dataclass
class Context:
    """What the frame knows when a command starts; a command gets it with :func:`context_of`.

    ``verbosity`` is −1 with ``-q``, 0, 1 with ``-v``, 2 with ``-vv``. ``log_format`` is None until somebody asked.
    """

    config_path: Path | None = None
    output: Output = Output.TEXT
    verbosity: int = 0
    log_format: LogFormat | None = None
    color: bool = True

    def update(
        self,
        *,
        config: Path | None = None,
        output: Output | str | None = None,
        verbose: int = 0,
        quiet: bool = False,
        log_format: LogFormat | str | None = None,
        no_color: bool = False,
    ) -> None:
        """Take in options, given before or after the command's name; what was not given changes nothing."""
        self.config_path = config or self.config_path
        self.output = Output(output) if output else self.output
        self.verbosity = -1 if quiet else max(self.verbosity, 0) + verbose if verbose else self.verbosity
        self.log_format = LogFormat(log_format) if log_format else self.log_format
        self.color = self.color and not no_color
        self._configure_logging("warning", self.log_format or LogFormat.TEXT)

    @property
    def as_json(self) -> bool:
        """Whether results (and errors) are wanted for a machine."""
        return self.output is Output.JSON

    @cached_property
    def stdout(self) -> Console:
        """Where results for people go."""
        from connector.cli.console import make_console

        return make_console(color=self.color)

    @cached_property
    def stderr(self) -> Console:
        """Where progress goes."""
        from connector.cli.console import make_console

        return make_console(stderr=True, color=self.color)

    def load(self, *, check_secrets: bool = True) -> Config:
        """Read the configuration and let its ``log`` section take effect. Raises ConfigError."""
        from connector.cli.logs import use_redactor
        from connector.config import load_config
        from connector.wiring import redact

        use_redactor(redact)
        path = self.config_path
        if path is None:
            path = DEFAULT_CONFIG
            if not path.exists():
                raise ConfigError(
                    f"no configuration: there is no {path} here and --config was not given",
                    hint="linksub init writes a commented config.yaml; linksub demo needs none",
                )
        config = load_config(path, check_secrets=check_secrets)
        self._configure_logging(config.log.level, self.log_format or LogFormat(config.log.format))
        return config

    def emit(self, document: Mapping[str, object]) -> None:
        """Write the one JSON document of a command to stdout; it must name its ``schema_version``."""
        from connector.report.inert import to_json

        if "schema_version" not in document:
            raise ValueError("a document for machines names its schema_version")
        sys.stdout.write(to_json(redacted(document), indent=2) + "\n")
        sys.stdout.flush()

    def _configure_logging(self, level: str, form: LogFormat) -> None:
        configure_logging(verbosity=self.verbosity, level=level, form=form.value)


def context_of(ctx: typer.Context) -> Context:
    """The frame's context inside a command."""
    found = ctx.find_object(Context)
    if found is None:
        raise RuntimeError("commands run inside the frame of connector.cli.app only")
    return found
