"""``linksub rehearse``: play scenario files with the real connector against the sandbox, and say what differed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connector.cli.options import Context, context_of
from connector.errors import ConfigError, ConnectorError, UsageError


def register(app: typer.Typer) -> None:
    """Add ``linksub rehearse``."""

    @app.command("rehearse")
    def rehearse(
        ctx: typer.Context,
        scenarios: Annotated[
            list[Path] | None, typer.Argument(metavar="SCENARIO.yaml…", help="Scenario files, or directories of them.")
        ] = None,
        builtin: Annotated[bool, typer.Option("--builtin", help="Play the scenarios that ship with linksub.")] = False,
    ) -> int:
        """Play scenarios on the embedded sandbox: a world, a timeline, and what is expected. 0 all as expected, 1 not.

        Examples:

          linksub rehearse --builtin

          linksub rehearse my-change.yaml

          linksub rehearse scenarios/ --output json
        """
        return _rehearse(context_of(ctx), scenarios or [], builtin=builtin)


def builtin_directory() -> Path:
    """Where the shipped scenarios are."""
    import connector.sandbox

    return Path(connector.sandbox.__file__).parent / "scenarios"


def scenario_files(given: list[Path]) -> list[Path]:
    """The files that were named, and those in the directories that were named. Raises UsageError."""
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            found = sorted(path.glob("*.yaml")) + sorted(path.glob("*.yml"))
            if not found:
                raise UsageError(f"there is no scenario in {path}", hint="scenario files end in .yaml")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"there is no scenario {path}", hint="linksub rehearse --builtin plays those that ship")
    return files


def _rehearse(context: Context, given: list[Path], *, builtin: bool) -> int:
    files = scenario_files([*given, *([builtin_directory()] if builtin else [])])
    if not files:
        raise UsageError("no scenario was named", hint="linksub rehearse FILE… or linksub rehearse --builtin")
    results = [_play(context, path) for path in files]
    passed = sum(1 for result in results if result["ok"])
    if context.as_json:
        context.emit(
            {
                "schema_version": 1,
                "command": "rehearse",
                "passed": passed,
                "failed": len(results) - passed,
                "scenarios": results,
            }
        )
    else:
        context.stdout.print(f"{passed} of {len(results)} scenarios went as expected")
    return 0 if passed == len(results) else 1


def _play(context: Context, path: Path) -> dict[str, object]:
    """One scenario: what is shown on a terminal is shown at once."""
    from connector.cli.console import strip_controls
    from connector.cli.rehearsal import Rehearsal
    from connector.sandbox.scenario import ScenarioError, load_scenario

    name, differences = path.stem, list[str]()
    try:
        scenario = load_scenario(path)
        name = scenario.name
        with Rehearsal(scenario) as rehearsal:
            played = rehearsal.play()
            differences = list(played.differences)
            differences += [f"the sandbox made a mistake: {text}" for text in rehearsal.crashes_of_the_sandbox]
    except ScenarioError as error:
        differences = list(error.problems)
    except ConfigError as error:
        differences = [str(error), *error.problems]
    except ConnectorError as error:
        differences = [str(error)]
    if not context.as_json:
        context.stdout.print(
            f"{'ok  ' if not differences else 'FAIL'} {strip_controls(name)} ({strip_controls(str(path))})"
        )
        for text in differences:
            context.stdout.print(f"     {strip_controls(text)}")
    return {"file": str(path), "name": name, "ok": not differences, "differences": differences}
