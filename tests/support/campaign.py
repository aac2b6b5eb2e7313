"""Thousands of random games, each of which can be played again by its seed.

    python -m tests.support.campaign --worlds 20000 --seed 1 --jobs 2
    python -m tests.support.campaign --replay 4711

Ends with 1 when a promise was broken, and also when too little happened for the silence to mean anything.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TextIO

from tests.support.game import Report, play
from tests.support.wrong import WRONG

CHUNK = 20

REQUIRED = {
    "passes": 3000,
    "a child was told": 2000,
    "seats were bought": 500,
    "seats were given back": 300,
    "two hosts at once": 400,
    "the turn changed hands": 1500,
    "people acted between two calls": 800,
    "people acted right before a write": 200,
    "a process was killed": 200,
    "fault: crash before": 25,
    "fault: crash after": 150,
    "fault: answer lost": 200,
    "fault: request lost": 20,
    "fault: 429": 150,
    "fault: 500 that did it": 20,
    "fault: 500 that did not": 20,
    "fault: truncated body": 15,
    "fault: 412": 150,
    "a request was under way for long": 25,
    "a late request arrived": 20,
    "a journal was lost": 150,
    "an older journal was put back": 90,
    "journals were exchanged": 40,
    "a clock was wrong": 80,
    "the policy changed": 1500,
    "grow": 1000,
    "shrink": 450,
    "move": 150,
    "toggle": 150,
    "dated": 150,
    "confirm": 40,
    "fails a carried log": 8,
    "fails a waiting log": 15,
    "provisions a log by hand": 5,
    "sets a child's log Not Applicable": 5,
    "fails P's log": 5,
    "sets P's log Not Applicable": 5,
    "provisions P's log by hand": 5,
    "erases the marker": 5,
    "edits P": 15,
    "edits the provider": 15,
    "the connector failed a log": 15,
    "world: several families": 220,
    "world: a manual parent": 250,
    "world: an own reference": 500,
    "world: a schedule": 150,
    "ended after 0 repairs": 700,
}
"""What has to happen in a thousand worlds, at the least; about two thirds of what does."""

JUDGED_FROM = 200
"""Smaller campaigns are not asked for everything: they are replays and first looks."""


@dataclass(slots=True)
class Totals:
    """What came of a campaign."""

    worlds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)
    """(seed, kind, what was seen)"""

    def add(self, report: Report) -> None:
        self.worlds += 1
        self.counts += report.counts
        self.violations += [(report.seed, kind, text) for kind, text in report.violations]

    def too_mild(self) -> list[str]:
        """What happened less often than a campaign of this size must see."""
        if self.worlds < JUDGED_FROM:
            return []
        wanted = {what: least * self.worlds // 1000 for what, least in REQUIRED.items()}
        return [
            f"{what}: {self.counts[what]}, at least {least}"
            for what, least in wanted.items()
            if self.counts[what] < least
        ]


@dataclass(frozen=True, slots=True)
class How:
    """How games are played: by which wrong connector, with which kinds of violations only counted, in which worlds."""

    wrong: str | None = None
    known: frozenset[str] = frozenset()
    usual: bool = False

    def play(self, seed: int, *, tell: bool = False) -> Report:
        wrong = None if self.wrong is None else WRONG[self.wrong].wrong
        return play(seed, wrong=wrong, known=self.known, usual=self.usual, tell=tell)

    def replay(self, seed: int) -> str:
        """The command that plays a seed again, and tells its story."""
        parts = [f"python -m tests.support.campaign --replay {seed}"]
        parts += [f"--wrong {self.wrong}"] if self.wrong is not None else []
        parts += [f"--known {','.join(sorted(self.known))}"] if self.known else []
        return " ".join([*parts, "--usual"] if self.usual else parts)


def play_safely(seed: int, how: How) -> Report:
    """One game; a mistake of the simulator itself is told with its seed, like anything else that is found."""
    try:
        return how.play(seed)
    except Exception as error:  # noqa: BLE001 - whatever it is, its seed must be known
        report = Report(seed)
        report.violations.append(("mistake-of-the-simulator", f"{type(error).__name__}: {error}"))
        return report


def _chunk(seeds: Sequence[int], how: How) -> list[Report]:
    logging.disable(logging.CRITICAL)
    return [play_safely(seed, how) for seed in seeds]


def campaign(
    worlds: int,
    seed: int,
    jobs: int = 1,
    how: How | None = None,
    *,
    seconds: float | None = None,
    progress: TextIO | None = None,
) -> Totals:
    """Play ``worlds`` games from ``seed`` on, or as many as ``seconds`` of time allow."""
    how = how or How()
    totals, began = Totals(), time.monotonic()
    for report in _reports(range(seed, seed + worlds), jobs, how):
        totals.add(report)
        totals.seconds = time.monotonic() - began
        if progress is not None:
            for kind, text in report.violations:
                progress.write(f"seed {report.seed}: {kind}: {text}\n    {how.replay(report.seed)}\n")
            if totals.worlds % 500 == 0:
                pace = totals.seconds / totals.worlds * 1000
                progress.write(f"{totals.worlds:,} worlds, {len(totals.violations)} violations, {pace:.0f} ms each\n")
                progress.flush()
        if seconds is not None and totals.seconds > seconds:
            break
    return totals


def _reports(seeds: range, jobs: int, how: How) -> Iterator[Report]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs <= 1:
        yield from (play_safely(seed, how) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for reports in pool.map(partial(_chunk, how=how), chunks):
            yield from reports


def summary(totals: Totals) -> str:
    """Everything that happened, how often, and what was found."""
    lines = [f"{totals.worlds:,} worlds in {totals.seconds:.0f} s"]
    for what, count in sorted(totals.counts.items()):
        least = REQUIRED.get(what, 0) * totals.worlds // 1000
        lines.append(f"  {count:>9,}  {what}" + (f"  (at least {least:,})" if least else ""))
    kinds = Counter(kind for _, kind, _ in totals.violations)
    for kind, count in kinds.most_common():
        seeds = [seed for seed, each, _ in totals.violations if each == kind][:6]
        lines.append(f"  VIOLATED {count:>6,}  {kind}: seeds {', '.join(map(str, seeds))}")
    lines += [f"  TOO MILD {text}" for text in totals.too_mild()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.campaign", description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one seed again and tell its story")
    parser.add_argument("--wrong", choices=sorted(WRONG), help="let a connector play that is wrong on purpose")
    parser.add_argument("--known", default="", help="kinds of violations to count only, separated by commas")
    parser.add_argument("--usual", action="store_true", help="only worlds whose Work 365 does what it usually does")
    given = parser.parse_args(arguments)
    how = How(given.wrong, frozenset(filter(None, given.known.split(","))), given.usual)
    logging.disable(logging.CRITICAL)
    if given.replay is not None:
        report = how.play(given.replay, tell=True)
        sys.stdout.write("\n".join(report.story) + "\n")
        return 1 if report.violations else 0
    totals = campaign(given.worlds, given.seed, given.jobs, how, progress=sys.stdout)
    sys.stdout.write(summary(totals) + "\n")
    return 1 if totals.violations or totals.too_mild() else 0


if __name__ == "__main__":
    sys.exit(main())
