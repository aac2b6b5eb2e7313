"""Small families on their way: one raise of New York's ten, or of New York's ten and Memphis' three."""

from __future__ import annotations

from dataclasses import replace

from connector.domain.decide import decide
from connector.domain.plan import Acknowledge, SetParentQuantity, SetProviderQuantity
from connector.domain.rounds import plan_family, simulate
from connector.domain.rules.builtin import BUILTIN
from tests.families import (
    AWAITING,
    at_provider,
    carrying,
    environment,
    family,
    log,
    raised,
    subscription,
)

NEW_YORK = log("new_york", 10, minutes_ago=9)
MEMPHIS = log("memphis", 3, minutes_ago=8)
LARGE = at_provider(50, reducible=50)


def own(seats, status=AWAITING, *, age=1, name="own", **changes):
    """A log of the parent."""
    return log("parent", seats, name=name, minutes_ago=age, status=status, **changes)


def rows(new_york=35, memphis=15):
    return subscription("atlanta", 10), subscription("new_york", new_york), subscription("memphis", memphis)


def on_its_way(*own_logs, change=NEW_YORK, provider=50, **row):
    """The parent was raised from 50 to 60 for New York's ten."""
    the_parent = carrying(60, raised(change, before=50), **row)
    return family(the_parent, *rows(), logs=(change, *own_logs), provider=at_provider(provider))


def both_carried(status=AWAITING, *, new_york=AWAITING, provider=LARGE):
    """One raise carries New York's ten and Memphis' three."""
    changes = (replace(NEW_YORK, status=new_york), MEMPHIS)
    row = carrying(63, raised(*changes, before=50))
    return family(row, *rows(35, 18), logs=(*changes, own(13, status)), provider=provider)


def ids(logs):
    return [entry.id for entry in logs or ()]


def decided(snapshot, **env):
    return decide(snapshot, environment(**env), BUILTIN)


def played(snapshot, **env):
    """The plan of a family, and the world after it."""
    world, chosen = snapshot, environment(**env)
    while (found := decide(world, chosen, BUILTIN)).actions:
        world = simulate(world, found, chosen)
    return plan_family(snapshot, chosen, BUILTIN), world


def steps(actions):
    """Actions in short: what the parent and the provider are set to, and who is told."""
    shown = []
    for action in actions:
        if isinstance(action, SetParentQuantity):
            shown.append(("take back" if action.takes_back else "raise", action.target))
        elif isinstance(action, SetProviderQuantity):
            shown.append(("provider", action.target))
        elif isinstance(action, Acknowledge):
            shown.append(("tell", ids(action.child_logs)))
    return shown
