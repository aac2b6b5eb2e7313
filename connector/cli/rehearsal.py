"""Playing a scenario with the real connector: the sandbox on loopback TLS, and passes that know nothing of it.

The connector's clock is the sandbox's and waiting moves it, so nothing sleeps. Families run one after the other, so that
"after its N-th HTTP call" means the same call every time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from pydantic import ValidationError

from connector.errors import ConfigError
from connector.explaining import explain_rules
from connector.sandbox.app import Sandbox
from connector.sandbox.grammar import RunStep, Scenario
from connector.sandbox.player import PlayResult, play
from connector.sandbox.server import Endpoints, SandboxServer
from connector.settings import Config
from connector.sync.outcome import RunResult
from connector.wiring import RunRequest, run_once

CRASHED = 137
"""Exit code of a pass that a scenario kills (128 + SIGKILL)."""


class Crash(BaseException):
    """The process dies here. Not an Exception, so that no handler of the connector can survive it."""


class CrashAfter:
    """A session observer that ends the process right after its N-th HTTP call was answered."""

    def __init__(self, calls: int | None) -> None:
        self._left = calls
        self.answered = 0

    def before(self, request: requests.PreparedRequest) -> None:
        """Nothing happens before a call."""

    def after(self, response: requests.Response) -> None:
        """Count the answer; the last one kills."""
        self.answered += 1
        if self._left is not None and self.answered >= self._left:
            raise Crash


def settings_for(endpoints: Endpoints, secret_file: Path, state: Path) -> dict[str, Any]:
    """The configuration that points a connector at a sandbox, as it would stand in a file."""
    return {
        "schema_version": 1,
        "dataverse": {"url": endpoints.dataverse},
        "partner_center": {"url": endpoints.partner_center},
        "sign_in": {
            "authority": endpoints.sign_in,
            "tenant_id": endpoints.tenant,
            "client_id": endpoints.client_id,
            "client_secret": f"file:{secret_file}",
            "validate_authority": False,
            "partner_center": {"scope": f"{endpoints.partner_center}/.default"},
        },
        "http": {"ca_bundle": endpoints.ca_bundle, "connect_timeout": "30s", "read_timeout": "60s"},
        "state": {"directory": str(state)},
    }


def write_secret(directory: Path, secret: str) -> Path:
    """The sandbox's secret in a file that only its owner can read."""
    path = directory / "client_secret"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret)
    return path


class Rehearsal:
    """One scenario's sandbox, and a connector that is run against it. A context manager."""

    def __init__(self, scenario: Scenario, *, changes: Mapping[str, Any] | None = None) -> None:
        self.scenario = scenario
        self.sandbox = Sandbox.from_scenario(scenario)
        self.results: list[RunResult] = []
        """The result of every pass that was not killed, in order."""
        self.calls: list[int] = []
        """How many HTTP calls each pass made."""
        self._changes = dict(changes or {})
        self._server = SandboxServer(self.sandbox)
        self._directory = Path(tempfile.mkdtemp(prefix="linksub-rehearsal-"))
        self.state = self._directory / "state"

    def __enter__(self) -> Rehearsal:
        endpoints = self._server.start()
        secret = write_secret(self._directory, endpoints.client_secret)
        settings = settings_for(endpoints, secret, self.state) | {"policy": self.scenario.policy} | self._changes
        try:
            self.config = Config.model_validate(settings)
        except ValidationError as error:
            self.__exit__(None, None, None)
            problems = [
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            ]
            raise ConfigError(
                f"the scenario {self.scenario.name!r} sets a policy that linksub does not have",
                problems=problems,
                hint="config.example.yaml explains every policy key",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def play(self) -> PlayResult:
        """Play every step of the scenario."""
        return play(self.scenario, self.sandbox, self.run, self.forget_state, self.explain)

    def run(self, step: RunStep) -> int:
        """One pass of the real connector; returns its exit code."""
        observer = CrashAfter(step.crash_after)
        only = self.sandbox.world.id_of(step.only) if step.only is not None else None
        try:
            result = run_once(
                self.config,
                RunRequest(dry_run=step.dry_run, only=only, command="rehearse", parallel=1),
                clock=self.sandbox.clock,
                observer=observer,
            )
        except Crash:
            return CRASHED
        finally:
            self.calls.append(observer.answered)
        self.results.append(result)
        return int(result.exit_code)

    def forget_state(self) -> None:
        """Delete the connector's journal."""
        shutil.rmtree(self.state, ignore_errors=True)

    def explain(self, subscription_id: str) -> list[str]:
        """The rules that say what becomes of a subscription's open changes."""
        return explain_rules(self.config, subscription_id, clock=self.sandbox.clock)

    @property
    def crashes_of_the_sandbox(self) -> list[str]:
        """Mistakes of the sandbox itself; anything here is a bug of it."""
        return self._server.crashes
