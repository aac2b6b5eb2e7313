"""Waiting inside a unit of work: outside the lease, in small steps, and never beyond the run's deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.sync.ports import Clock

BACKOFF = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before the next try, when the provider names no time."""
LONGEST_WAIT = timedelta(seconds=180)
"""How long a run waits for one family; anything longer is remembered and left to a later run."""
LOOK_AGAIN = timedelta(seconds=30)
"""How often a patient wait looks: another host, or a person, may have ended it meanwhile."""
_STEP = 10.0
"""Seconds after which a wait looks whether the run is to end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing can be done for this family before ``until``; then everything is read again.

    ``patient``: what is waited for comes by itself, so it may take longer than :data:`LONGEST_WAIT`.
    ``is_unknown``: a sending has no answer, which the ending must say if the wait does not fit into the run.
    """

    until: datetime
    reason: str
    rule: str = ""
    patient: bool = False
    is_unknown: bool = False


def rest(pause: Pause, clock: Clock, brake: Callable[[], str | None], deadline: datetime) -> bool:
    """Wait it out, or until it is worth a look. False, at once or as soon as it is so, if it does not fit: too long, the
    deadline, a wish to stop."""
    now = clock.now()
    until = min(pause.until, now + LOOK_AGAIN) if pause.patient else pause.until
    if pause.until >= deadline or (not pause.patient and pause.until - now > LONGEST_WAIT):
        return False
    while now < until:
        if brake() is not None:
            return False
        clock.sleep(min(_STEP, (until - now).total_seconds()))
        now = clock.now()
    return True
