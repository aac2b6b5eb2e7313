"""When a licence change takes effect: Work 365's clock times in the tenant's time zone, as exact UTC instants.

Source: seed "Subscription Management" (12:05 am for positive changes, 11:30 pm for negative ones, UTC when no zone is
set) and work365 facts §5. Both times are settings because one edition of the documentation does not give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from connector.domain.model import LicenseChangeLog, LogKind
from connector.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class Calendar:
    """The tenant's zone and the two clock times of dated changes."""

    zone: ZoneInfo
    increase_time: time = time(0, 5)
    decrease_time: time = time(23, 30)

    @classmethod
    def of(cls, policy: Policy, crm_zone: str | None) -> Calendar:
        """The calendar of a run: the policy's zone, else the CRM's, else UTC.

        Raises ZoneInfoNotFoundError for a zone of the CRM that does not exist (the caller turns it into a
        configuration error: guessing a zone would move purchases by a day).
        """
        return cls(ZoneInfo(policy.time_zone or crm_zone or "UTC"), policy.increase_time, policy.decrease_time)

    def instant(self, day: date, clock_time: time) -> datetime:
        """A local wall time as the UTC instant at which a wall clock first shows it.

        In the hour that a DST change skips, that is the moment of the change: the first instant at which the clock
        has reached the time. In the hour that comes twice, it is the first of the two.
        """
        local = datetime.combine(day, clock_time, tzinfo=self.zone)
        instant = local.replace(fold=0).astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None):
            return instant
        return self._end_of_gap(instant)

    def _end_of_gap(self, inside: datetime) -> datetime:
        """The instant of the zone change next to an instant computed from a wall time that does not exist."""
        low, high = inside - timedelta(days=1, hours=2), inside + timedelta(days=1, hours=2)
        before = low.astimezone(self.zone).utcoffset()
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            if middle.astimezone(self.zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        return high.replace(microsecond=0)

    def scheduled_for(self, day: date, quantity: int) -> datetime:
        """When a dated change of that sign takes place: increases and activations early, the others late."""
        return self.instant(day, self.increase_time if quantity > 0 else self.decrease_time)

    def scheduled_instant(self, log: LicenseChangeLog) -> datetime | None:
        """When a dated change takes place; None for an immediate one, which is due whatever any clock says.

        ``provision_on`` decides: an instant as it is, a bare date by the clock times. Without it the change is
        immediate, unless its effective date lies after the day on which it was made (error catalogue E4).
        """
        if isinstance(log.provision_on, datetime):
            return log.provision_on
        if log.provision_on is not None:
            return self.scheduled_for(log.provision_on, self._sign(log))
        if log.effective_on is not None and log.effective_on > self.local_date(log.created_on):
            return self.scheduled_for(log.effective_on, self._sign(log))
        return None

    def effective_instant(self, log: LicenseChangeLog) -> datetime:
        """The instant by which changes are ordered (design §4 step 2): an immediate one counts from when it was made."""
        return self.scheduled_instant(log) or log.created_on

    def is_due(self, log: LicenseChangeLog, now: datetime) -> bool:
        """Whether a log may be sent to the provider now."""
        instant = self.scheduled_instant(log)
        return instant is None or instant <= now

    def local_date(self, instant: datetime) -> date:
        """The date that a wall clock in the tenant's zone shows."""
        return instant.astimezone(self.zone).date()

    @staticmethod
    def _sign(log: LicenseChangeLog) -> int:
        if log.kind is LogKind.DEACTIVATE:
            return -1
        if log.kind is LogKind.ACTIVATE:
            return 1
        return log.quantity or 0


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The last instant of a local day, as UTC: the inclusive end of a reduction window."""
    midnight = datetime.combine(day + timedelta(days=1), time(0), tzinfo=zone).astimezone(UTC)
    return midnight - timedelta(microseconds=1)
