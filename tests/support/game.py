"""One game: a seed draws a world, what people do, which hosts run with which journal, and what goes wrong; oracles look on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests

from connector.domain.policy import Policy
from connector.journal import MemoryJournal
from connector.sandbox.trace import is_write
from connector.sandbox.wire import Request, Response
from connector.sync.outcome import FamilyState, RunResult
from tests.harness.faults import ON_READS, Kind
from tests.support import worlds
from tests.support.interleave import Turn, interleave
from tests.support.oracles import Oracle
from tests.support.people import HANDS, People
from tests.support.repairs import ORDER, repair
from tests.support.rig import Host, Wrong, ask, at_work, copy_of, faults_of_a_write, suffer
from tests.support.windows import Windows
from tests.support.worlds import Event, Watched, World

ACCUSES = frozenset({"LS-015", "LS-049", "LS-062"})
"""Rules that say of a family that somebody edited it or that it does not add up: never, where nobody did."""

KINDS = {"I1": "makes-rows", "I5": "no-etag", "I11": "no-intent"}
"""Invariant that a bare write breaks → kind of the violation."""

BETWEEN = ("1m", "10m", "10m", "2h", "9h", "1d")
POLICIES: tuple[Mapping[str, Any], ...] = (
    {},
    {},
    {"netting": False},
    {"decreases": "hold"},
    {"refused_decrease": "wait"},
    {"refused_decrease": "schedule"},
    {"netting": False, "refused_decrease": "wait"},
)


@dataclass(slots=True)
class Report:
    """What came of one game. ``violations`` are (kind, what was seen); ``story`` is told when asked for."""

    seed: int
    known: frozenset[str] = frozenset()
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


def play(
    seed: int,
    *,
    wrong: Wrong | None = None,
    known: frozenset[str] = frozenset(),
    usual: bool = False,
    tell: bool = False,
) -> Report:
    """Play one seed. The same seed plays the same game. Kinds of violations that are ``known`` are only counted.

    ``usual``: only organisations whose Work 365 does what it usually does.
    """
    report = Report(seed, known)
    with at_work(wrong):
        game = Game(report, wrong, usual, tell)
        try:
            game.play()
        finally:
            game.close()
    return report


class Game:
    """The table at which one seed is played."""

    def __init__(self, report: Report, wrong: Wrong | None, usual: bool, tell: bool) -> None:
        self._report = report
        self._counts = report.counts
        self._tell = tell
        self._rng = rng = random.Random(report.seed)
        self.world: World = worlds.world(rng.randrange(worlds.TEMPLATES), usual=usual)
        self.world.begin()
        self.world.see = self._see
        kinds = rng.sample(HANDS, rng.choice((0, 0, 0, 1, 1, 2, 3)))
        self.people = People(self.world, rng, self._counts, tuple(kinds))
        self.oracles = {each.family.parent: Oracle(each, self._counts, self._complain) for each in self.world.watched}
        ways = self.world.ways
        self.hosts = [Host(self.world.sandbox, name, self._exchange, wrong=wrong) for name in ("one", "two")]
        if ways.declared:
            self._declare()
        self._last: RunResult | None = None
        self._turns: dict[str, Turn[RunResult | None]] = {}
        self._windows = Windows(self.world, self.oracles, self._counts, [host.name for host in self.hosts])
        self._trouble = 0.0
        self._meanwhile = 0.0
        self._writes = 0
        self._is_late_allowed = rng.random() < 0.12
        self._on_the_way: list[Request] = []
        self._request_ids: dict[str, tuple[str, int]] = {}
        self._journals = rng.choice(("own", "shared"))
        if self._journals == "shared":
            self.hosts[1].journal = self.hosts[0].journal
        self._note(f"world {kinds}, journals {self._journals}, {ways}")
        self._counts["world: pushes to Partner Center itself"] += ways.engine
        self._counts["world: nothing is declared"] += not ways.declared
        if not ways.declared and not ways.is_usual:
            for oracle in self.oracles.values():
                oracle.touched.add("nothing was declared")
        for what in ("parent_log", "pushes", "copies"):
            self._counts[f"world: {what} {getattr(ways, what)}"] += 1
        self._counts["world: several families"] += len(self.world.watched) > 1
        self._counts["world: a manual parent"] += any(each.family.manual for each in self.world.watched)
        self._counts["world: an own reference"] += any(each.family.reference is not None for each in self.world.watched)
        self._counts["world: a schedule"] += any(each.family.scheduled is not None for each in self.world.watched)

    def close(self) -> None:
        self.world.see = lambda _watched, _event: None
        for host in self.hosts:
            host.close()

    def _declare(self) -> None:
        """The connector is told what the organisation's Work 365 does."""
        ways = self.world.ways
        for host in self.hosts:
            host.declare(parent_log=ways.parent_log, pushes="no" if ways.pushes == "no" else "yes")

    # -- telling ------------------------------------------------------------------------------------------------------

    def _see(self, watched: Watched, event: Event) -> None:
        self._note(f"    {watched.family.parent}: {event}")
        self.oracles[watched.family.parent].see(event)

    def _complain(self, kind: str, text: str) -> None:
        self._note(f"  VIOLATED {kind}: {text}")
        if kind in self._report.known:
            self._counts[f"known: {kind}"] += 1
        elif all(each != kind for each, _ in self._report.violations):  # the first of a kind says it
            self._report.violations.append((kind, text))

    def _note(self, text: str) -> None:
        if self._tell:
            self._report.story.append(f"{self.world.sandbox.clock.now():%d %H:%M:%S.%f}"[:-3] + f" {text}")

    # -- the game -----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        rng = self._rng
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            self._change_the_rules()
            for _ in range(rng.randint(1, 3)):
                self.people.wish()
            for _ in range(rng.choice((0, 1, 1, 2))):
                self.people.act()
            self._pass_or_two()
            self._something_happens_to_a_journal()
            self._wait(rng.choice(BETWEEN))
            if self._report.violations:
                return
        self._end()

    def _change_the_rules(self) -> None:
        policy = self._policy(self._rng.choice(POLICIES))
        for host in self.hosts:
            if host.policy != policy:
                self._counts["the policy changed"] += 1
                self._note(f"  policy of {host.name}: {policy.model_dump(exclude_defaults=True)}")
            host.policy = policy
        if self._rng.random() < 0.1:
            host = self._rng.choice(self.hosts)
            host.clock.skew = timedelta(days=self._rng.choice((-1, 1)))
            self._counts["a clock was wrong"] += 1

    def _policy(self, given: Mapping[str, Any]) -> Policy:
        """Where the CRM makes no log for a parent, somebody has said that linksub does."""
        makes = self.world.ways.parent_log == "none" and "parent_log" in Policy.model_fields
        return Policy.model_validate({**given, "parent_log": "create"} if makes else given)

    def _pass_or_two(self) -> None:
        rng = self._rng
        self._trouble = rng.choice((0.0, 0.04, 0.12))
        self._meanwhile = rng.choice((0.0, 0.0, 0.06, 0.15))
        if rng.random() < 0.4:
            self._two_at_once()
        else:
            host = rng.choice(self.hosts)
            quiet = self._trouble == self._meanwhile == 0.0
            result = self._run(host)
            if quiet and result is not None:
                self._look_for_false_accusations(result)
        self._trouble = self._meanwhile = 0.0

    def _two_at_once(self) -> None:
        self._counts["two hosts at once"] += 1
        for host in self.hosts:  # each run follows the time of the service that it signs in to, so their leases agree
            host.clock.skew = timedelta()
        self._turns = {host.name: Turn(lambda host=host: self._run(host)) for host in self.hosts}  # type: ignore[misc]
        try:
            self._counts["the turn changed hands"] += interleave(list(self._turns.values()), self._rng)
        finally:
            self._turns = {}

    def _run(self, host: Host) -> RunResult | None:
        self._counts["passes"] += 1
        self._note(f"  pass of {host.name}")
        self._windows.begins(host.name)
        result = self._last = host.run_once()
        if result is None:
            self._counts["a process was killed"] += 1
            self._note(f"  {host.name} was killed")
        else:
            self._note(f"  {host.name} ends: {result.exit_code.name} {_shown(result)}")
            for oracle in self.oracles.values():
                oracle.hear(result)
            if int(result.exit_code) == 1:
                self._complain("internal-error", f"{result.error}")
        return result

    def _look_for_false_accusations(self, result: RunResult) -> None:
        if self.world.ways.engine:
            return  # the CRM's own push moves the provider under a pass; the next one sees it
        for watched in self.world.watched:
            oracle = self.oracles[watched.family.parent]
            outcome = next((each for each in result.outcomes if each.family == watched.parent_id), None)
            held = outcome is not None and outcome.state is FamilyState.HELD
            if outcome is not None and held and outcome.rule in ACCUSES and not (oracle.touched or oracle.collided):
                self._complain("held-though-nobody-did-anything", f"{outcome.rule} {outcome.reason}")

    def _something_happens_to_a_journal(self) -> None:
        draw, host = self._rng.random(), self._rng.choice(self.hosts)
        if draw < 0.15:
            self._counts["a journal was lost"] += 1
            host.forget()
        elif draw < 0.25:
            self._counts["an older journal was put back"] += 1
            host.journal = self._older
        elif draw < 0.3:
            self._counts["journals were exchanged"] += 1
            one, two = self.hosts
            one.journal, two.journal = two.journal, one.journal
        else:
            return
        self._note(f"  the journal of {host.name}: {draw:.2f}")

    @property
    def _older(self) -> MemoryJournal:
        """A copy from before the last pass, if there is one."""
        return copy_of(self._kept) if self._kept is not None else MemoryJournal()

    _kept: MemoryJournal | None = None

    def _wait(self, span: str) -> None:
        self._kept = copy_of(self.hosts[0].journal)
        self.world.perform("nature", f"{span} pass", {"advance": span})

    # -- one call -----------------------------------------------------------------------------------------------------

    def _before_a_call(self, *, write: bool) -> None:
        """Somebody does something, before a write above all; or a request that was under way arrives."""
        if self._rng.random() < self._meanwhile * (3 if write else 1):
            self._counts["people acted between two calls"] += 1
            self._counts["people acted right before a write"] += write
            self.people.act()
        if self._on_the_way and self._rng.random() < 0.08:
            self._arrive()

    def _exchange(self, host: Host, service: str, request: Request) -> tuple[Response, bool]:
        with self._windows.waiting():
            if (turn := self._turns.get(host.name)) is not None:
                turn.give()
        write = is_write(request)
        with self._windows.people_act():
            self._before_a_call(write=write)
        self._counts["calls"] += 1
        self._windows.calls(host.name)
        self.world.look("nature", "time")
        kind = self._fault(write)
        if write:
            made_by_us = self.world.ways.parent_log == "none"
            for text in faults_of_a_write(host, service, request, may_make_logs=made_by_us):
                self._complain(KINDS[text.split(":")[0]], text)
            if service == "partner_center":
                self._look_at_request_id(host, request)
                if kind is None and self._is_late_allowed and self._rng.random() < 0.3:
                    self._counts["a request was under way for long"] += 1
                    self._on_the_way.append(request)
                    self._note(f"    {host.name}: {request.body!r} is lost on the way, for now")
                    raise requests.exceptions.ReadTimeout("nothing came back")
        if kind is not None:
            self._counts[f"fault: {kind.value}"] += 1
            self._note(f"    {host.name}: {kind.value} at {request.method} {service}")
        try:
            return suffer(host, kind, service, lambda: self._carry_out(host, service, request, write))
        finally:
            if service == "partner_center" and not write and kind is None:
                self._windows.sees(host.name, request)

    def _fault(self, write: bool) -> Kind | None:
        if self._rng.random() >= (3 * self._trouble if write else self._trouble):
            return None
        return self._rng.choice(tuple(Kind) if write else ON_READS)

    def _carry_out(self, host: Host, service: str, request: Request, write: bool) -> Response:
        if write and (service == "partner_center" or self.world.ways.engine):
            self._windows.orders(host.name, service, request)
        answer = ask(self.world.sandbox, service, request)
        self._windows.answered(host.name, service)
        if write and self.world.look("connector", f"{host.name}: {request.method} {service}"):
            self._writes += 1
        return answer

    def _arrive(self) -> None:
        """A request that its sender gave up long ago reaches the provider."""
        request = self._on_the_way.pop(0)
        self._counts["a late request arrived"] += 1
        ask(self.world.sandbox, "partner_center", request)
        self.world.look("nature", "a late request")

    def _look_at_request_id(self, host: Host, request: Request) -> None:
        """A request id serves one sending of one pass: an old one is answered with an old answer."""
        name, now = request.header("ms-requestid") or "", (host.name, host.passes)
        if self._request_ids.setdefault(name, now) != now:
            self._complain("old-request-id", f"{host.name} sends a request id of an earlier pass again")

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Nothing disturbs any more, and people do what is asked of them."""
        host = self.hosts[0]
        host.policy, host.clock.skew = self._policy({"refused_decrease": "wait"}), timedelta()
        self._declare()
        while self._on_the_way:
            self._arrive()
        self._open_the_windows()
        self._wait("4d")
        stays = frozenset(
            key for each in self.oracles.values() for key, word in each.words.items()
            if word == "Failed" and each.watched.state.logs[key].owner != each.watched.family.parent
            and self._rng.random() < 0.5
        )  # fmt: skip
        levels: Counter[str] = Counter()
        for _ in range((len(ORDER) + 2) * len(self.oracles)):
            if not self._comes_to_rest(host):
                return
            left = {
                each: found
                for each, oracle in self.oracles.items()
                if (found := oracle.left() or oracle.reference_left())
            }
            if not left:
                break
            if not self._repair(left, levels, stays):
                return
        self._judge_the_end(levels)

    def _open_the_windows(self) -> None:
        """Decreases may go at the provider and by the CRM's rule: what is left to wait for is nobody's policy."""
        until = (self.world.sandbox.clock.now() + timedelta(days=60)).isoformat()
        for watched in self.world.watched:
            alias = watched.family.parent
            self.world.perform("person", "allows", {"crm_change": {"subscription": alias, "reduction": "allowed"}})
            if not watched.family.manual:
                window = {"subscription": alias, "batches": [{"quantity": 9999, "until": until}]}
                self.world.perform("person", "allows", {"provider_change": window})

    def _comes_to_rest(self, host: Host) -> bool:
        """Quiet passes until one writes nothing. More than three is too many (I4)."""
        for _ in range(4):
            self._writes = 0
            result = self._run(host)
            if result is not None:
                self._look_for_false_accusations(result)
            if self._report.violations:
                return False
            self._wait_for_what_was_deferred(host)
            if not self._writes:
                return True
        self._complain("no-rest", "I4: the fourth undisturbed pass still wrote")
        return False

    def _wait_for_what_was_deferred(self, host: Host) -> None:
        clock = self.world.sandbox.clock
        until = [clock.now() + timedelta(minutes=20), *(each.until for each in host.journal.deferrals())]
        with suppress(ValueError):
            clock.set(max(until))
        self.world.look("nature", "time")

    def _repair(self, left: dict[str, list[tuple[str, str]]], levels: Counter[str], stays: frozenset[str]) -> bool:
        """One more round of repairs; False if a family is past repair, which is told."""
        for alias, found in left.items():
            oracle, level = self.oracles[alias], levels[alias]
            if self._waits_for_another(oracle):
                # Its base is what has to be put right. If nothing else is wrong there, it is held by what people keep Failed.
                if all(self._waits_for_another(self.oracles[each]) for each in left):
                    self._let_all_go(oracle)
                continue
            if level >= len(ORDER):
                kind, text = found[0]
                self._complain(kind, f"{alias}, whatever people did: {text}")
                return False
            if level >= 1 and not oracle.touched and not oracle.collided and not oracle.watched.family.manual:
                kind, text = found[0]
                self._complain(f"untouched-{kind}", f"{alias}, and nobody did anything: {text}")
                return False
            for what in repair(self.world, oracle, ORDER[level], stays):
                self._counts[f"repair: {what}"] += 1
            levels[alias] += 1
        return True

    def _let_all_go(self, waiting: Oracle) -> None:
        for oracle in self.oracles.values():
            if oracle is not waiting:
                for what in repair(self.world, oracle, 0, frozenset()):
                    self._counts[f"repair: {what}, for an add-on"] += 1

    def _waits_for_another(self, oracle: Oracle) -> bool:
        """Whether the last pass said that the family goes after another one."""
        outcomes = self._last.outcomes if self._last is not None else ()
        own = oracle.watched.parent_id
        return any(each.family == own and each.rule in ("LS-029", "LS-081") for each in outcomes)

    def _judge_the_end(self, levels: Counter[str]) -> None:
        for alias, oracle in self.oracles.items():
            for kind, text in [*oracle.left(), *oracle.at_rest(engine=self.world.ways.engine)]:
                self._complain(kind, f"{alias}: {text}")
            self._counts[f"ended after {levels[alias]} repairs"] += 1


def _shown(result: RunResult) -> str:
    return "; ".join(f"{each.name}: {each.state.value} {each.rule} {each.reason}" for each in result.outcomes) or str(
        result.error or ""
    )
