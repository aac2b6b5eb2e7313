"""How figures and decisions read: shared by every rendering."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from connector.domain.decision import Accept, Decision, Hold, Refuse, Skip, Wait
from connector.domain.plan import MoneyEffect

_NO_MINOR_UNITS = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THREE_MINOR_UNITS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})


def money(minor: int, currency: str, *, signed: bool = True) -> str:
    """Minor units as people write them: ``+360.00 USD``."""
    digits = 0 if currency in _NO_MINOR_UNITS else 3 if currency in _THREE_MINOR_UNITS else 2
    amount = f"{abs(minor) // 10**digits:,}" + (f".{abs(minor) % 10**digits:0{digits}d}" if digits else "")
    sign = "-" if minor < 0 else "+" if signed and minor > 0 else ""
    return f"{sign}{amount} {currency}"


def money_effect(effect: MoneyEffect) -> str:
    """A plan's money in one line; seats whose price nobody entered are said to be just that."""
    parts = [money(minor, currency) for currency, minor in sorted(effect.per_month.items())]
    if effect.seats_without_price:
        parts.append(f"{effect.seats_without_price} seats of unknown price")
    return ", ".join(parts) if parts else "none"


def change(before: int | None, after: int | None) -> str:
    """``50 → 60``, or just the number if it does not change."""
    if before is None:
        return "?" if after is None else f"? → {after}"
    return f"{before}" if after is None or before == after else f"{before} → {after}"


def counted(number: int, one: str, many: str) -> str:
    """``1 family``, ``2 families``."""
    return f"{number} {one if number == 1 else many}"


def decision_word(decision: Decision) -> str:
    """One word for a decision."""
    match decision:
        case Accept():
            return "goes"
        case Refuse():
            return "refused"
        case Wait():
            return "waits"
        case Hold():
            return "held"
        case Skip():
            return "not ours"


def decision_document(decision: Decision) -> Mapping[str, object]:
    """A decision for machines."""
    document: dict[str, object] = {
        "decision": decision_word(decision),
        "rule": decision.rule,
        "reason": decision.reason,
        "evidence": dict(decision.evidence),
        "remedy": decision.remedy,
    }
    if isinstance(decision, Wait | Hold) and decision.blocked_by is not None:
        document["blocked_by"] = decision.blocked_by
    if isinstance(decision, Wait) and decision.until is not None:
        document["scheduled_for"] = instant(decision.until)
    return document


def instant(value: datetime) -> str:
    """An instant for machines: ISO 8601 in UTC."""
    return value.isoformat().replace("+00:00", "Z")
