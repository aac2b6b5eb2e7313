"""Partner Center's business rules by their numbers: most are kept by a step, or by what linksub never does.

Source: Microsoft's documentation of the new commerce experience ("Manage subscriptions", "Subscription resources",
"Error codes"), as numbered in Partner Center facts §6.
"""

from __future__ import annotations

from connector.domain.rules.guarantees import kept
from connector.domain.rules.registry import Message, Severity, Stage

_PUSHING = "tests/contract/test_partner_center_writing.py"
_ONE_FIELD = f"{_PUSHING}::test_a_change_sends_the_whole_resource_back_with_one_field_changed"

RULES = (
    kept(
        "PC-001",
        "Seats can be given back for seven days after they were added, batch by batch, as the provider itself reports.",
        "Partner Center facts §6.1; seed Manage customer subscriptions",
        "LS-017, which reads the provider's refundable quantities and their deadlines",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="repeat the decrease at the renewal, or move the seats to another location",
    ),
    kept(
        "PC-002",
        "Seats can be added at any time.",
        "Partner Center facts §6.2",
        "LS-016 and LS-017 judge decreases only",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
    ),
    kept(
        "PC-003",
        "One subscription takes about 1,200 changes in its life: they are put together, and none is sent for nothing.",
        "Partner Center facts §6.3 (code 900311)",
        "LS-025 and LS-028; beyond the limit the provider's no stands on the parent's log (LS-033)",
        columns=("quantity",),
        remedy="buy a second, coterminous subscription and link some of the children to it",
    ),
    kept(
        "PC-004",
        "While a renewal is under way a change may meet a conflict; it is repeated after two minutes.",
        "Partner Center facts §6.4",
        "LS-034",
        severity=Severity.WARNING,
        shown_by=(f"{_PUSHING}::test_a_busy_subscription_says_how_long_to_leave_it_alone",),
    ),
    kept(
        "PC-005",
        "A change of seats deletes what is scheduled for the renewal, so it is written back afterwards.",
        "Partner Center facts §6.5",
        "LS-043",
        columns=("quantity",),
        severity=Severity.WARNING,
        remedy="if it was lost: schedule the renewal change again in Partner Center",
    ),
    kept(
        "PC-006",
        "Only an active subscription with auto-renew on takes a scheduled change.",
        "Partner Center facts §6.6",
        "LS-044",
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="turn auto-renew on in Partner Center, then set the log to Awaiting Provisioning",
    ),
    kept(
        "PC-007",
        "A suspended subscription takes no change of seats, and linksub suspends none.",
        "Partner Center facts §6.7 (code 800091)",
        "LS-019; the provider port can set a quantity and nothing else",
        message=Message.SET_STATE,
        columns=("state", "quantity"),
        stage=Stage.PRE_OPERATION,
    ),
    kept(
        "PC-008",
        "A cancellation cannot be taken back after seven days, so linksub never cancels.",
        "Partner Center facts §6.8",
        "LS-018; the provider port has no call that changes a status",
        message=Message.SET_STATE,
        columns=("state",),
        stage=Stage.PRE_OPERATION,
    ),
    kept(
        "PC-010",
        "Copilot has at most as many seats as its bases, and Multi-Geo at least five percent of them.",
        "Partner Center facts §6.10",
        "LS-021, for the part numbers that policy.products names",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="bring the base and the add-on into proportion, then set the log to Awaiting Provisioning",
    ),
    kept(
        "PC-012",
        "Promotions are left as they are; an increase beyond a promotion's limit is the provider's no.",
        "Partner Center facts §6.12",
        "the whole resource goes back with the quantity changed, and a refusal is shown in the provider's words (LS-033)",
        shown_by=(_ONE_FIELD,),
    ),
    kept(
        "PC-013",
        "A change of seats never moves the end of the term.",
        "Partner Center facts §6.13",
        "the whole resource goes back with the quantity changed and every date as it was",
        columns=("commitment_end",),
        shown_by=(_ONE_FIELD,),
    ),
    kept(
        "PC-014",
        "An add-on of the new commerce is a subscription of its own, with its own term: it is pushed like any other.",
        "Partner Center facts §6.14",
        "families: an add-on's parent is a family of its own, tied to its base by rules only",
        columns=("bundle_parent",),
    ),
    kept(
        "PC-015",
        "Term and billing plan are never changed.",
        "Partner Center facts §6.15",
        "the whole resource goes back with the quantity changed",
        shown_by=(_ONE_FIELD,),
    ),
    kept(
        "PC-016",
        "No subscription is ever upgraded; a parent that a person upgraded is another SKU, and its children are refused.",
        "Partner Center facts §6.16",
        "the provider port has no upgrade; LS-011 compares the part numbers",
        message=Message.ASSOCIATE,
        columns=("part_number",),
        stage=Stage.PRE_VALIDATION,
    ),
    kept(
        "PC-017",
        "linksub attests nothing for a person: it orders nothing, and a missing attestation is the provider's no.",
        "Partner Center facts §6.17",
        "LS-052 holds what was never bought; a refusal is shown in the provider's words (LS-033)",
        remedy="let a person with the right role attest in Partner Center",
    ),
    kept(
        "PC-018",
        "A missing customer agreement or a full customer is the provider's final no, in its own words.",
        "Partner Center facts §6.18 (codes 13605, 800066, 900419)",
        "providers.partner_center.codes: these answers are final, and LS-033 writes them on the parent's log",
        severity=Severity.ERROR,
        remedy="have the customer accept the agreement in Partner Center, then set the parent's log to Awaiting",
        shown_by=(f"{_PUSHING}::test_every_listed_answer_is_raised_as_its_kind_and_is_not_sent_again",),
    ),
    kept(
        "PC-019",
        "All dates of the provider are UTC.",
        "Partner Center facts §6.19",
        "every instant inside linksub is aware and in UTC; local time exists in domain.calendar only",
        shown_by=("tests/unit/test_provider_resource.py::test_an_instant_is_read_in_every_printed_form",),
    ),
)
