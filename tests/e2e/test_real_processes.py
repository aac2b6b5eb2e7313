"""The command line as real processes that are killed, stopped, doubled and starved, against a sandbox process.

How many kills: 12, or 50 with ``LINKSUB_FAULTS=full``. The moments come from a seed that a failure shows.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.skipif(os.name != "posix", reason="left out: signals and limits of POSIX")

LINKSUB = [sys.executable, "-m", "connector"]
ROOT = Path(__file__).parents[2]
FULL = os.environ.get("LINKSUB_FAULTS") == "full"
KILLS = 50 if FULL else 12
KILLS_PER_CHANGE = 3
SEED = int(os.environ.get("LINKSUB_SEED", "20260302"))

STORY = """
name: New York grows
clock: 2026-03-02T14:00:00Z
accounts:      [{id: pinecone, name: Pine Cone Vet, tenant: 11111111-1111-4111-8111-111111111111}]
contracts:     [{id: parent, account: pinecone, name: Parent}, {id: ny, account: pinecone, name: New York}]
subscriptions:
  - {id: p-e3, contract: parent, product: M365-E3, part_number: "CFQ7TTC0LFLX:0001", provider: partner_center,
     quantity: 25, at_provider: {quantity: 25, term: P1Y, commitment_end: 2026-12-31, auto_renew: true}}
  - {id: ny-e3, contract: ny, product: M365-E3, part_number: "CFQ7TTC0LFLX:0001", provider: linked, linked_to: p-e3, quantity: 25}
steps: []
"""


class World:
    """A sandbox process with one family, and the state directory of one host."""

    def __init__(self, running: Any, directory: Path) -> None:
        self.running = running
        self.directory = directory
        self.seats = 25
        self.config = self.host("one")

    def host(self, name: str, **run: object) -> Path:
        """The configuration of a host with a state directory of its own."""
        settings = yaml.safe_load(self.running.config.read_text(encoding="utf-8"))
        settings["state"] = {"directory": str(self.state(name))}
        settings["run"] = run
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    def state(self, name: str = "one") -> Path:
        return self.directory / f"state-{name}"

    def grow(self, by: int = 1) -> None:
        self.running.step(change={"subscription": "ny-e3", "by": by})
        self.seats += by

    def start(self, *arguments: str | Path, config: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LINKSUB, "--config", str(config or self.config), *map(str, arguments or ("run",))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def run(self, *arguments: str | Path, config: Path | None = None) -> tuple[int, str]:
        process = self.start(*arguments, config=config)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def purchases(self) -> int:
        """Writes at Partner Center that took effect."""
        entries = self.running.control("GET", "trace")
        return sum(entry["applied"] for entry in entries if entry["service"] == "partner_center" and entry["write"])

    def wrote_parent(self) -> bool:
        entries = self.running.control("GET", "trace")
        return any(entry["service"] == "dataverse" and entry["applied"] for entry in entries)

    def is_right(self) -> bool:
        """Everything is acknowledged and every side has the same number of seats."""
        rows = self.running.control("GET", "world")["subscriptions"]
        logs = [log["status"] for row in rows.values() for log in row["lcls"]]
        return (
            {row["quantity"] for row in rows.values()} == {self.seats}
            and rows["p-e3"]["at_provider"]["quantity"] == self.seats
            and set(logs) <= {"Provisioned"}
        )


@pytest.fixture
def world(sandbox: Callable[..., Any], tmp_path: Path) -> World:
    return World(sandbox(STORY), tmp_path)


def until(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 30.0) -> bool:
    """Wait for something of a living process; False if the process ended before it happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.005)
            return happened()
        assert time.monotonic() < deadline, "it never happened"
    return True


