"""Playing a scenario with the real connector: the sandbox on loopback TLS, and passes that know nothing of it.

The connector's clock is the sandbox's and waiting moves it, so nothing sleeps. Families run one after the other, so that
"after its N-th HTTP call" means the same call every time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
import yaml
from pydantic import ValidationError

from connector.cli.hosts import HostStates, running_on
from connector.errors import ConfigError
from connector.explaining import explain_rules
from connector.mapping import BUILT_IN, load_mapping
from connector.sandbox.app import Sandbox
from connector.sandbox.deaths import Watch
from connector.sandbox.grammar import RunStep, Scenario
from connector.sandbox.player import PlayResult, play
from connector.sandbox.server import Endpoints, SandboxServer
from connector.sandbox.work365 import MARKER
from connector.settings import Config
from connector.sync.outcome import RunResult
from connector.wiring import RunRequest, run_once

CRASHED = 137
"""Exit code of a pass that a scenario kills (128 + SIGKILL)."""


class Crash(BaseException):
    """The process dies here. Not an Exception, so that no handler of the connector can survive it."""


class CrashAfter:
    """A session observer that ends the process right after its N-th HTTP call was answered, or when a watch trips."""

    def __init__(self, calls: int | None, watch: Watch | None = None) -> None:
        self._left = calls
        self._watch = watch
        self.answered = 0

    def before(self, request: requests.PreparedRequest) -> None:
        """The dead do not call."""
        self._die_if_it_is_time()

    def after(self, response: requests.Response) -> None:
        """Count the answer; the last one kills."""
        self.answered += 1
        self._die_if_it_is_time()

    def _die_if_it_is_time(self) -> None:
        counted = self._left is not None and self.answered >= self._left
        if counted or (self._watch is not None and self._watch.tripped):
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


def declared_settings(scenario: Scenario) -> dict[str, Any]:
    """What the connector is told of the organisation's Work 365: nothing unless the scenario has such a section."""
    spec = scenario.work365
    if spec is None or not spec.declared:
        return {}
    return {"work365": {"parent_log": spec.parent_log, "pushes": "no" if spec.pushes == "no" else "yes"}}


def mapping_with_marker() -> str:
    """The shipped mapping as YAML, with the column that an organisation may add for the marker."""
    document = load_mapping(BUILT_IN).model_dump(mode="json", exclude_none=True)
    document["tables"]["subscription"]["columns"]["marker"] = {
        "column": MARKER,
        "evidence": "assumed",
        "optional": True,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


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
        self._states = HostStates(self.state, self._directory)

    def __enter__(self) -> Rehearsal:
        endpoints = self._server.start()
        secret = write_secret(self._directory, endpoints.client_secret)
        settings = settings_for(endpoints, secret, self.state) | {"policy": self.scenario.policy}
        settings |= declared_settings(self.scenario)
        if self.scenario.work365 is not None and self.scenario.work365.marker_column:
            mapping = self._directory / "mapping.yaml"
            mapping.write_text(mapping_with_marker(), encoding="utf-8")
            settings["mapping"] = str(mapping)
        settings |= self._changes
        try:
            self.config = Config.model_validate(settings)
        except ValidationError as error:
            self.__exit__(None, None, None)
            problems = [
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            ]
            raise ConfigError(
                f"the scenario {self.scenario.name!r} sets something that linksub does not have",
                problems=problems,
                hint="config.example.yaml explains every key",
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
        watch, calls = None, None
        if isinstance(step.crash_after, int):
            calls = step.crash_after
        elif step.crash_after is not None or step.crash_in_batch is not None:
            watch = self.sandbox.watch_for(step.crash_after, batch_items=step.crash_in_batch)
        observer = CrashAfter(calls, watch)
        only = self.sandbox.world.id_of(step.only) if step.only is not None else None
        try:
            with self._at_host(step) as config:
                result = run_once(
                    config,
                    RunRequest(dry_run=step.dry_run, only=only, command="rehearse", parallel=1),
                    clock=self.sandbox.clock,
                    observer=observer,
                )
        except Crash:
            return CRASHED
        finally:
            self.sandbox.watch = None
            self.calls.append(observer.answered)
        self.results.append(result)
        return int(result.exit_code)

    @contextmanager
    def _at_host(self, step: RunStep) -> Iterator[Config]:
        """One pass at its host, with the journal that it finds there; what that was before is kept."""
        directory = self._states.prepare(step.host, step.journal)
        config = self.config
        if directory != self.state:
            config = config.model_copy(update={"state": config.state.model_copy(update={"directory": directory})})
        copy = self._states.copy(directory)
        before = self.sandbox.writes()
        try:
            with running_on(step.host):
                yield config
        finally:
            self._states.keep(step.host, directory, copy, wrote=self.sandbox.writes() != before)

    def forget_state(self) -> None:
        """Delete the connector's journal, at every host."""
        self._states.forget()

    def explain(self, subscription_id: str) -> list[str]:
        """The rules that say what becomes of a subscription's open changes."""
        return explain_rules(self.config, subscription_id, clock=self.sandbox.clock)

    @property
    def crashes_of_the_sandbox(self) -> list[str]:
        """Mistakes of the sandbox itself; anything here is a bug of it."""
        return self._server.crashes
