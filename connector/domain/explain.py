"""Why a family stands where it stands: the decision on it, with failed child logs judged as if they were retried.

A failed log is never worked on, so ``decide`` says nothing of it. A person who asks wants to know whether setting it to
Awaiting would help: it is judged as if that had been done.
"""

from __future__ import annotations

from dataclasses import replace

from connector.domain.model import ProvisioningStatus, Snapshot


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
