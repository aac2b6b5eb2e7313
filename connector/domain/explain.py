"""Why a family stands where it stands: the decision on it, with failed child logs judged as if they were retried.

A failed log is never worked on, so ``decide`` says nothing of it. A person who asks wants to know whether setting it to
Awaiting would help: it is judged as if that had been done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from connector.domain.model import LicenseChangeLog, LogId, ProvisioningStatus, Snapshot


def as_if_retried(snapshot: Snapshot) -> Snapshot:
    """The snapshot with every failed log of a child set to Awaiting; the parent's own stay as they are."""
    children = {child.id for child in snapshot.children}
    logs = tuple(
        replace(log, status=ProvisioningStatus.AWAITING)
        if log.status is ProvisioningStatus.FAILED and log.subscription_id in children
        else log
        for log in snapshot.logs
    )
    return replace(snapshot, logs=logs)


@dataclass(frozen=True, slots=True)
class Blocker:
    """A log that nothing blocks and that stands in the way of others; ``blocked`` are all that wait for it, in order of
    age, whether directly or behind one another."""

    log: LicenseChangeLog
    blocked: tuple[LicenseChangeLog, ...]


def blockers(logs: Iterable[LicenseChangeLog], blocked_by: Mapping[LogId, LogId]) -> tuple[Blocker, ...]:
    """Who blocks whom, the oldest blocker first; ``blocked_by`` is log → the log that it directly waits for.

    A blocker that is not among the logs (its row could not be read) is left out; its victims still say its id.
    """
    known = {log.id: log for log in logs}
    victims: dict[LogId, list[LicenseChangeLog]] = {}
    for log_id in blocked_by:
        root, seen = log_id, {log_id}
        while root in blocked_by and blocked_by[root] not in seen:
            root = blocked_by[root]
            seen.add(root)
        if root != log_id and root in known and log_id in known:
            victims.setdefault(root, []).append(known[log_id])
    found = [Blocker(known[root], tuple(sorted(logs, key=_age))) for root, logs in victims.items()]
    return tuple(sorted(found, key=lambda blocker: _age(blocker.log)))


def _age(log: LicenseChangeLog) -> tuple[datetime, str]:
    return log.created_on, log.id
