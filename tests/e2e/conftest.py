"""A sandbox in its own process, as a person starts it, and the command line as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

LINKSUB = [sys.executable, "-m", "connector"]


@dataclass
class Running:
    """A sandbox process and what its one line said."""

    process: subprocess.Popen[str]
    where: dict[str, str]

    @property
    def config(self) -> Path:
        return Path(self.where["config"])

    def control(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(
            method,
            f"{self.where['dataverse']}/__sandbox__/{path}",
            json=body or None,
            verify=self.where["ca_bundle"],
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json()

    def step(self, **step: Any) -> None:
        self.control("POST", "step", **step)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts sandboxes and ends them again."""
    started: list[Running] = []

    def up(scenario: str | None = None) -> Running:
        command = [
            *LINKSUB,
            "sandbox",
            "up",
            "--output",
            "json",
            "--write-config",
            str(tmp_path / f"config{len(started)}.yaml"),
        ]
        if scenario is not None:
            file = tmp_path / f"world{len(started)}.yaml"
            file.write_text(scenario, encoding="utf-8")
            command += ["--scenario", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        started.append(Running(process, json.loads(line)))
        return started[-1]

    yield up
    for running in started:
        running.process.send_signal(signal.SIGTERM)
        out, err = running.process.communicate(timeout=10)
        assert running.process.returncode == 0, (out, err)
        assert err == ""


@pytest.fixture
def linksub(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in an empty directory."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LINKSUB, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=False,
        )

    return run
