"""Partner Center's answers that a quantity change can meet, by HTTP status and code.

Source of the codes: Microsoft's "Partner Center REST error codes". Meaning, remedy and kind are linksub's own words and
judgement. An empty code stands for an answer without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an answer means for the change that met it."""

    FINAL = "final"
    """A definite no; the same request will be refused again."""
    LATER = "later"
    """Definitely not done now; the same change may go through after a while."""
    REREAD = "re-read"
    """The subscription moved: read it again and decide again."""
    CONFIGURATION = "configuration"
    """Sign-in or permission of the application, the same for every customer."""


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One answer; ``wait`` is in seconds and only set for ``Kind.LATER``."""

    kind: Kind
    meaning: str
    remedy: str
    wait: float | None = None


_MINUTES = 120.0
_LONGER = 300.0
_DAY = 86_400.0


def _final(meaning: str, remedy: str) -> CodeRow:
    return CodeRow(Kind.FINAL, meaning, remedy)


def _later(wait: float, meaning: str, remedy: str = "linksub tries again by itself.") -> CodeRow:
    return CodeRow(Kind.LATER, meaning, remedy, wait)


def _reread(meaning: str) -> CodeRow:
    return CodeRow(Kind.REREAD, meaning, "linksub reads the subscription again and decides anew.")


def _sign_in(meaning: str, remedy: str) -> CodeRow:
    return CodeRow(Kind.CONFIGURATION, meaning, remedy)


_WINDOW = _final(
    "The window in which these seats could be given back has closed.",
    "Reduce at the renewal instead, or undo the decrease in the CRM.",
)
_SUSPENDED = _final(
    "The subscription is suspended, and a suspended subscription keeps its seat count.",
    "Reactivate it in Partner Center, then set the failed change back to Awaiting.",
)
_ENDED = _final(
    "The subscription has ended or is ending and takes no more changes.",
    "Buy a new subscription and link the parent to it.",
)
_UNAVAILABLE = _final(
    "The product or its original term is no longer open for seat changes.",
    "Look at the product's availability in Partner Center; a successor product may be needed.",
)
_CUSTOMER_LIMIT = _final(
    "The customer has reached a limit on the number of subscriptions.",
    "Remove subscriptions that are not needed, or ask Partner Center support to raise the limit.",
)
_REVIEW = _final(
    "Microsoft holds back transactions for this customer (risk check, review or lock).",
    "A person has to settle this in Partner Center or with its support; then set the change back to Awaiting.",
)
_CREDIT = _final(
    "The partner's credit with Microsoft does not cover this change.",
    "Settle the credit line with Microsoft, then set the change back to Awaiting.",
)
_PROGRAM = _final(
    "The partner or reseller is not in good standing in the programme (inactive, or agreement not signed).",
    "An administrator has to sign or reactivate it in Partner Center.",
)
_LEGACY_ITEM = _final(
    "Partner Center does not do this kind of change through the subscription.",
    "Make the change in Partner Center by hand.",
)
_ATTESTATION = _final(
    "Partner Center asks for an attestation that this subscription lacks.",
    "Confirm it in Partner Center, then set the change back to Awaiting.",
)
_TERM_DATE = _final(
    "The end date that the subscription carries is not accepted for its term.",
    "Look at the subscription's scheduled change and end date in Partner Center.",
)
_NEXT_TERM = _final(
    "The change scheduled for the next term names a product, term or billing cycle that is not allowed.",
    "Correct or remove the scheduled change in Partner Center.",
)
_CANCEL = _final("The subscription cannot be cancelled this way or any more.", "Turn off its renewal instead.")

CODES: dict[tuple[int, str], CodeRow] = {
    # Seats and limits
    (400, "800090"): _WINDOW,
    (400, "900214"): _WINDOW,
    (400, "900257"): _WINDOW,
    (400, "2002"): _final(
        "The new seat count is outside what the product allows.", "Compare it with the product's minimum and maximum."
    ),
    (400, "900275"): _final(
        "The new seat count is outside what the offer allows.", "Compare it with the offer's minimum and maximum."
    ),
    (403, "800067"): _final(
        "The new seat count is above the maximum of one subscription.", "Lower it, or buy a second subscription."
    ),
    (403, "800088"): _final(
        "The customer's seats of this product would go above the limit, which counts all of the customer's "
        "subscriptions with all partners.",
        "Ask for fewer seats, or move users to a product without that limit.",
    ),
    (403, "800089"): _CUSTOMER_LIMIT,
    (403, "800066"): _CUSTOMER_LIMIT,
    (400, "900419"): _CUSTOMER_LIMIT,
    (400, "800018"): _final(
        "The sandbox allows only a few customers, subscriptions and seats.", "Free some of them, or use fewer seats."
    ),
    (400, "900311"): _final(
        "This subscription was changed so often that Partner Center takes no further changes.",
        "Buy a second subscription with the same end date for further seats, or ask Partner Center support.",
    ),
    # What is being sold
    (400, "800017"): _UNAVAILABLE,
    (400, "800010"): _UNAVAILABLE,
    (403, "800027"): _UNAVAILABLE,
    (403, "800028"): _UNAVAILABLE,
    (400, "2006"): _UNAVAILABLE,
    (403, "2006"): _final(
        "The partner may not sell this offer.", "Check the offer's market and the partner's programme."
    ),
    (400, "800095"): _final(
        "This subscription's seats cannot be changed.", "Make the change in Partner Center by hand."
    ),
    (400, "800092"): _final(
        "Seats bought under Software Assurance cannot be increased.", "Buy further seats as a new subscription."
    ),
    (400, "2054"): _LEGACY_ITEM,
    (400, "800097"): _LEGACY_ITEM,
    # Life cycle
    (400, "2001"): _SUSPENDED,
    (400, "800091"): _SUSPENDED,
    (400, "800081"): _final(
        "The subscription was bought and is not activated yet.", "Activate it with its publisher, then try again."
    ),
    (400, "2011"): _ENDED,
    (400, "800012"): _ENDED,
    (400, "900277"): _ENDED,
    (400, "900279"): _ENDED,
    (400, "900280"): _final(
        "The subscription takes no changes at the moment.", "Look at it in Partner Center and try again later."
    ),
    (400, "800093"): _final(
        "The subscription may not renew by itself, yet it says that it does.", "Correct its renewal in Partner Center."
    ),
    (400, "800096"): _final(
        "The subscription's status cannot change this way.", "Look at its status in Partner Center."
    ),
    (400, "800040"): _final(
        "The subscription's status cannot change this way.", "Look at its status in Partner Center."
    ),
    (400, "900117"): _CANCEL,
    (400, "900213"): _CANCEL,
    (400, "800061"): _CANCEL,
    (400, "800063"): _CANCEL,
    (403, "800019"): _CANCEL,
    (403, "800077"): _CANCEL,
    # What the subscription carries for its next term
    **{(400, code): _TERM_DATE for code in ("900242", "900244", "900245", "900246")},
    **{
        (400, code): _NEXT_TERM
        for code in (
            *("900236", "900258", "900259", "900260", "900261", "900267", "900268", "900269", "900270"),
            *("800107", "800121", "800122"),
        )
    },
    (403, "900263"): _final(
        "Partner Center does not do this for subscriptions of the old commerce.", "Make the change by hand."
    ),
    # The customer and the partner
    (403, "13605"): _final(
        "The customer's acceptance of the Microsoft Customer Agreement is not on record.",
        "Confirm it in Partner Center, then set the change back to Awaiting.",
    ),
    (403, "20002"): _final(
        "The partner has no reseller relationship with this customer.",
        "Check the customer's tenant in its provider account, and the relationship in Partner Center.",
    ),
    (400, "900203"): _ATTESTATION,
    (400, "900206"): _ATTESTATION,
    (403, "800023"): _CREDIT,
    (400, "800025"): _CREDIT,
    (403, "900121"): _CREDIT,
    **{(403, code): _REVIEW for code in ("800069", "800073", "800074", "800075", "900416")},
    **{(403, code): _PROGRAM for code in ("800039", "900123", "900124", "900149")},
    # Not there
    (404, "20003"): _final(
        "Partner Center does not know this subscription under this customer.",
        "Check the parent's provider subscription id and the customer's tenant.",
    ),
    (404, "60003"): _final(
        "Partner Center does not know this customer tenant.", "Check the tenant in the customer's provider account."
    ),
    (404, "20000"): _final(
        "Partner Center does not know the subscription's order; a new order shows up to 15 minutes late.",
        "Try again in a quarter of an hour.",
    ),
    (404, "1000"): _final(
        "Partner Center does not know this resource.", "Check the parent's provider subscription id."
    ),
    # Busy
    (409, "800082"): _later(_MINUTES, "The subscription is being processed and is not ready for a change."),
    (409, ""): _later(_MINUTES, "The subscription is busy, as on its renewal day."),
    (409, "900278"): _later(_DAY, "An operation on the subscription is pending; Microsoft asks for 24 hours."),
    (409, "800014"): _later(_LONGER, "Another adjustment of the same order is pending."),
    (409, "800060"): _later(_LONGER, "The order is still in progress."),
    (409, "800064"): _later(_LONGER, "Another request is working on the same cart."),
    (409, "27009"): _final("The add-on's base subscription is not active.", "Activate the base first."),
    # Moved since it was read
    (400, "2055"): _reread("The subscription changed after it was read."),
    (412, ""): _reread("The subscription changed after it was read."),
    (417, "800036"): _reread("A precondition of the change does not hold any more."),
    # Sign-in and permission
    (401, "800001"): _sign_in("The request carried no token of the partner.", "Check the application's sign-in."),
    (401, "400"): _sign_in(
        "Partner Center refused the token.", "Check the application's registration in Partner Center."
    ),
    (401, "900420"): _sign_in(
        "The token was issued for an audience that Partner Center no longer accepts.",
        "Ask for a token for https://api.partnercenter.microsoft.com.",
    ),
    (401, "900421"): _sign_in(
        "The user's sign-in lacks multi-factor authentication.",
        "Consent again with multi-factor authentication, or use application-only sign-in.",
    ),
    (403, "900308"): _sign_in(
        "The application or user lacks privileges.", "Grant the role that Partner Center asks for."
    ),
    (403, "900309"): _sign_in("Conditional Access blocked the token.", "Exempt the application or meet the policy."),
    (403, "900329"): _sign_in(
        "This resource does not take application-only sign-in.", "Use application and user sign-in for it."
    ),
    (403, "2032"): _sign_in("Partner Center denied access.", "Check the application's permissions in Partner Center."),
    (403, "90000"): _sign_in("Microsoft Entra failed to issue a token.", "Look at the application's sign-in log."),
}
