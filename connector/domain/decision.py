"""What a rule says about a change: a closed sum type, so that "not checked" can never look like "fine".

``Accept`` it may go · ``Refuse`` never in this form, the log becomes Failed with the reason · ``Wait`` nothing is wrong,
its time has not come · ``Hold`` something is wrong that only a person can settle · ``Skip`` not ours to push at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from connector.domain.model import LogId

Evidence = Mapping[str, object]
"""The values that a rule looked at, by name: plain JSON values, shown to people."""


@dataclass(frozen=True, slots=True)
class Accept:
    """No rule objects. ``rule`` is empty unless a rule shaped the change."""

    rule: str = ""
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Final in this form: the log becomes Failed with ``reason``; a person mends the cause and sets it to Awaiting."""

    rule: str
    reason: str
    evidence: Evidence = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is wrong: it goes by itself at ``until``, or once ``blocked_by`` is out of the way."""

    rule: str
    reason: str
    evidence: Evidence = field(default_factory=dict)
    remedy: str = ""
    until: datetime | None = None
    blocked_by: LogId | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Stopped until a person decides; nothing is written. ``retryable`` holds go by themselves once a service answers."""

    rule: str
    reason: str
    evidence: Evidence = field(default_factory=dict)
    remedy: str = ""
    blocked_by: LogId | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    """None of our business (price only, Do Nothing, not linked): left to Work 365, and in nobody's way."""

    rule: str
    reason: str
    evidence: Evidence = field(default_factory=dict)
    remedy: str = ""


Decision = Accept | Refuse | Wait | Hold | Skip
Objection = Refuse | Wait | Hold | Skip
"""Every decision but Accept: what a rule returns when it has something to say."""