@contextlib.contextmanager
def frozen(process: subprocess.Popen[str]) -> Iterator[None]:
    """The process stands still, as on a machine that was suspended."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_killed_at_any_moment_and_started_again_it_ends_right_with_one_purchase_per_change(world: World) -> None:
    chance = random.Random(SEED)
    started = time.monotonic()
    assert world.run()[0] == 0
    usual = time.monotonic() - started
    killed = 0
    while killed < KILLS:
        world.grow()
        before = world.purchases()
        for _ in range(min(KILLS_PER_CHANGE, KILLS - killed)):
            process = world.start()
            moment = chance.uniform(0.3, 1.1) * usual
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
            process.kill()
            process.communicate()
            killed += 1
        code, told = world.run()
        assert code == 0, (SEED, killed, told)
        assert world.purchases() == before + 1, (SEED, killed)
        assert world.is_right(), (SEED, killed)
    code, told = world.run("journal", "verify")
    assert code == 0, told
    assert world.run("journal", "list", "--open")[1].strip() == "No intent matches."


def test_two_runs_at_once_on_one_host_the_second_ends_with_75_and_names_the_first(world: World) -> None:
    world.grow()
    first = world.start()
    assert until((world.state() / "run.holder.json").exists, first)
    with frozen(first):
        code, told = world.run()
        assert code == 75
        assert f"process {first.pid}" in told
        assert f"process {first.pid}" in world.run("status")[1]
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert (world.purchases(), world.is_right()) == (1, True)


def test_two_hosts_at_once_the_one_that_was_frozen_after_its_parent_write_finds_nothing_left(world: World) -> None:
    world.grow(10)
    first = world.start()
    assert until(world.wrote_parent, first)
    with frozen(first):
        code, told = world.run(config=world.host("two"))
        assert code == 0, told
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err
    assert world.is_right()
    entries = world.running.control("GET", "trace")
    patches = [entry for entry in entries if entry["service"] == "partner_center" and entry["method"] == "PATCH"]
    # If it was frozen with its request on the way, the same absolute number came twice; it was bought once.
    assert 1 <= len(patches) <= 2
    assert world.run()[0] == world.run(config=world.host("two"))[0] == 0
    assert world.is_right()


def test_two_hosts_started_together_never_buy_twice(world: World) -> None:
    other = world.host("two")
    for _ in range(12 if FULL else 2):
        world.grow(10)
        both = [world.start(), world.start(config=other)]
        codes = []
        for process in both:
            out, err = process.communicate(timeout=60)
            codes.append(process.returncode)
            assert process.returncode in (0, 75), out + err
        assert 0 in codes
        assert world.is_right()


def test_sigterm_ends_a_run_with_75_leaves_a_report_and_the_next_run_goes_on(world: World) -> None:
    reports = world.directory / "reports"
    config = world.host("one", report_directory=str(reports))
    world.grow()
    process = world.start(config=config)
    assert until((world.state() / "run.holder.json").exists, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    assert "SIGTERM" in err
    [report] = reports.glob("*.json")
    document = json.loads(report.read_text(encoding="utf-8"))
    assert document["exit_code"] == 75
    assert "SIGTERM" in document["error"]["message"]
    assert world.run(config=config)[0] == 0
    assert (world.purchases(), world.is_right()) == (1, True)
    assert len(list(reports.glob("*.json"))) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_repeating_runs_end_with_75_when_asked_to(number: signal.Signals, world: World) -> None:
    process = world.start("run", "--every", "1h")
    assert process.stdout is not None
    assert "Nothing to do" in process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err


def test_the_second_signal_ends_at_once() -> None:
    code = """
import os, signal, time
from connector.cli.stopping import asked_to_stop
with asked_to_stop(lambda reason: print(reason, flush=True)):
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 75
    assert done.stdout.split("\n")[:2] == ["SIGTERM received", "still here"]
    assert "ending at once" in done.stderr


LIMITED = """
import resource, runpy, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["linksub", *sys.argv[2:]]
sys.dont_write_bytecode = True
runpy.run_module("connector", run_name="__main__")
"""


def test_on_a_full_disk_nothing_is_bought_and_it_ends_with_74(world: World) -> None:
    assert world.run()[0] == 0
    size = (world.state() / "journal.sqlite3").stat().st_size
    world.grow()
    codes = {}
    for limit in (0, 600, size):
        command = [sys.executable, "-c", LIMITED, str(limit), "--config", str(world.config), "run"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        codes[limit] = done.returncode
        if done.returncode == 0:
            break
        assert done.returncode == 74, (limit, done.stdout, done.stderr)
        assert "hint:" in done.stderr
        assert world.purchases() == 0, limit
    assert codes[0] == codes[600] == 74
    assert world.run()[0] == 0
    assert (world.purchases(), world.is_right()) == (1, True)


@pytest.mark.parametrize("seed", range(1, 9) if FULL else [1, 2])
def test_a_journal_with_flipped_bytes_is_set_aside_and_the_end_is_right(seed: int, world: World) -> None:
    chance = random.Random(seed)
    world.grow(10)
    process = world.start()
    until(lambda: world.purchases() > 0, process)
    process.kill()
    process.communicate()
    file = world.state() / "journal.sqlite3"
    content = bytearray(file.read_bytes())
    # One in the header, which every reader needs, and forty anywhere.
    for at in (chance.randrange(16), *(chance.randrange(len(content)) for _ in range(40))):
        content[at] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    code, told = world.run("status")
    assert code == 74
    assert "damaged" in told
    # A journal that was lost proves nothing: what the provider has counts once the parent has been quiet for ten minutes.
    world.running.step(advance="11m")
    code, told = world.run()
    assert code == 0, told
    assert len(list(world.state().glob("journal.sqlite3.corrupt-*"))) >= 1
    assert (world.purchases(), world.is_right()) == (1, True)
    code, told = world.run("status")
    assert code == 0
    assert "set aside" in told
