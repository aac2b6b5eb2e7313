"""Every shipped scenario, played by the real connector over HTTPS: the executable specification."""

from __future__ import annotations

from pathlib import Path

import pytest

import connector.sandbox
from connector.cli.rehearsal import Rehearsal
from connector.sandbox.scenario import load_scenario

FILES = sorted((Path(connector.sandbox.__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_goes_as_the_scenario_says(path: Path) -> None:
    with Rehearsal(load_scenario(path)) as rehearsal:
        played = rehearsal.play()
        assert played.differences == []
        assert rehearsal.crashes_of_the_sandbox == []


def test_there_are_scenarios_to_play() -> None:
    assert len(FILES) >= 30


def test_a_scenario_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    story = next(path for path in FILES if path.stem == "new_york_grows").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        story.replace("provider_writes: 1", "provider_writes: 2").replace("quantity: 60", "quantity: 61"),
        encoding="utf-8",
    )
    with Rehearsal(load_scenario(wrong)) as rehearsal:
        differences = rehearsal.play().differences
    assert any("provider_writes: expected 2, were 1" in text for text in differences)
    assert any("expected 61, was 60" in text for text in differences)
