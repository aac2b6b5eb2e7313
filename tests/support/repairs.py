"""What people do at the end: what the condition of the world asks of them, truthfully and literally.

It reads what they did, not what the connector says: their own edits are taken back, their words on logs withdrawn, the
provider put back to its confirmed number, and a manual parent's logs confirmed. Only when that is not enough, which
must have a reason, are the books put right: P and the provider at what the children were told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.oracles import BOOKS, Oracle
from tests.support.people import Steps, set_logs
from tests.support.worlds import OPEN, Watched, World

ORDER = (0, 1, 2, 3, 0, 0, 1, 3, 0, 0)
"""How much is done, round by round: 0 what is asked for anyway, 1 own edits taken back, 2 words withdrawn, 3 books put
right; after which it all has to be asked for again."""


def repair(world: World, oracle: Oracle, level: int, stays: frozenset[str]) -> Iterator[str]:
    """Do everything up to a level for one family; yields what was done. ``stays``: logs that people leave Failed."""
    watched = oracle.watched
    if level >= 1:
        yield from _take_back(world, oracle)
    if level >= 3:
        yield from _books(world, watched)
    yield from _perform(world, "lets it go again", _let_go(watched, stays))
    if level >= 2:
        yield from _perform(world, "withdraws a word", _withdraw(oracle))
    yield from _perform(world, "resets P's log", _set_parent(watched, "Failed", "Awaiting"))
    if watched.family.manual:
        yield from _perform(world, "confirm", _set_parent(watched, "Awaiting", "Provisioned"))


def _perform(world: World, what: str, steps: Steps) -> Iterator[str]:
    if steps:
        world.perform("person", what, *steps)
        yield what


def _let_go(watched: Watched, stays: frozenset[str]) -> Steps:
    failed = [key for key, log in watched.state.logs.items() if log.status == "Failed" and key not in stays]
    return set_logs(
        watched, [key for key in failed if watched.state.logs[key].owner != watched.family.parent], "Awaiting"
    )


def _set_parent(watched: Watched, before: str, after: str) -> Steps:
    own = watched.state.of(watched.family.parent)
    return set_logs(watched, [key for key, log in own if log.status == before], after)


def _take_back(world: World, oracle: Oracle) -> Iterator[str]:
    """Own edits of P and of the provider; words on P's logs that are not so."""
    watched = oracle.watched
    parent = watched.family.parent
    if oracle.hand_to_take_back:
        back = watched.state.parent - oracle.hand
        if back >= 1:
            yield from _perform(world, "takes the edit of P back", [_crm(parent, quantity=back)])
            own = [key for key, log in watched.state.of(parent) if key in oracle.hand_logs and log.status in OPEN]
            yield from _perform(world, "takes the edit of P back", set_logs(watched, own, "Not Applicable"))
    words = [
        key
        for key, log in watched.state.of(parent)
        if key in oracle.words and key not in oracle.hand_logs and log.status == "Not Applicable"
    ]
    if not watched.family.manual and watched.state.provider != watched.state.parent:
        own = watched.state.of(parent)
        words += [key for key, log in own if log.status == "Provisioned" and oracle.words.get(key) == "Provisioned"]
    yield from _perform(world, "withdraws a word", set_logs(watched, words, "Awaiting"))
    if oracle.by_hand_at_provider and oracle.confirmed is not None and oracle.confirmed != watched.state.provider:
        yield from _perform(world, "puts the provider back", [_provider(parent, oracle.confirmed)])


def _withdraw(oracle: Oracle) -> Steps:
    """Words on children's logs: they wait again."""
    watched, state = oracle.watched, oracle.watched.state
    said = [
        key
        for key, word in oracle.words.items()
        if word in ("Not Applicable", "Provisioned")
        and key not in oracle.hand_logs
        and state.logs[key].owner != watched.family.parent
    ]
    return set_logs(watched, said, "Awaiting")


def _books(world: World, watched: Watched) -> Iterator[str]:
    state, parent = watched.state, watched.family.parent
    children = [log for log in state.logs.values() if log.owner != parent]
    told = sum(state.children.values()) - sum(log.quantity for log in children if log.status in OPEN)
    if told < 1:
        return
    steps: Steps = []
    if state.provider is not None and state.provider != told:
        steps.append(_provider(parent, told))
    if state.parent != told or state.reference != watched.family.reference:
        steps.append(_crm(parent, quantity=told, order_reference=watched.family.reference))
    yield from _perform(world, BOOKS, steps)
    yield from _perform(world, BOOKS, _set_parent(watched, "Awaiting", "Not Applicable"))
    yield from _perform(world, BOOKS, _set_parent(watched, "Failed", "Not Applicable"))


def _crm(alias: str, **values: Any) -> dict[str, Any]:
    return {"crm_change": {"subscription": alias, **values}}


def _provider(alias: str, quantity: int) -> dict[str, Any]:
    return {"provider_change": {"subscription": alias, "quantity": quantity}}
