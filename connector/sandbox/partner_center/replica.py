"""Reads that come from a replica behind the writes: what a subscription looked like before its youngest writes."""

from __future__ import annotations

from datetime import datetime, timedelta

from connector.sandbox.partner_center.subscription import CloudSubscription


class Replica:
    """Shows every subscription as it was ``lag`` ago, for writes that it was told of."""

    def __init__(self, lag: timedelta) -> None:
        self.lag = lag
        self._before: dict[str, list[tuple[datetime, CloudSubscription]]] = {}

    def written(self, before: CloudSubscription, now: datetime) -> None:
        """A write began. ``before`` is the subscription as it stood then and must not change any more."""
        self._before.setdefault(before.id, []).append((now, before))

    def shown(self, sub: CloudSubscription, now: datetime) -> CloudSubscription:
        """The subscription as a read sees it now: as it was before the oldest write that is younger than the lag."""
        writes = self._before.get(sub.id)
        if not writes:
            return sub
        writes[:] = [(at, before) for at, before in writes if now < at + self.lag]
        return writes[0][1] if writes else sub
