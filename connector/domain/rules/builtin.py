"""The rule book that ships: every concern's steps and guarantees."""

from __future__ import annotations

from connector.domain.rules import (
    accounts,
    books,
    bundles,
    drift,
    guarantees,
    lifecycle,
    links,
    provider_guarantees,
    provider_state,
    reductions,
    turn,
)
from connector.domain.rules.registry import RuleBook

BUILTIN = RuleBook(
    (
        *turn.RULES,
        *links.RULES,
        *accounts.RULES,
        *books.RULES,
        *drift.RULES,
        *bundles.RULES,
        *provider_state.RULES,
        *reductions.RULES,
        *lifecycle.RULES,
        *guarantees.RULES,
        *provider_guarantees.RULES,
    )
)
"""All rules of this package; packages from outside extend it by the entry point group ``linksub.rules``."""
