"""Working through the families of a pass: beside one another up to a bound, each for itself, until something ends it.

What goes wrong in one family stops that family only. A journal that cannot be written and a sign-in that fails end the
run; so do a request to stop and the deadline. Then every family in hand is finished, and no other is started.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Protocol

from connector.domain.decision import Accept, Refuse, Skip, Wait
from connector.domain.model import LogId, Snapshot
from connector.errors import AuthError, ConnectorError, Interrupted, JournalError
from connector.sync.outcome import FamilyOutcome, FamilyState, Progress
from connector.sync.stopping import Brake

logger = logging.getLogger(__name__)


class Unit(Protocol):
    """One family's unit of work."""

    def run(self) -> FamilyOutcome:
        """Bring the family as far as it can go."""

    def broken_by(self, error: BaseException) -> FamilyOutcome:
        """The outcome when an error got out of :meth:`run`; what was confirmed until then is in it."""


class Workthrough:
    """One pass over the families. ``outcomes`` has one entry per family when :meth:`run` returned."""

    def __init__(self, make_unit: Callable[[Snapshot], Unit], brake: Brake, progress: Progress) -> None:
        self.outcomes: list[FamilyOutcome] = []
        self._make_unit = make_unit
        self._brake = brake
        self._progress = progress
        self._ended_by: ConnectorError | None = None
        self._stopped: str | None = None
        self._mistakes: list[str] = []

    def run(self, families: Sequence[Snapshot], parallel: int) -> ConnectorError | None:
        """Work through the families; returns what ended the run early, or made it end badly, None if nothing did."""
        if parallel <= 1 or len(families) <= 1:
            for family in families:
                self.outcomes.append(self._work(family))
        else:
            self._run_on_threads(families, parallel)
        if self._ended_by is not None:
            return self._ended_by
        if self._stopped is not None:
            left = sum(outcome.state is FamilyState.NOT_STARTED for outcome in self.outcomes)
            return Interrupted(f"{self._stopped}: {left} of {len(families)} families were not started")
        if self._mistakes:
            return ConnectorError(
                f"linksub ran into a mistake of its own in {len(self._mistakes)} of {len(families)} families"
                f" ({', '.join(sorted(set(self._mistakes)))})",
                hint="the other families are done; run again, with -vv for where it happened, and please report it",
            )
        return None

    def _run_on_threads(self, families: Sequence[Snapshot], parallel: int) -> None:
        with ThreadPoolExecutor(max_workers=min(parallel, len(families)), thread_name_prefix="family") as pool:
            futures: list[Future[FamilyOutcome]] = [pool.submit(self._work, family) for family in families]
            try:
                for future in futures:
                    self.outcomes.append(future.result())
            except BaseException:
                # The process is dying: let go of what has not begun.
                for future in futures:
                    future.cancel()
                raise

    def _work(self, family: Snapshot) -> FamilyOutcome:
        if self._ended_by is not None:
            return not_started(family, str(self._ended_by))
        try:
            reason = self._brake()
        except ConnectorError as error:
            self._ended_by = self._ended_by or error
            return not_started(family, str(error))
        if reason is not None:
            self._stopped = reason
            return not_started(family, reason)
        unit = self._make_unit(family)
        try:
            outcome = unit.run()
        except (AuthError, JournalError) as error:
            self._ended_by = self._ended_by or error
            outcome = unit.broken_by(error)
        except MemoryError as error:
            outcome = unit.broken_by(error)
        except Exception as error:
            logger.exception("a mistake of linksub's own", extra={"event": "family.mistake"})
            self._mistakes.append(type(error).__name__)
            outcome = unit.broken_by(error)
        self._progress.family_done(outcome)
        return outcome


def mistake(error: Exception) -> ConnectorError:
    """The error that says that something went wrong which nobody foresaw; the original is its cause."""
    if isinstance(error, MemoryError):
        told = ConnectorError("out of memory", hint="give the process more memory, or lower run.parallel; run again")
    else:
        told = ConnectorError(
            f"linksub ran into a mistake of its own ({type(error).__name__})",
            hint="nothing is lost: run again. With -vv it shows where; please report that",
        )
    told.__cause__ = error
    return told


def not_started(family: Snapshot, reason: str) -> FamilyOutcome:
    """The outcome of a family that the run did not come to."""
    subject = family.subject
    return FamilyOutcome(subject.id, subject.name, FamilyState.NOT_STARTED, reason=reason)


def oldest_waiting(
    families: Iterable[Snapshot], outcomes: Iterable[FamilyOutcome], now: datetime
) -> tuple[LogId, datetime] | None:
    """The child log that has waited longest after a pass, and since when; None if none waits.

    A log that is accepted has been acknowledged, and one whose date has not come is not late. Of a family that was not
    decided on, every awaiting log waits.
    """
    after = {outcome.family: outcome for outcome in outcomes}
    waiting: Mapping[LogId, datetime] = {
        log.id: log.created_on
        for family in families
        for child in family.children
        for log in family.logs_of(child.id)
        if log.is_awaiting and _still_waits(log.id, after.get((family.parent or child).id), now)
    }
    return min(waiting.items(), key=lambda item: (item[1], item[0]), default=None)


def _still_waits(log_id: LogId, outcome: FamilyOutcome | None, now: datetime) -> bool:
    if outcome is None:
        return True
    found = outcome.decisions.get(log_id)
    if found is None:
        return outcome.state not in (FamilyState.DONE, FamilyState.NOTHING)
    match found:
        case Refuse() | Skip():
            return False
        case Wait(until=until) if until is not None:
            return until <= now
        case Accept():
            return outcome.state is not FamilyState.DONE
    return True
