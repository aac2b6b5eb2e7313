"""Everything that can happen, in any order, for as long as it likes: the rules of the state machine (issue 4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from hypothesis import currently_in_test_context, event, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connector.domain.policy import Policy
from connector.sandbox.work365 import LOG
from tests.fault.machine_host import Happening, Plan, Scheduler
from tests.fault.machine_oracle import OPEN, Oracle
from tests.fault.machine_world import (
    MANUAL,
    NORTH,
    SOUTH,
    Family,
    MachineWorld,
    Watched,
)
from tests.harness.faults import Kind
from tests.harness.history import Event
from tests.support.rig import Wrong

CALLS = (*(4 * tuple(range(-4, 0))), *range(1, 25))
"""Where in a pass something may happen: at a call, or at a call that writes (from −1 on), which
are fewer and matter more."""

Act = tuple[str, int, int]
"""What somebody does, to which of the families and children, and by how many seats (for a dated one: how many days)."""


def _acts_of(**kinds: Sequence[int]) -> st.SearchStrategy[Act]:
    """Each with the same chance: one flat list, because nested choices make most of what is rare never happen."""
    return st.sampled_from(
        [(what.replace("_", " "), pick, seats) for what, many in kinds.items() for seats in many for pick in range(6)]
    )


_wishes = _acts_of(grow=(1, 2, 4, 9), shrink=(1, 3, 5, 16), move=(1, 3, 7), toggle=(0,), dated=(-3, -2, -1, 1, 2, 3))
_hands = _acts_of(
    edit_parent=(-103, 103),
    edit_provider=(-103, 103, 207),
    provision_by_hand=(0,),
    fail_parent=(0,),
    not_applicable=(0,),
    provisioned=(0,),
)
_upkeep = _acts_of(try_again=(0,), confirm=(0,), mend=(0,))
_calls = st.sampled_from(CALLS)
_faults = st.tuples(_calls, st.one_of(st.sampled_from(Kind), st.just("401")))
_acts = st.tuples(_calls, st.one_of(_wishes, _upkeep))
_overlaps = st.tuples(_calls, st.one_of(st.none(), _faults))


class Machine(RuleBasedStateMachine):
    """Two schedulers over one world. What is found wrong after any step ends the example."""

    wrong: ClassVar[Wrong | None] = None
    """Another connector for every pass, to see it found out."""

    policy: ClassVar[Policy] = Policy()
    worlds: ClassVar[tuple[tuple[Family, ...], ...]] = ((NORTH,), (NORTH, SOUTH), (MANUAL,), (NORTH, MANUAL))

    def __init__(self) -> None:
        super().__init__()
        self.world: MachineWorld | None = None
        self.hands_left = 0

    @initialize(world=st.sampled_from(range(4)), hands=st.sampled_from((0, 2, 4)))
    def begin(self, world: int, hands: int) -> None:
        self.world = MachineWorld(self.worlds[world % len(self.worlds)])
        self.hands_left = hands
        self.first, self.second = (Scheduler(self.world, name, self.policy, self.wrong) for name in ("one", "two"))
        self.oracles = {each.family.parent: Oracle(each) for each in self.world.watched}
        self.world.on_event = self._seen

    def _seen(self, watched: Watched, happened: Event) -> None:
        _tell(f"    {watched.family.parent}: {happened}")
        self.oracles[watched.family.parent].see(happened)

    # -- people -------------------------------------------------------------------------------------------------------

    @rule(wish=_wishes)
    def a_location_asks_for_something(self, wish: Act) -> None:
        self._act(wish)

    @precondition(lambda self: self._is_asked_for_something())
    @rule(act=_upkeep)
    def a_person_does_what_is_asked_of_him(self, act: Act) -> None:
        self._act(act)

    @precondition(lambda self: self.hands_left > 0)
    @rule(act=_hands)
    def a_person_takes_things_into_his_own_hands(self, act: Act) -> None:
        self._act(act)

    def _is_asked_for_something(self) -> bool:
        """Whether something failed, waits for a person, or has to be put right by one."""
        return self.world is not None and any(
            self._steps(each, what, pick, 0)
            for each in self.world.watched
            for what in ("try again", "confirm", "mend")
            for pick in range(len(each.family.seats))
        )

    def _act(self, act: Act) -> None:
        assert self.world is not None
        what, pick, seats = act
        watched = self.world.watched[pick % len(self.world.watched)]
        steps = self._steps(watched, what, pick // len(self.world.watched), seats)
        if not steps:
            return
        if what in ("edit parent", "edit provider", "fail parent", "not applicable", "provisioned"):
            watched.touched = True
            self.hands_left -= 1
        watched.added += seats if what == "edit parent" else -watched.added if what == "mend" else 0
        self.world.person(what, *steps)

    def _steps(self, watched: Watched, what: str, pick: int, seats: int) -> list[dict[str, Any]]:
        """What a person does in the forms for an act; nothing if there is nothing to do it to."""
        assert self.world is not None
        family, state, sandbox = watched.family, watched.state, self.world.sandbox
        children = list(family.seats)
        child, other = children[pick % len(children)], children[(pick + 1) % len(children)]
        active = [each for each in children if state.children[each]]
        match what:
            case "grow" if child in active:
                return [{"change": {"subscription": child, "by": seats}}]
            case "shrink" if state.children[child] > seats:
                return [{"change": {"subscription": child, "by": -seats}}]
            case "move" if state.children[child] > seats and other in active:
                return [
                    {"change": {"subscription": child, "by": -seats}},
                    {"change": {"subscription": other, "by": seats}},
                ]
            case "toggle" if child not in active:
                return [{"change": {"subscription": child, "activate": True}}]
            case "toggle":
                return [{"change": {"subscription": child, "deactivate": True}}]
            case "dated" if child in active and state.children[child] + seats > 0:
                day = (sandbox.clock.now() + timedelta(days=abs(seats) - 1)).date().isoformat()
                return [{"change": {"subscription": child, "by": seats, "effective": day}}]
            case "edit parent" if state.parent + seats > 0:
                return [{"crm_change": {"subscription": family.parent, "quantity": state.parent + seats}}]
            case "edit provider" if not family.manual and state.provider + seats > 0:
                return [{"provider_change": {"subscription": family.parent, "quantity": state.provider + seats}}]
            case "provision by hand" if not family.manual:
                return [{"provider_change": {"subscription": family.parent, "quantity": state.parent}}]
            case "fail parent":
                return self._set(watched, family.parent, "Awaiting", "Failed")[:1]
            case "not applicable":
                return self._set(watched, child, "Awaiting", "Not Applicable")[:1]
            case "provisioned":
                return self._set(watched, child, "Awaiting", "Provisioned")[:1]
            case "try again":
                return [
                    step for each in (family.parent, child) for step in self._set(watched, each, "Failed", "Awaiting")
                ]
            case "mend" if watched.added and state.parent > watched.added:
                return [{"crm_change": {"subscription": family.parent, "quantity": state.parent - watched.added}}]
            case "mend" if watched.touched and not family.manual:
                own = [log for log in state.logs.values() if log.owner == family.parent and log.status in OPEN]
                settled = state.parent - sum(log.quantity for log in own)
                done = settled == state.provider
                return [] if done else [{"provider_change": {"subscription": family.parent, "quantity": settled}}]
            case "confirm" if family.manual:
                return self._set(watched, family.parent, "Awaiting", "Provisioned")
        return []

    def _set(self, watched: Watched, alias: str, before: str, after: str) -> list[dict[str, Any]]:
        """Set every log of a subscription that has one status to another, oldest first."""
        assert self.world is not None
        made = [row[f"{LOG}id"] for row in self.world.sandbox.world.logs_of(alias)]
        return [
            {"set_lcl": {"subscription": alias, "index": made.index(key), "status": after}}
            for key in made
            if watched.state.logs[key].status == before
        ]

    # -- time, hosts and passes -----------------------------------------------------------------------------------------

    @rule(by=st.sampled_from((1, 6, 20, 30, 80)))
    def hours_pass(self, by: int) -> None:
        assert self.world is not None
        self.world.person("time", {"advance": f"{by}h"})

    @rule(what=st.sampled_from(("a day behind", "a day ahead", "on time", "no journal", "the other host", "a dry run")))
    def something_is_up_with_the_host(self, what: str) -> None:
        match what:
            case "no journal":
                self.first.forget()
            case "the other host":
                self.first, self.second = self.second, self.first
            case "a dry run":
                self.first.run(dry_run=True)
                assert self.first.writes == 0
            case _:
                self.first.clock.skew = timedelta(days=("a day behind", "on time", "a day ahead").index(what) - 1)

    @rule(
        wish=_wishes,
        another=st.one_of(st.none(), _wishes),
        faults=st.lists(_faults, max_size=3),
        acts=st.lists(_acts, max_size=2),
        overlaps=st.lists(_overlaps, max_size=2),
        hand=st.one_of(st.none(), st.tuples(_calls, _hands)),
        forgetful=st.booleans(),
    )
    def a_pass_is_disturbed(
        self,
        wish: Act,
        another: Act | None,
        faults: Sequence[Any],
        acts: Sequence[Any],
        overlaps: Sequence[Any],
        hand: Any,
        forgetful: bool,
    ) -> None:
        """``forgetful``: the journal is gone when the pass has ended or died."""
        self._act(wish)
        if another is not None:
            self._act(another)
        plan = _plan(faults)
        for call, act in acts:
            plan.setdefault(call, Happening()).meanwhile.append(partial(self._act, act))
        if hand is not None and self.hands_left > 0:
            plan.setdefault(hand[0], Happening()).meanwhile.append(partial(self._act, hand[1]))
        for call, fault in overlaps:
            plan.setdefault(call, Happening()).meanwhile.append(
                partial(self._overlap, self.second, _plan([fault] if fault else []))
            )
        if self.first.run(plan) is None:
            _count("a process died")
        if forgetful:
            self.first.forget()

    def _overlap(self, scheduler: Scheduler, plan: Plan) -> None:
        _tell("    the other scheduler runs meanwhile")
        _count("schedulers overlapped")
        scheduler.run(plan)

    # -- promises -----------------------------------------------------------------------------------------------------

    @invariant()
    def no_promise_was_broken(self) -> None:
        if self.world is not None:
            broken = [*self.world.complaints, *(text for each in self.oracles.values() for text in each.violations)]
            assert not broken, "\n".join(broken)

    def teardown(self) -> None:
        """Faults stop: two passes are enough, the third writes nothing, and nothing is lost."""
        if self.world is None:
            return
        try:
            self.first.clock.skew = timedelta()
            self.world.person("time", {"advance": "4d"})  # whatever was dated is due, and nothing more becomes so
            self._converge()
            for _ in range(4):
                waiting = [each for each in self.world.watched if each.family.manual and self._confirm(each)]
                if not waiting:
                    break
                self._converge()
            for each in self.world.watched:
                _count(f"collided: {each.collided}")
                _count(f"touched by a person: {each.touched}")
        finally:
            self.first.close()
            self.second.close()

    def _confirm(self, watched: Watched) -> bool:
        assert self.world is not None
        steps = self._steps(watched, "confirm", 0, 0)
        if steps:
            self.world.person("confirm", *steps)
        return bool(steps)

    def _converge(self) -> None:
        assert self.world is not None
        result = None
        for number in range(1, 4):
            _tell(f"  quiet pass {number}")
            self._wait_for_what_was_deferred()
            result = self.first.run()
            assert result is not None
            self.no_promise_was_broken()
        assert result is not None
        assert self.first.writes == 0, "I4: the third undisturbed pass still wrote"
        lost = [f"{each}: {text}" for each, one in self.oracles.items() for text in one.at_rest(result)]
        assert not lost, "\n".join(lost)

    def _wait_for_what_was_deferred(self) -> None:
        """Ten minutes, or until the last of what the journal says must wait: a clock that was wrong may have set that."""
        assert self.world is not None
        clock = self.world.sandbox.clock
        until = max([clock.now() + timedelta(minutes=10), *(each.until for each in self.first.journal.deferrals())])
        clock.set(until)
        self.world.note("person", "time")


def _plan(faults: Sequence[tuple[int, Kind | str]]) -> dict[int, Happening]:
    plan: dict[int, Happening] = {}
    for call, what in faults:
        plan[call] = Happening(unauthorized=True) if what == "401" else Happening(fault=Kind(what))
    return plan


def _tell(text: str) -> None:
    """Shown with an example that fails; a machine may also be driven step by step, by a test of its own."""
    if currently_in_test_context():
        note(text)


def _count(what: str) -> None:
    """Shown in the statistics."""
    if currently_in_test_context():
        event(what)
