"""Says how much of the fault harness was run, and how fast; keeps the connector from logging in thousands of runs."""

from __future__ import annotations

import logging

import pytest

from tests.harness.scenarios import SIZE


@pytest.fixture
def quiet_logs(caplog: pytest.LogCaptureFixture) -> None:
    """What the connector logs is not kept: there is much of it, and nobody reads it here."""
    caplog.set_level(logging.CRITICAL + 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: the size, the runs, the passes of the connector, and passes per second of one core."""
    runs = passes = 0
    seconds = 0.0
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                runs += value if name == "fault_runs" else 0
                passes += value if name == "fault_passes" else 0
                seconds += value if name == "fault_seconds" else 0.0
    if runs:
        terminalreporter.write_line(
            f"fault harness ({SIZE}; LINKSUB_FAULTS=ci|full|complete): {runs:,} runs judged, {passes:,} passes of the"
            f" connector, {passes / max(seconds, 0.001):.0f} passes per second and core"
        )
