"""Where the parent is provisioned: its provider, and the customer's tenant there."""

from __future__ import annotations

from connector.domain.decision import Objection
from connector.domain.model import CatalogueEntry, NotAtProvider, ProviderAccount, ProviderSubscription, Snapshot
from connector.domain.rules.registry import Context, Rule, Scope, Severity, Stage, hold, refuse


def account_of(snapshot: Snapshot) -> ProviderAccount | str:
    """The provider account through which the family's parent is provisioned, or a sentence that says why there is none.

    The one that the subscription names; else the only one of its customer at its provider, as Work 365 selects it.
    """
    parent = snapshot.parent
    assert parent is not None
    if parent.provider_account_id is not None:
        named = next((account for account in snapshot.accounts if account.id == parent.provider_account_id), None)
        if named is None:
            return f"the provider account {parent.provider_account_id} does not exist or may not be read"
        if named.provider_id != parent.provider_id:
            return f"the provider account {named.name!r} belongs to another provider"
        if named.account_id is not None and parent.customer_id is not None and named.account_id != parent.customer_id:
            return f"the provider account {named.name!r} belongs to another customer"
        return named
    candidates = [
        account
        for account in snapshot.accounts
        if account.provider_id == parent.provider_id and account.account_id == parent.customer_id
    ]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        return "the customer has no provider account at this provider"
    names = ", ".join(sorted(repr(account.name) for account in candidates))
    return f"the customer has {len(candidates)} provider accounts at this provider ({names}) and none is chosen"


def catalogued(snapshot: Snapshot) -> CatalogueEntry | None:
    """Through which provider the catalogue sells the parent's product: the price list item's wins over the default.

    A price list item counts if it names the parent's part number, or none.
    """
    parent = snapshot.parent
    if parent is None:
        return None
    items = [
        entry
        for entry in snapshot.catalogue
        if not entry.is_default and entry.part_number in (None, parent.part_number)
    ]
    exact = [entry for entry in items if entry.part_number is not None]
    chosen = exact or items or [entry for entry in snapshot.catalogue if entry.is_default]
    return chosen[0] if len({entry.provider_id for entry in chosen}) == 1 else None


def _other_provider_than_catalogued(ctx: Context) -> Objection | None:
    entry, parent = catalogued(ctx.snapshot), ctx.snapshot.parent
    if entry is None or parent is None or parent.provider_id in (None, entry.provider_id):
        return None
    source = "product" if entry.is_default else "price list"
    return hold(
        f"the parent {parent.name!r} is on another provider than its {source} names ({entry.provider_name})",
        provider=parent.provider,
    )


def _provider_and_account(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    if parent is None:
        return None
    if parent.provider is None:
        entry = catalogued(ctx.snapshot)
        named = f"; its {'product' if entry.is_default else 'price list'} names {entry.provider_name}" if entry else ""
        return refuse(f"the linked parent {parent.name!r} has no provider{named}", parent=parent.id)
    capabilities = ctx.env.capabilities
    if capabilities is None or not capabilities.reports:
        return None
    account = account_of(ctx.snapshot)
    if isinstance(account, str):
        return refuse(f"the linked parent {parent.name!r} cannot be provisioned: {account}", parent=parent.id)
    if account.tenant is None:
        return refuse(f"the provider account {account.name!r} names no tenant (Provider Specific Account ID)")
    return None


def _unsupported_provider(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    carried = ctx.books is not None and (ctx.books.in_flight or ctx.books.told_late)
    if parent is not None and parent.provider is None and carried:
        return hold(f"the parent {parent.name!r} was raised already and has no provider any more", parent=parent.id)
    if parent is None or parent.provider in (None, "linked"):
        return None
    if ctx.env.capabilities is None:
        return hold(f"no provider plug-in handles {parent.provider!r}, the provider of {parent.name!r}")
    if not ctx.env.capabilities.provisions:
        return hold(f"the parent {parent.name!r} is on the Do Nothing provider: nothing would be provisioned")
    return None


def _wrong_tenant(ctx: Context) -> Objection | None:
    view = ctx.snapshot.provider
    if not isinstance(view, ProviderSubscription):
        return None
    account = account_of(ctx.snapshot)
    if isinstance(account, str) and ctx.books is not None and (ctx.books.in_flight or ctx.books.told_late):
        # Changes that an earlier pass carried are not judged by LS-013 again: without an account they wait here.
        return hold(f"the parent was raised already and cannot be provisioned now: {account}", parent=ctx.parent.id)
    if isinstance(account, ProviderAccount) and account.tenant is not None and account.tenant != view.tenant:
        return hold(
            f"the provider account names tenant {account.tenant}, the subscription is in tenant {view.tenant}",
            account=account.id,
        )
    return None


def _not_at_provider(ctx: Context) -> Objection | None:
    view = ctx.snapshot.provider
    if not isinstance(view, NotAtProvider):
        return None
    if ctx.parent.provider_subscription is None:
        return hold(
            "the parent has no provider subscription yet: this would be a purchase, which linksub does not make"
            f" (policy purchase: {ctx.policy.purchase})",
            "buy the subscription in Partner Center and enter its id in Subscription ID of the parent",
            suggestion=view.reason,
        )
    return hold(
        f"the provider does not list subscription {ctx.parent.provider_subscription}: {view.reason}",
        provider_subscription=ctx.parent.provider_subscription,
    )


RULES = (
    Rule(
        "LS-013",
        "The parent has a provider, and a provider account that names the customer's tenant: the chosen one, or the only one.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        14,
        "work365 facts §9.13 (errors E7, E8)",
        columns=("provider", "provider_account"),
        remedy="choose the provider account on the parent, then set the log to Awaiting Provisioning",
        function=_provider_and_account,
    ),
    Rule(
        "LS-067",
        "A parent on another provider than its price list item names (or else its product) is told.",
        Scope.FAMILY,
        Stage.POST_OPERATION,
        12,
        "seed License Subscription (price list item over product default); work365 facts §3",
        columns=("provider", "part_number"),
        severity=Severity.WARNING,
        remedy="correct the price list item, or move the subscription (transfer and reconcile, not a field edit)",
        function=_other_provider_than_catalogued,
    ),
    Rule(
        "LS-056",
        "The parent's provider is one that a plug-in can provision through.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        5,
        "design §3 (providers are plug-ins)",
        columns=("provider",),
        remedy="choose another provider for the parent, or install the plug-in of this one",
        function=_unsupported_provider,
    ),
    Rule(
        "LS-057",
        "The parent's subscription stands in the tenant that its provider account names.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        8,
        "work365 facts §9.13 (error E7, wrong tenant)",
        columns=("provider_account",),
        remedy="correct Provider Specific Account ID of the provider account",
        function=_wrong_tenant,
        shown_by=(
            "tests/unit/test_mutation_of_rules.py::test_its_witness_is_decided_by_the_rule_and_otherwise_without_it",
        ),
    ),
    Rule(
        "LS-052",
        "A parent is matched to the provider by its provider subscription id and never by SKU; a SKU only suggests.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        9,
        "work365 facts §9.52 (error E24)",
        columns=("provider_subscription",),
        remedy="enter the id that Partner Center shows for this subscription in Subscription ID of the parent",
        function=_not_at_provider,
    ),
)
