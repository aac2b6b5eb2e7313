"""Plays a scenario: the world's side by the sandbox, the connector's side by whoever calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connector.sandbox.actions import ActionError
from connector.sandbox.app import Sandbox
from connector.sandbox.expectations import Explain, Writes, differences
from connector.sandbox.grammar import RunStep, Scenario, Step
from connector.sandbox.schema import InvalidValue
from connector.sandbox.store import PluginError, StoreError


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step went. ``number`` counts from 1. No differences means that it went as the scenario says."""

    number: int
    kind: str
    differences: tuple[str, ...] = ()
    played: bool = True

    @property
    def ok(self) -> bool:
        """Whether the step was played and nothing differed."""
        return self.played and not self.differences


@dataclass(frozen=True, slots=True)
class PlayResult:
    """How a whole scenario went."""

    scenario: str
    steps: tuple[StepResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every step went as the scenario says."""
        return all(step.ok for step in self.steps)

    @property
    def differences(self) -> list[str]:
        """All differences, each with the step that it belongs to."""
        return [f"step {step.number} {step.kind}: {text}" for step in self.steps for text in step.differences]


def play(
    scenario: Scenario,
    sandbox: Sandbox,
    run_connector: Callable[[RunStep], int],
    forget_state: Callable[[], None],
    explain: Explain | None = None,
) -> PlayResult:
    """Play every step in order.

    ``run_connector`` makes one pass and returns the exit code; ``only`` in a RunStep is an alias, whose GUID is
    ``sandbox.world.id_of(alias)``. ``explain`` is asked with a subscription's GUID and answers with a rule id or
    several. A step that cannot be done ends the play: what follows would be about another world.
    """
    player = _Player(sandbox, run_connector, forget_state, explain)
    results: list[StepResult] = []
    for number, step in enumerate(scenario.steps, start=1):
        if results and not results[-1].played:
            results.append(StepResult(number, step.kind, played=False))
            continue
        try:
            results.append(StepResult(number, step.kind, tuple(player.perform(step))))
        except (ActionError, PluginError, StoreError, InvalidValue, TypeError, ValueError) as error:
            results.append(StepResult(number, step.kind, (f"cannot be done: {error}",), played=False))
    return PlayResult(scenario.name, tuple(results))


class _Player:
    def __init__(
        self,
        sandbox: Sandbox,
        run_connector: Callable[[RunStep], int],
        forget_state: Callable[[], None],
        explain: Explain | None,
    ) -> None:
        self._sandbox = sandbox
        self._run = run_connector
        self._forget = forget_state
        self._explain = explain
        self._seen = sandbox.writes()

    def perform(self, step: Step) -> list[str]:
        if step.run is not None:
            code = self._run(step.run)
            wanted = step.run.exit
            return [] if wanted is None or wanted == code else [f"exit code: expected {wanted}, was {code}"]
        if step.expect is not None:
            total = self._sandbox.writes()
            since = Writes(
                total.provider - self._seen.provider,
                total.crm - self._seen.crm,
                total.crm_requests - self._seen.crm_requests,
            )
            found = differences(step.expect, self._sandbox.world, since, self._explain)
            # Explaining may itself call the services; what it causes is not the next run's doing.
            self._seen = self._sandbox.writes()
            return found
        if step.forget_state is not None:
            if step.forget_state:
                self._forget()
            return []
        self._sandbox.perform(step)
        return []
