"""What people do: at the locations, at the desk of whoever looks after the parents, and with their own hands where they should not.

Everybody draws by lot from one seeded source, so that a game can be played again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.worlds import Log, State, Watched, World

Steps = list[dict[str, Any]]

WISHES = ("grow", "grow", "grow", "shrink", "shrink", "move", "move", "toggle", "dated")
UPKEEP = ("confirm", "confirm", "lets it go again", "resets P's log")
HANDS = (
    "fails a carried log",
    "fails a waiting log",
    "provisions a log by hand",
    "sets a child's log Not Applicable",
    "fails P's log",
    "sets P's log Not Applicable",
    "provisions P's log by hand",
    "erases the marker",
    "edits P",
    "edits the provider",
)
"""Each family is meddled with in at most a few of these ways, so that what is found can be told from what was done."""

DELTAS = (1, 1, 2, 2, 3, 4, 5, 7, 11, 24)


class People:
    """Everybody in one world. ``counts`` says how often what was done; ``allowed`` which meddling may happen."""

    def __init__(self, world: World, rng: random.Random, counts: Counter[str], allowed: tuple[str, ...]) -> None:
        self._world = world
        self._rng = rng
        self._counts = counts
        self.allowed = allowed
        self._acts: dict[str, Callable[[Watched], Steps]] = {
            "grow": self._grow,
            "shrink": self._shrink,
            "move": self._move,
            "toggle": self._toggle,
            "dated": self._dated,
            "confirm": self._confirm,
            "lets it go again": self._let_go,
            "resets P's log": lambda watched: self._set(watched, [self._one(watched, of_parent, "Failed")], "Awaiting"),
            "fails a carried log": lambda watched: self._word(watched, "Failed", carried=True),
            "fails a waiting log": lambda watched: self._word(watched, "Failed", carried=False),
            "provisions a log by hand": lambda watched: self._word(watched, "Provisioned", carried=True),
            "sets a child's log Not Applicable": lambda watched: self._word(watched, "Not Applicable", carried=True),
            "fails P's log": lambda watched: self._set(watched, [self._one(watched, of_parent, "Awaiting")], "Failed"),
            "sets P's log Not Applicable": lambda watched: self._set(
                watched, [self._one(watched, of_parent, "Awaiting")], "Not Applicable"
            ),
            "provisions P's log by hand": self._provision_parent,
            "erases the marker": self._erase,
            "edits P": self._edit_parent,
            "edits the provider": self._edit_provider,
        }

    def wish(self) -> None:
        """Somebody at a location asks for something."""
        self._world.look("nature", "time")
        self._do(self._rng.choice(WISHES))

    def act(self) -> None:
        """Anybody does anything, on what he sees now."""
        self._world.look("nature", "time")
        draw = self._rng.random()
        if self.allowed and draw < 0.55:
            self._do(self._rng.choice(self.allowed))
        elif draw < 0.75:
            self._do(self._rng.choice(UPKEEP))
        else:
            self.wish()

    def _do(self, what: str) -> None:
        watched = self._rng.choice(self._world.watched)
        steps = self._acts[what](watched)
        if steps:
            self._counts[what] += 1
            self._world.perform("person", what, *steps)

    # -- at the locations ---------------------------------------------------------------------------------------------

    def _grow(self, watched: Watched) -> Steps:
        child = self._active(watched)
        return [{"change": {"subscription": child, "by": self._rng.choice(DELTAS)}}]

    def _shrink(self, watched: Watched) -> Steps:
        child, by = self._active(watched), self._rng.choice(DELTAS)
        return [{"change": {"subscription": child, "by": -by}}] if watched.state.children[child] > by else []

    def _move(self, watched: Watched) -> Steps:
        active = [child for child, seats in watched.state.children.items() if seats]
        giver, taker = self._active(watched), self._rng.choice(active)
        by = self._rng.choice(DELTAS)
        if giver == taker or watched.state.children[giver] <= by:
            return []
        more = self._rng.choice((0, 0, 0, 3))
        return [{"change": {"subscription": giver, "by": -by}}, {"change": {"subscription": taker, "by": by + more}}]

    def _toggle(self, watched: Watched) -> Steps:
        """A location is closed or opened again; one always stays open."""
        child = self._rng.choice(list(watched.state.children))
        if not watched.state.children[child]:
            return [{"change": {"subscription": child, "activate": True}}]
        if sum(seats > 0 for seats in watched.state.children.values()) == 1:
            return []
        return [{"change": {"subscription": child, "deactivate": True}}]

    def _dated(self, watched: Watched) -> Steps:
        child, by = self._active(watched), self._rng.choice((-3, -2, 1, 2, 5))
        if watched.state.children[child] + by < 3:
            return []
        day = self._world.sandbox.clock.now() + timedelta(days=self._rng.choice((0, 0, 1, 2)))
        return [{"change": {"subscription": child, "by": by, "effective": day.date().isoformat()}}]

    def _active(self, watched: Watched) -> str:
        return self._rng.choice([child for child, seats in watched.state.children.items() if seats])

    # -- at the desk --------------------------------------------------------------------------------------------------

    def _confirm(self, watched: Watched) -> Steps:
        """A person has ordered some of what a manual parent asks for; in whatever order they come."""
        if not watched.family.manual:
            return []
        waiting = [key for key, log in watched.state.of(watched.family.parent) if log.status == "Awaiting"]
        self._rng.shuffle(waiting)
        return self._set(watched, waiting[: self._rng.randint(1, 2)], "Provisioned")

    def _let_go(self, watched: Watched) -> Steps:
        return self._set(watched, [self._one(watched, of_child, "Failed")], "Awaiting")

    # -- meddling -----------------------------------------------------------------------------------------------------

    def _word(self, watched: Watched, status: str, *, carried: bool) -> Steps:
        """The word of a person on a child's open change. Whether it is carried: P was raised since it was made."""
        open_logs = [
            key
            for key, log in watched.state.logs.items()
            if log.owner != watched.family.parent and log.status == "Awaiting" and was_carried(watched, key) == carried
        ]
        return self._set(watched, [self._rng.choice(sorted(open_logs))] if open_logs else [], status)

    def _provision_parent(self, watched: Watched) -> Steps:
        """At a manual parent that is a confirmation; elsewhere somebody says it of what he did not see."""
        return self._set(watched, [self._one(watched, of_parent, "Awaiting")], "Provisioned")

    def _erase(self, watched: Watched) -> Steps:
        if watched.state.reference == watched.family.reference:
            return []
        return [{"crm_change": {"subscription": watched.family.parent, "order_reference": watched.family.reference}}]

    def _edit_parent(self, watched: Watched) -> Steps:
        ways = self._world.ways
        by = self._rng.choice((-103, 103, 103) if ways.pushes != "no" else (-2, -1, 1, 2, 3, 103))
        if watched.state.parent + by < 1 or ways.engine:
            return []  # the CRM's own push would buy what a person only typed
        return [{"crm_change": {"subscription": watched.family.parent, "quantity": watched.state.parent + by}}]

    def _edit_provider(self, watched: Watched) -> Steps:
        by = self._rng.choice((-3, -1, 1, 2, 103, 207))
        if watched.state.provider is None or watched.state.provider + by < 1:
            return []
        quantity = watched.state.provider + by
        return [{"provider_change": {"subscription": watched.family.parent, "quantity": quantity}}]

    # -- hands --------------------------------------------------------------------------------------------------------

    def _one(self, watched: Watched, whose: Callable[[Watched, Log], bool], status: str) -> str | None:
        found = [key for key, log in watched.state.logs.items() if whose(watched, log) and log.status == status]
        return self._rng.choice(sorted(found)) if found else None

    def _set(self, watched: Watched, keys: list[str | None], status: str) -> Steps:
        return set_logs(watched, [key for key in keys if key is not None], status)


def of_parent(watched: Watched, log: Log) -> bool:
    """A log of the parent."""
    return log.owner == watched.family.parent


def of_child(watched: Watched, log: Log) -> bool:
    """A log of a child."""
    return log.owner != watched.family.parent


def set_logs(watched: Watched, keys: list[str], status: str) -> Steps:
    """Set logs to a status in the form."""
    logs: dict[str, Log] = dict(watched.state.logs)
    return [
        {"set_lcl": {"subscription": logs[key].owner, "index": watched.index_of(key), "status": status}} for key in keys
    ]


OF_P = ("edits P", "takes the edit of P back", "puts the books right")
"""What people do to the quantity of a parent; whatever else moves it is the connector or the CRM itself."""


def was_carried(watched: Watched, key: str) -> bool:
    """Whether P's quantity was written by somebody other than a person while this change was open."""
    for event in watched.events:
        moved = event.before.parent != event.after.parent and event.what not in OF_P
        if moved and (_is_open(event.before, key) or _is_open(event.after, key)):
            return True
    return False


def _is_open(state: State, key: str) -> bool:
    return key in state.logs and state.logs[key].status == "Awaiting"
