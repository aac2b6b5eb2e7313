"""``linksub demo``: the Pine Cone Vet story on the embedded sandbox, shown step by step, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from connector.cli.console import make_table
from connector.cli.options import Context, context_of
from connector.cli.rehearsal import Rehearsal
from connector.cli.rehearse import builtin_directory
from connector.errors import ExitCode, UsageError
from connector.report.document import run_document
from connector.report.layout import Rows
from connector.report.terminal import plan_view, requests_view, run_view
from connector.sandbox.grammar import RunStep, Step
from connector.sandbox.scenario import load_scenario

_LOG = "work365_licensechangelog"


def register(app: typer.Typer) -> None:
    """Add ``linksub demo``."""

    @app.command("demo")
    def demo(
        ctx: typer.Context,
        story: Annotated[str, typer.Option("--story", metavar="NAME", help="Which shipped scenario to tell.")] = (
            "pine_cone_vet"
        ),
    ) -> int:
        """Tell a whole story on the sandbox: the world before, the plan, what was sent, the world after, and a second run.

        Needs no configuration, no network and no account.
        """
        context = context_of(ctx)
        path = builtin_directory() / f"{story}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(found.stem for found in path.parent.glob("*.yaml")))
            raise UsageError(f"there is no story {story!r}", hint=f"one of: {names}")
        with Rehearsal(load_scenario(path)) as rehearsal:
            return _as_json(context, rehearsal) if context.as_json else _told_to_people(context, rehearsal)


def _as_json(context: Context, rehearsal: Rehearsal) -> int:
    for step in _opening(rehearsal.scenario.steps):
        rehearsal.sandbox.perform(step)
    rehearsal.run(RunStep(dry_run=True))
    code = rehearsal.run(RunStep())
    before = rehearsal.sandbox.writes()
    rehearsal.run(RunStep())
    quiet = before == rehearsal.sandbox.writes()
    commands = ("plan", "run", "run")
    context.emit(
        {
            "schema_version": 1,
            "command": "demo",
            "second_run_wrote_nothing": quiet,
            "runs": [run_document(result, name) for result, name in zip(rehearsal.results, commands, strict=True)],
        }
    )
    return _code(code, quiet)


def _told_to_people(context: Context, rehearsal: Rehearsal) -> int:
    out, sandbox, steps = context.stdout, rehearsal.sandbox, _opening(rehearsal.scenario.steps)
    _chapter(out, 1, "The world before: children bill, one parent per SKU provisions")
    out.print(_world(rehearsal))
    for step in steps:
        sandbox.perform(step)
    _chapter(out, 2, "What happens in Work 365")
    for step in steps:
        out.print(f"   {_told(step, rehearsal)}")
    rehearsal.run(RunStep(dry_run=True))
    _chapter(out, 3, "The plan (linksub plan): nothing is written yet")
    out.print(plan_view(rehearsal.results[-1].plan))
    seen = len(sandbox.trace.entries())
    code = rehearsal.run(RunStep())
    ran = rehearsal.results[-1]
    _chapter(out, 4, "The run (linksub run)")
    out.print(run_view(ran))
    out.print(_sent(rehearsal, seen))
    _chapter(out, 5, "The world after")
    out.print(_world(rehearsal))
    before = sandbox.writes()
    rehearsal.run(RunStep())
    after = sandbox.writes()
    _chapter(out, 6, "A second run (linksub run)")
    out.print(run_view(rehearsal.results[-1]))
    out.print(
        f"   writes at Partner Center: {after.provider - before.provider}, in Dataverse: {after.crm - before.crm}"
    )
    if context.verbosity > 0:
        out.print(requests_view(ran.requests))
    return _code(code, before == after)


def _code(code: int, quiet: bool) -> int:
    return code if code else int(ExitCode.DONE if quiet else ExitCode.INTERNAL)


def _opening(steps: Sequence[Step]) -> list[Step]:
    """What people do before the first run."""
    at = next((number for number, step in enumerate(steps) if step.run is not None), len(steps))
    return [step for step in steps[:at] if step.expect is None]


def _chapter(out: Console, number: int, title: str) -> None:
    out.print()
    out.print(f"{number}. {title}", style="bold")


def _told(step: Step, rehearsal: Rehearsal) -> str:
    """What a person did, with the names that people use."""
    change = step.change
    if change is None:
        return step.kind.replace("_", " ")
    row = rehearsal.sandbox.store.get("work365_subscription", rehearsal.sandbox.world.id_of(change.subscription)) or {}
    name = row.get("work365_subscription_subscriptionname", change.subscription)
    if change.quantity is not None:
        return f"{name} goes to {change.quantity} seats"
    return f"{name} changes by {change.by:+d} seats" if change.by is not None else f"{name} changes"


def _world(rehearsal: Rehearsal) -> Rows:
    """One row per subscription: what the CRM says, and what the provider says of the parents."""
    sandbox, scenario = rehearsal.sandbox, rehearsal.scenario
    contracts = {contract.id: contract.name or contract.id for contract in scenario.contracts}
    rows: list[tuple[object, ...]] = []
    for spec in scenario.subscriptions:
        row = sandbox.store.get("work365_subscription", sandbox.world.id_of(spec.id)) or {}
        bought = sandbox.world.bought(spec.id)
        changes = [
            f"{log[f'{_LOG}_quantity']:+d} "
            + sandbox.store.schema.label(_LOG, f"{_LOG}_provisioningstatus", log[f"{_LOG}_provisioningstatus"])
            for log in sandbox.world.logs_of(spec.id)
        ]
        rows.append(
            (
                contracts.get(spec.contract or "", spec.contract),
                spec.product,
                "linked child" if spec.linked_to else "parent",
                row.get("work365_subscription_quantity"),
                bought.quantity if bought is not None else None,
                ", ".join(changes),
            )
        )
    heads = ("Contract", "Product", "Role", "Seats", "Partner Center", "Licence changes")
    return make_table(heads, rows, right=(3, 4))


def _sent(rehearsal: Rehearsal, seen: int) -> Rows:
    """The requests of the run that wrote something."""
    rows = [
        (entry.service, entry.method, entry.path, entry.status)
        for entry in rehearsal.sandbox.trace.entries()[seen:]
        if entry.write and entry.service != "sign_in"
    ]
    return make_table(("Service", "Method", "Path", "Status"), rows, title="Writes that were sent", right=(3,))
