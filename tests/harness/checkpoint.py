"""Putting a sandbox back to where it was. Building one takes 20 ms, this a fraction of one.

It reaches into the sandbox's attributes on purpose: the sandbox has no need for it, and `test_harness_itself` shows that
a world that was put back answers like one that was built.
"""

from __future__ import annotations

import copy
from typing import Any

from connector.sandbox.app import Sandbox


class Checkpoint:
    """The state of one sandbox at one moment. Rows are never changed in place, so shallow copies keep them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox: Any = sandbox
        store: Any = sandbox.store
        self._shelves = {
            name: (
                dict(shelf.rows),
                {column: {key: set(ids) for key, ids in index.items()} for column, index in shelf.index.items()},
                list(shelf.feed),
                list(shelf.deletions),
            )
            for name, shelf in store._shelves.items()
            if shelf.rows or shelf.feed
        }
        self._names = list(store._shelves)
        self._version = store._version
        cloud: Any = sandbox.partner_center
        self._subscriptions = copy.deepcopy(cloud.subscriptions)
        self._skus = dict(cloud.skus)
        self._cloud = (dict(cloud._answered), cloud._serial, list(cloud.changes), cloud.accepted_writes)
        work365: Any = sandbox.work365
        self._work365 = (work365._last_created, work365._logs_made, list(work365.jobs))
        self._later = (sandbox.deliveries.waiting, copy.deepcopy(cloud.replica))
        self._now = sandbox.clock.now()

    def restore(self) -> None:
        """Put everything back; the trace and the faults are emptied."""
        sandbox = self._sandbox
        store = sandbox.store
        for name in self._names:
            shelf = store._shelves[name]
            rows, index, feed, deletions = self._shelves.get(name, ({}, None, [], []))
            if not rows and not shelf.rows and not shelf.feed:
                continue
            shelf.rows = dict(rows)
            if index is None:
                shelf.index = {column: {} for column in shelf.index}
            else:
                shelf.index = {
                    column: {key: set(ids) for key, ids in entries.items()} for column, entries in index.items()
                }
            shelf.feed, shelf.deletions, shelf._order = list(feed), list(deletions), None
        store._version = self._version
        cloud = sandbox.partner_center
        cloud.subscriptions = copy.deepcopy(self._subscriptions)
        cloud.skus = dict(self._skus)
        answered, cloud._serial, changes, cloud.accepted_writes = self._cloud
        cloud._answered, cloud.changes = dict(answered), list(changes)
        sandbox.work365._last_created, sandbox.work365._logs_made, jobs = self._work365
        sandbox.work365.jobs = list(jobs)
        sandbox.deliveries.waiting, replica = self._later
        cloud.replica, sandbox.watch = copy.deepcopy(replica), None
        sandbox.clock._now = self._now
        sandbox.faults.clear()
        sandbox.trace.__init__()
        throttle = sandbox.dataverse._throttle
        throttle._served.clear()
        throttle._spent = 0.0
