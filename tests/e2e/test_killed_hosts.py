"""Two hosts as real processes, killed with SIGKILL at random moments while people change their minds: the end is right.

How many kills for each half: 10, 50 with ``LINKSUB_FAULTS=full``, or what ``LINKSUB_KILLS`` says. What is random comes from
``LINKSUB_KILL_SEED``, which a failure shows. A moment is a number of requests, not a time of day.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from connector.journal import open_journal
from tests.support.game import ACCUSES
from tests.support.killing import MANNERS, Host, Life, Town
from tests.support.postgres import LEFT_OUT, SERVER, own_schema
from tests.support.repairs import repair

pytestmark = pytest.mark.skipif(os.name != "posix", reason="left out: signals of POSIX")

KILLS = int(os.environ.get("LINKSUB_KILLS") or (50 if os.environ.get("LINKSUB_FAULTS") == "full" else 10))
SEED = os.environ.get("LINKSUB_KILL_SEED", "20260302")
PAUSES = (
    timedelta(seconds=20),
    timedelta(minutes=1),
    timedelta(minutes=4),
    timedelta(minutes=11),
    timedelta(minutes=16),
)
EXPECTED = {-9, 0, 3, 75}
"""Killed; done; something waits for a person; to be tried later."""
MOST_RUNS_OF_REST = 24


class Game:
    """Rounds with deaths, then rest, then what must be true."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.codes: Counter[int] = Counter()
        self.phases: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.kills = 0

    def round(self) -> None:
        """Somebody wishes for something, time passes, and both hosts run; both are killed on the way, if it is long enough."""
        town, chance = self.town, self.town.chance
        with town.one_at_a_time:
            for _ in range(chance.randint(2, 5)):
                town.people.wish()
            if chance.random() < 0.5:
                self._people_do_what_is_asked()
            town.wish_at = {town.requests + chance.randint(8, 60) for _ in range(chance.randint(0, 3))}
        town.advance(chance.choice(PAUSES))
        lives = [self._draw() for _ in town.hosts]
        again = [chance.random() < 0.3 for _ in town.hosts]
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(self._lane, *each) for each in zip(town.hosts, lives, again, strict=True)]:
                done.result()

    def _draw(self) -> Life:
        """A death: sometimes at any request of a pass, mostly at one from the first that changes something."""
        chance, manner = self.town.chance, self.town.chance.choice(MANNERS)
        if chance.random() < 0.2:
            return Life(chance.randint(2, 18), manner=manner)
        return Life(chance.randint(1 + (manner == "unheard"), 8), from_first_write=True, manner=manner)

    def _lane(self, host: Host, life: Life, again: bool) -> None:
        """One process, and if it was killed perhaps the next one at once, while the other host may be at work."""
        if self.run(host, life) == -9 and again:
            self.run(host)

    def run(self, host: Host, life: Life | None = None) -> int:
        life = life or Life()
        code, told = host.live(life, "run", "--output", "json")
        with self.town.one_at_a_time:
            self.codes[code] += 1
            death = f", killed when it was {life.manner}: {life.phase}" if code == -9 else f": {self._ends(told)}"
            self.town.notes.append(f"  -- {host.name} ends with {code} after {life.requests} requests{death}")
            if code == -9:
                self.kills += 1
                self.phases[life.phase] += 1
            if code not in EXPECTED or "mistake of linksub" in told:
                self.town.complaints.append(f"{host.name} ends with {code}: {told}")
                self.town.notes.append(told)
        return code

    def _ends(self, told: str) -> str:
        """How the families ended that did not end well, and whether anybody is accused of what nobody did."""
        try:
            families = json.JSONDecoder().raw_decode(told[told.index("{") :])[0]["outcomes"]
        except (ValueError, KeyError):
            return "no report"
        ends = [f"{each['name']} {each['state']} {each['rule'] or ''} {each['reason']}" for each in families]
        for each in families:
            if each["state"] not in ("done", "nothing to do"):
                self.ends[f"{each['state']} {each['rule'] or ''}".strip()] += 1
            if each["rule"] in ACCUSES:
                self.town.complaints.append(f"held though nobody did anything: {each}")
        return "; ".join(ends)

    def _people_do_what_is_asked(self) -> list[str]:
        """Confirm what a manual parent asks for; let changes go again that were refused."""
        town = self.town
        return [what for oracle in town.oracles.values() for what in repair(town.world, oracle, 0, frozenset())]

    def rest(self) -> None:
        """Nobody dies and nobody wishes, until a run of each host in turn finds nothing left to do."""
        town, silent = self.town, 0
        town.wish_at = set()
        for number in range(MOST_RUNS_OF_REST):
            # The first jump is past every dated change, the others past every pause and lease.
            town.advance(timedelta(days=3) if number == 0 else timedelta(minutes=20))
            before = town.world.sandbox.writes()
            code = self.run(town.hosts[number % 2])
            done = self._people_do_what_is_asked()
            left = [
                text for oracle in town.oracles.values() for text in (*oracle.left(), *oracle.at_rest(engine=False))
            ]
            is_silent = code == 0 and not done and not left and town.world.sandbox.writes() == before
            silent = silent + 1 if is_silent else 0
            if silent == len(town.hosts):
                return
        town.complaints.append(f"no rest: exit {code}, people did {done}, left over: {left}")

    def judge(self) -> None:
        """What must be true at the end, whatever happened before."""
        town = self.town
        for watched in town.world.watched:
            state, family = watched.state, watched.family
            children = sum(state.children.values())
            if {children, state.parent} | ({state.provider} - {None}) != {children}:
                town.complaints.append(f"{family.parent}: {state.parent} on P, {state.provider}, children {children}")
            if {log.status for log in state.logs.values()} - {"Provisioned"}:
                town.complaints.append(f"{family.parent}: {state.logs}")
            if family.scheduled is not None:
                bought = town.world.sandbox.world.bought(family.parent)
                found = None if bought is None or bought.scheduled is None else bought.scheduled["quantity"]
                if found != children + family.scheduled - family.total:
                    town.complaints.append(f"{family.parent}: {found} seats are scheduled for {children}")
            if state.reference != family.reference:
                town.complaints.append(f"{family.parent}: the Order Reference is {state.reference!r}")
        asked = sum(
            sum(each.state.children.values()) - each.family.total
            for each in town.world.watched
            if not each.family.manual
        )
        if town.bought - town.returned != asked:
            town.complaints.append(
                f"{town.bought} bought, {town.returned} given back, {asked} more than at the beginning"
            )
        accepted = [change for change in town.world.sandbox.partner_center.changes if "quantity" in change.fields]
        if len(accepted) != town.orders or not all(change.by_client for change in accepted):
            town.complaints.append(f"{len(accepted)} accepted orders, {town.orders} seen")
        code, told = town.hosts[0].live(Life(), "journal", "verify")
        if code != 0:
            town.complaints.append(f"journal verify: {told}")
        for host in town.hosts:
            if host.door.crashes:
                town.complaints.append(f"the sandbox itself: {host.door.crashes}")

    def judge_journal(self, location: Path | str) -> None:
        """What the journal says of itself, and that nothing is open in it."""
        now = self.town.world.sandbox.clock.now()
        with open_journal(location, now=now, read_only=True) as journal:
            assert not journal.missing
            self.town.complaints += [f"{location}: {problem}" for problem in journal.verify()]
            self.town.complaints += [f"{location}: still open: {intent}" for intent in journal.open_intents()]

    def figures(self, seconds: float) -> str:
        town = self.town
        lines = [
            f"seed {SEED}: {self.kills} kills, {sum(self.codes.values())} runs {dict(sorted(self.codes.items()))},"
            f" {town.requests} requests, {seconds:.0f} s",
            f"{town.orders} orders: {town.bought} seats bought, {town.returned} given back;"
            f" {town.counts['a child was told']} changes told",
            "killed:",
            *(f"  {count:3}  {phase}" for phase, count in self.phases.most_common()),
            "families that did not end well at once:",
            *(f"  {count:3}  {end}" for end, count in self.ends.most_common()),
        ]
        return "\n".join(lines)


def play(directory: Path, journal: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    town = Town(directory, f"{SEED} {'one journal' if journal else 'two journals'}", journal)
    game = Game(town)
    with ExitStack() as stack:
        for host in town.hosts:
            stack.enter_context(host)
        while game.kills < KILLS and not town.complaints:
            game.round()
        game.rest()
        game.judge()
    for location in {journal} if journal else {host.state for host in town.hosts}:
        game.judge_journal(location)
    figures = game.figures(time.monotonic() - started)
    with capsys.disabled():
        sys.stdout.write(f"\n{'one journal' if journal else 'two journals'}, {figures}\n")
    assert not town.complaints, "\n".join([*town.notes[-200:], figures, *town.complaints])
    assert game.kills >= KILLS


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(timeout=5)


def test_two_hosts_with_a_journal_each_killed_again_and_again_end_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(tmp_path, None, capsys)


@pytest.mark.skipif(SERVER is None, reason=LEFT_OUT)
def test_two_hosts_on_one_postgresql_journal_killed_again_and_again_end_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with own_schema() as url:
        play(tmp_path, url, capsys)
