"""Contoso's own rule: nobody buys more than twenty seats at once without a word from the manager."""

from __future__ import annotations

from connector.domain.rules.registry import ChangeObjection, Context, Rule, Scope, Stage, hold

MOST_AT_ONCE = 20


def _too_many_at_once(ctx: Context) -> ChangeObjection | None:
    if ctx.delta <= MOST_AT_ONCE:
        return None
    return ChangeObjection(
        hold(f"{ctx.delta} seats at once are more than {MOST_AT_ONCE}", seats=ctx.delta, most=MOST_AT_ONCE), sign=1
    )


RULES = (
    Rule(
        "CONTOSO-001",
        "No more than twenty seats are bought at once.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        50,
        "Contoso's purchasing policy",
        columns=("quantity",),
        remedy="ask the purchasing manager, and split the change",
        function=_too_many_at_once,
    ),
)
