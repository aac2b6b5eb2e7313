"""Every error that linksub raises on purpose, by two questions kept apart.

*May it be retried?* and *is the outcome known?* A lost answer to a write is neither a failure nor a success: it is
:class:`OutcomeUnknown`, and only reading back settles it. Business conditions are not errors: rules return decisions.

Each message says what happened and where (ids); ``hint`` says what to do next. ``exit_code`` is the interface of the
command line (see README, "Exit codes").
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line: an interface, never renumbered."""

    DONE = 0
    INTERNAL = 1
    CHANGES_PENDING = 2
    FAMILIES_NEED_ATTENTION = 3
    SAFETY_LIMIT = 4
    STALE_PLAN = 6
    USAGE = 64
    CANNOT_JOURNAL = 74
    TRY_LATER = 75
    PERMISSION = 77
    CONFIGURATION = 78


class ConnectorError(Exception):
    """Base of all; ``str()`` is what happened and where, ``hint`` is the next step for a person."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ConnectorError):
    """Bad flags or arguments."""

    exit_code = ExitCode.USAGE


class ConfigError(ConnectorError):
    """The configuration cannot be used. Carries every problem found, not only the first."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class MappingError(ConfigError):
    """The mapping names a table, column or choice label that the organisation does not have, or is itself malformed."""


class LockHeld(ConnectorError):
    """Another run holds the lock or the lease; ``holder`` names it."""

    exit_code = ExitCode.TRY_LATER

    def __init__(self, message: str, *, holder: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class Interrupted(ConnectorError):
    """A signal or the run's deadline ended the run between two families; everything in hand was finished."""

    exit_code = ExitCode.TRY_LATER


class JournalError(ConnectorError):
    """An intent cannot be made durable, so nothing further may be sent."""

    exit_code = ExitCode.CANNOT_JOURNAL


class StepRefused(JournalError):
    """An intent is not where its holder left it: somebody else has closed it meanwhile. What was sent is sent."""


class StalePlan(ConnectorError):
    """The world moved since the plan was made (digest or ETag). ``problems``: the families and what moved in each."""

    exit_code = ExitCode.STALE_PLAN

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class SafetyLimitExceeded(ConnectorError):
    """The plan goes beyond a limit that a person set, or a kill switch is on. ``problems``: each limit, with figures."""

    exit_code = ExitCode.SAFETY_LIMIT

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class RemoteError(ConnectorError):
    """A remote service answered with an error, or did not answer.

    ``service`` is ``dataverse``, ``partner_center`` or ``sign_in``; ``operation`` a short stable name such as
    ``patch subscription``; ``status`` the HTTP status if there was an answer; ``code`` the service's own code as text
    (``0x80060882``, ``800090``), possibly empty; ``request_id`` and ``correlation_id`` are what the vendor's support
    asks for; ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str,
        operation: str,
        status: int | None = None,
        code: str = "",
        text: str = "",
        request_id: str | None = None,
        correlation_id: str | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.service = service
        self.operation = operation
        self.status = status
        self.code = code
        self.text = text
        self.request_id = request_id
        self.correlation_id = correlation_id
        self.retry_after = retry_after


class Transient(RemoteError):
    """Not done, and worth another try later: 408/429/503 with a known outcome, any failure of a read, no connection."""

    exit_code = ExitCode.TRY_LATER


class OutcomeUnknown(RemoteError):
    """A write was sent and its answer is missing or says nothing (time-out, reset, 5xx, truncated body): read back."""

    exit_code = ExitCode.FAMILIES_NEED_ATTENTION


class Rejected(RemoteError):
    """A final, definite no from the service (4xx business answer). Never retried; ``text`` is the service's own text."""

    exit_code = ExitCode.FAMILIES_NEED_ATTENTION


class PreconditionFailed(RemoteError):
    """The row moved since it was read (412): read again and decide again."""

    exit_code = ExitCode.FAMILIES_NEED_ATTENTION


class AnotherChange(PreconditionFailed):
    """Somebody else's change stands where ours was to go. It is left as it is, and asking again does not help."""


class AuthError(RemoteError):
    """Sign-in or permission: 401 after one fresh token, 403, or the sign-in service said no. Ends the run."""

    exit_code = ExitCode.PERMISSION


class ProtocolError(RemoteError):
    """The service answered in a form that is not understood; fail closed, never guess."""

    exit_code = ExitCode.FAMILIES_NEED_ATTENTION
