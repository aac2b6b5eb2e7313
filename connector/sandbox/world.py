"""From the first half of a scenario to rows: builds the CRM and the provider, and keeps aliases and GUIDs together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from connector.sandbox.aliases import guid
from connector.sandbox.bought import bought_subscription, commitment_end, created_on
from connector.sandbox.grammar import RowValues, Scenario, SubscriptionSpec
from connector.sandbox.habits import Kind
from connector.sandbox.partner_center.resource import CloudCustomer
from connector.sandbox.partner_center.service import PartnerCenterService
from connector.sandbox.partner_center.subscription import CloudSubscription
from connector.sandbox.store import Store
from connector.sandbox.work365 import CONFIGURATION, LOG, PROVIDER, SUBSCRIPTION, TIME_ZONE_SETTING, Work365

KILL_SWITCH_SETTING = "LinkSub.KillSwitch"
PROVIDER_LABELS = {
    "do_nothing": "Do Nothing",
    "manual": "Manual",
    "linked": "Linked Subscription",
    "partner_center": "Microsoft CSP",
    "rest": "Rest",
}
REDUCTION_LABELS = {"allowed": "Allowed", "disallowed": "Disallowed", "within_window": "Allowed within window"}
_SUB = "work365_subscription_"


class World:
    """A built scenario: the aliases, and which logs there were at the beginning."""

    def __init__(self, scenario: Scenario, store: Store, cloud: PartnerCenterService, work365: Work365) -> None:
        self.scenario = scenario
        self.store = store
        self.cloud = cloud
        self.work365 = work365
        self._aliases: dict[str, str] = {}
        self._specs = {spec.id: spec for spec in scenario.subscriptions}
        self._contracts = {contract.id: contract for contract in scenario.contracts}
        self._accounts = {account.id: account for account in scenario.accounts}
        self._linked_parents = {spec.linked_to for spec in scenario.subscriptions}
        self._bought: dict[str, str] = {}
        self._provider_accounts: dict[str, list[tuple[str | None, str]]] = {}
        with store.silent():
            self._build_settings()
            self._build_accounts()
            self._build_contracts()
            self._build_catalogue()
            for spec in scenario.subscriptions:
                self._build_subscription(spec)
        self.initial_logs = frozenset(row[f"{LOG}id"] for row in store.rows(LOG))

    def id_of(self, alias: str) -> str:
        """The GUID of a subscription."""
        return guid("subscription", alias)

    def alias_of(self, identifier: str | None) -> str | None:
        """The alias of any GUID of this world, or the GUID itself if it has none."""
        return None if identifier is None else self._aliases.get(identifier, identifier)

    def provider_id(self, key: str) -> str:
        """The GUID of a provider row by the connector-neutral key that scenarios use."""
        return guid("provider", key)

    def provider_key(self, identifier: str | None) -> str | None:
        """The scenario's word for a provider row."""
        return next((key for key in PROVIDER_LABELS if self.provider_id(key) == identifier), identifier)

    def bought(self, alias: str) -> CloudSubscription | None:
        """What the provider has for a subscription of the CRM, or None if it was never bought or is unknown there."""
        row = self.store.get(SUBSCRIPTION, self.id_of(alias))
        reference = None if row is None else row[f"{_SUB}subscriptionid"]
        found = None if reference is None else self.cloud.subscriptions.get(reference.lower())
        return found or self.cloud.subscriptions.get(self._bought.get(alias, ""))

    def logs_of(self, alias: str) -> list[Mapping[str, Any]]:
        """The licence change logs of a subscription made since the beginning, oldest first."""
        rows = self.store.find(LOG, "work365_licensechangelog_subscription", self.id_of(alias))
        made = [row for row in rows if row[f"{LOG}id"] not in self.initial_logs]
        return sorted(made, key=lambda row: (row["createdon"], row[f"{LOG}id"]))

    # -- building ---------------------------------------------------------------------------------------------------

    def _build_settings(self) -> None:
        for key, label in PROVIDER_LABELS.items():
            values = {
                "work365_name": label,
                "work365_provider_type": self.store.schema.option(PROVIDER, "work365_provider_type", label),
            }
            self.store.create(PROVIDER, values, id=self.provider_id(key))
        settings = dict(self.scenario.configuration)
        if self.scenario.time_zone is not None:
            settings[TIME_ZONE_SETTING] = self.scenario.time_zone
        if self.scenario.kill_switch is not None:
            settings[KILL_SWITCH_SETTING] = self.scenario.kill_switch
        for name, value in settings.items():
            row = {"work365_name": name, "work365_configuration_value": value}
            self.store.create(CONFIGURATION, row, id=guid("configuration", name))

    def _build_accounts(self) -> None:
        for account in self.scenario.accounts:
            account_id = self._name("account", account.id)
            name = account.name or account.id
            tenant = account.tenant or guid("tenant", account.id)
            parent = None if account.parent is None else guid("account", account.parent)
            self.store.create("account", {"name": name, "parentaccountid": parent}, id=account_id)
            self.cloud.add_customer(CloudCustomer(tenant, name, f"{account.id}.onmicrosoft.com", account.related))
            made = self._provider_accounts.setdefault(account.id, [])
            if account.provider_accounts is None:
                made.append(self._provider_account(account_id, account.id, "partner_center", tenant, name))
                continue
            for number, spec in enumerate(account.provider_accounts, start=1):
                own_tenant = spec.tenant if "tenant" in spec.model_fields_set else tenant
                alias = spec.id or f"{account.id}/{number}"
                made.append(self._provider_account(account_id, alias, spec.provider, own_tenant, spec.name or name))

    def _provider_account(
        self, account_id: str, alias: str, provider: str | None, tenant: str | None, name: str
    ) -> tuple[str | None, str]:
        prefix = "work365_provideraccount_"
        values = {
            f"{prefix}name": name,
            f"{prefix}account": account_id,
            f"{prefix}provider": None if provider is None else self.provider_id(provider),
            f"{prefix}providerspecificaccountid": tenant,
        }
        identifier = guid("provider_account", alias)
        self.store.create("work365_provideraccount", values, id=identifier)
        return provider, identifier

    def _build_contracts(self) -> None:
        for contract in self.scenario.contracts:
            values = {
                "work365_name": contract.name or contract.id,
                "work365_billingcontract_customer": None
                if (account := self._account_of_contract(contract.id)) is None
                else guid("account", account),
            }
            self.store.create("work365_billingcontract", values, id=self._name("contract", contract.id))

    def _build_subscription(self, spec: SubscriptionSpec) -> None:
        subscription_id = self._name("subscription", spec.id)
        created = created_on(spec, self.scenario.clock)
        values = self._defaults(spec) | self.columns(spec)
        if spec.at_provider is not None:
            sub = bought_subscription(spec, spec.at_provider, self._tenant_of(spec), self.scenario.clock)
            if sub.tenant not in self.cloud.customers:
                self.cloud.add_customer(
                    CloudCustomer(sub.tenant, f"Customer {sub.tenant[:8]}", f"{sub.tenant[:8]}.test")
                )
            self.cloud.add_subscription(sub)
            self._bought[spec.id] = sub.id
            if "provider_subscription" not in spec.model_fields_set:
                values[f"{_SUB}subscriptionid"] = sub.id
        values |= {"createdon": created, f"{_SUB}effectivestartdate": created.date()}
        self.store.create(SUBSCRIPTION, values, id=subscription_id)
        quantity = values.get(f"{_SUB}quantity")
        if quantity is not None:
            self._settled_log(subscription_id, "Create", quantity, created)
            if values.get("statecode") == 1:
                # A suspended subscription stands for no seats, so its logs add up to none as well.
                self._settled_log(subscription_id, "Deactivate", -quantity, created + timedelta(hours=1))

    def _settled_log(self, subscription_id: str, kind: Kind, quantity: int, at: datetime) -> None:
        sub = self.store.get(SUBSCRIPTION, subscription_id)
        if sub is None:
            raise KeyError(subscription_id)
        prefix = "work365_licensechangelog_"
        values = self.work365.log_values(sub, subscription_id, kind, quantity, "Provisioned") | {
            f"{prefix}effectivedate": at.astimezone(self.work365.zone()).date(),
            f"{prefix}actualprovisionedon": at,
            "createdon": at,
        }
        self.store.create(LOG, values, id=guid("log", f"{subscription_id[:8]}/{kind}/{subscription_id}"))

    def _defaults(self, spec: SubscriptionSpec) -> dict[str, Any]:
        """What a row has that the scenario does not mention."""
        account = self._account_of(spec)
        home = account or self._account_of_contract(spec.contract or "")
        provider = "linked" if spec.linked_to else "partner_center" if spec.at_provider else "do_nothing"
        if "provider" in spec.model_fields_set:
            provider = spec.provider or ""
        accounts = [identifier for key, identifier in self._provider_accounts.get(home or "", []) if key == provider]
        contract = self._contracts.get(spec.contract or "")
        place = contract.name or contract.id if contract is not None else ""
        title = f"{spec.product or spec.id} {place}".strip()
        known = commitment_end(spec, self._specs.get(spec.linked_to or ""), self.scenario.clock)
        return self.columns(
            RowValues(
                name=title,
                customer=account,
                provider=provider or None,  # type: ignore[arg-type]  # odd worlds may name any word
                currency="USD",
                unit="month",
                billable=spec.id not in self._linked_parents,
                auto_renew=spec.at_provider is None or spec.at_provider.auto_renew is not False,
                commitment_end=known,
            )
        ) | {f"{_SUB}provideraccount": accounts[0] if accounts else None}

    def columns(self, spec: RowValues) -> dict[str, Any]:
        """The columns that a scenario sets, by logical name. What is not given is left out, null becomes None."""
        given = {key: getattr(spec, key) for key in RowValues.model_fields if key in spec.model_fields_set}
        columns: dict[str, Any] = {}
        for key, value in given.items():
            column = _COLUMNS[key]
            columns[column] = None if value is None else self._value(key, value, column)
        return columns

    def _value(self, key: str, value: Any, column: str) -> Any:
        option = self.store.schema.option
        match key:
            case "contract":
                return guid("contract", value)
            case "customer":
                return guid("account", value)
            case "linked_to" | "base":
                return guid("subscription", value)
            case "provider":
                return self.provider_id(value)
            case "provider_account":
                known = {account.id for account in self.scenario.accounts}
                return self._provider_accounts[value][0][1] if value in known else guid("provider_account", value)
            case "product":
                return self._product(value)
            case "currency":
                return self._currency(value)
            case "state":
                return 0 if value == "active" else 1
            case "reduction":
                return option(SUBSCRIPTION, column, REDUCTION_LABELS[value])
            case "unit":
                return option(SUBSCRIPTION, column, value.capitalize())
            case "billable":
                return option(SUBSCRIPTION, column, "Billable" if value else "Non-Billable")
        return value

    def _build_catalogue(self) -> None:
        for product in self.scenario.products:
            default = None if product.provider is None else self.provider_id(product.provider)
            self.store.update("product", self._product(product.id), {"work365_product_provider": default})
            for number, item in enumerate(product.prices, start=1):
                prefix = "work365_productpricelevel_"
                values = {
                    "productid": self._product(product.id),
                    f"{prefix}provider": None if item.provider is None else self.provider_id(item.provider),
                    f"{prefix}providerpartnumber": item.part_number,
                }
                self.store.create("productpricelevel", values, id=guid("price", f"{product.id}/{number}"))

    def _product(self, name: str) -> str:
        identifier = guid("product", name)
        if self.store.get("product", identifier) is None:
            self.store.create("product", {"name": name, "productnumber": name}, id=identifier)
        return identifier

    def _currency(self, code: str) -> str:
        identifier = guid("currency", code.upper())
        if self.store.get("transactioncurrency", identifier) is None:
            values = {"isocurrencycode": code.upper(), "currencyname": code.upper()}
            self.store.create("transactioncurrency", values, id=identifier)
        return identifier

    def _tenant_of(self, spec: SubscriptionSpec) -> str:
        account = self._accounts.get(self._account_of(spec) or self._account_of_contract(spec.contract or "") or "")
        return guid("tenant", spec.id) if account is None else account.tenant or guid("tenant", account.id)

    def _account_of(self, spec: SubscriptionSpec) -> str | None:
        if "customer" in spec.model_fields_set:
            return spec.customer
        return self._account_of_contract(spec.contract) if spec.contract is not None else None

    def _account_of_contract(self, alias: str) -> str | None:
        contract = self._contracts.get(alias)
        if contract is None or "account" in contract.model_fields_set:
            return None if contract is None else contract.account
        return self.scenario.accounts[0].id if len(self.scenario.accounts) == 1 else None

    def _name(self, kind: str, alias: str) -> str:
        identifier = guid(kind, alias)
        self._aliases[identifier] = alias
        return identifier


_COLUMNS = {
    "name": f"{_SUB}subscriptionname",
    "contract": f"{_SUB}billingcontract",
    "customer": f"{_SUB}customer",
    "product": f"{_SUB}product",
    "part_number": f"{_SUB}partnumber",
    "provider": f"{_SUB}provider",
    "provider_account": f"{_SUB}provideraccount",
    "provider_subscription": f"{_SUB}subscriptionid",
    "quantity": f"{_SUB}quantity",
    "linked_to": f"{_SUB}linkedsubscription",
    "base": f"{_SUB}parentsubscription",
    "state": "statecode",
    "trial": f"{_SUB}istrial",
    "auto_renew": f"{_SUB}autorenew",
    "commitment_end": f"{_SUB}commitmentenddate",
    "reduction": f"{_SUB}quantityreductionbehavior",
    "reduction_days": f"{_SUB}quantityreductionwindow",
    "cost": f"{_SUB}costpriceperunit",
    "price": f"{_SUB}sellingpriceperunit",
    "currency": "transactioncurrencyid",
    "unit": f"{_SUB}salesunit",
    "order_reference": f"{_SUB}orderreference",
    "billable": f"{_SUB}billablestatus",
    "deactivate_on": f"{_SUB}deactivateon",
}
