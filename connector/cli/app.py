"""The frame of ``linksub``: global options, the table of commands, and the one place where errors become exit codes.

A command is one file ``connector/cli/NAME.py`` with ``register(app)``; it is imported when it is called, so that
``linksub --help`` costs no more than Python, typer and this table. Global options may stand before or
after the command.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from connector import __version__
from connector.cli.errors import report_error
from connector.cli.options import (
    ConfigOption,
    Context,
    LogFormatOption,
    NoColorOption,
    OutputOption,
    QuietOption,
    VerboseOption,
    context_of,
)
from connector.errors import ExitCode, Interrupted

COMMANDS: tuple[tuple[str, str], ...] = (
    ("demo", "Tell a whole story on the embedded sandbox; needs nothing."),
    ("run", "Push due child changes up, verify them, acknowledge them."),
    ("plan", "Show what a run would do and what it would cost."),
    ("apply", "Do exactly what a saved plan says, or refuse it as stale."),
    ("explain", "Say why a number is what it is, and who waits for whom."),
    ("rules", "List the rules that decide, or show one whole."),
    ("status", "Show how things stand: last runs, open purchases, who waits."),
    ("journal", "Look into the journal: list, show, settle, export, verify."),
    ("rehearse", "Play scenario files on the embedded sandbox."),
    ("sandbox", "Serve the embedded sandbox: linksub sandbox up."),
    ("init", "Write a commented config.yaml to start from."),
)
"""Name of each command, which is the name of its file, and its line in ``linksub --help``; in the order shown there."""


class CommandTable(TyperGroup):
    """Lists every command from :data:`COMMANDS` and imports the one that is called."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command as usual, then put the real one in place of its line in the table."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, placeholder if name is None else load_command(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C becomes an error of ours before typer makes an exit code of its own out of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error


def load_command(name: str) -> Any:
    """Import one command's file and let it register; returns it with the global options added (hidden in its help)."""
    module = importlib.import_module(f"connector.cli.{name}")
    own = typer.Typer(callback=_nothing, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
    module.register(own)
    command = typer.main.get_group(own).commands[name]
    _accept_global_options(command)
    return command


def _with_whole_examples(text: str) -> str:
    """A command's help in which the examples, which people copy, are not wrapped to the terminal's width."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(f"\b\n{each}" if each.strip().startswith("linksub ") else each for each in paragraphs)


def _nothing() -> None:
    """Makes a Typer with a single command a group, so that commands are found by name."""


def _global_options(
    config: ConfigOption = None,
    output: OutputOption = None,
    verbose: VerboseOption = 0,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
    no_color: NoColorOption = False,
) -> None:
    """Only read for its parameters."""


def _accept_global_options(command: Any) -> None:
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            _accept_global_options(inner)
        return
    command.help = _with_whole_examples(command.help or "")
    probe = typer.Typer(add_completion=False)
    probe.command()(_global_options)
    taken = {name for param in command.params for name in param.opts}
    for param in typer.main.get_command(probe).params:
        if taken.isdisjoint(param.opts):
            option: Any = copy.copy(param)
            # The environment counts once, at the top: it must not win over --config before the command's name.
            option.hidden, option.expose_value, option.envvar = True, False, None
            option.callback = _take_in
            command.params.append(option)


def _take_in(ctx: Any, param: Any, value: Any) -> Any:
    if value:
        context_of(ctx).update(**{param.name: value})
    return value


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linksub {__version__}")
        raise typer.Exit()


app = typer.Typer(
    name="linksub",
    cls=CommandTable,
    help="Keeps Work 365 linked subscriptions right: child subscriptions bill, one parent provisions in Partner "
    "Center. Nothing is written without run or apply.",
    epilog="Exit codes: 0 done, 3 some families need a person, 75 try again later, 64 usage, 77 sign-in, "
    "78 configuration; README has them all.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _root(
    ctx: typer.Context,
    config: ConfigOption = None,
    output: OutputOption = None,
    verbose: VerboseOption = 0,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
    no_color: NoColorOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    context = ctx.ensure_object(Context)
    context.update(config=config, output=output, verbose=verbose, quiet=quiet, log_format=log_format, no_color=no_color)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(int(ExitCode.USAGE))


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Every exception ends here, in :func:`report_error`.

    A command ends by returning None (0) or an exit code, by ``typer.Exit``, or by raising.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    context = Context()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a code page without Σ must not end a run
    try:
        command = typer.main.get_command(app)
        result = command.main(arguments, prog_name="linksub", standalone_mode=False, obj=context)
        sys.stdout.flush()
    except BrokenPipeError as error:
        # Python flushes stdout once more when it exits; without this it would complain about the same thing again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return report_error(error, as_json=context.as_json, verbosity=context.verbosity)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(ExitCode.INTERNAL)
    except BaseException as error:  # noqa: BLE001  # the outermost boundary: everything becomes an exit code
        as_json = context.as_json or _asks_for_json(arguments)
        return report_error(error, as_json=as_json, verbosity=context.verbosity)
    return int(result) if isinstance(result, int) else int(ExitCode.DONE)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """A command line that could not be parsed may still say how it wants to hear about it."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(first == "--output=json" or (first, second) == ("--output", "json") for first, second in pairs)
