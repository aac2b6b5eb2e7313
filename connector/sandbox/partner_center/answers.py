"""How Partner Center says no: the error schema and the codes that a quantity change can meet.

Source: Microsoft Partner Center developer documentation, "Error codes" and "API throttling guidance".
"""

from __future__ import annotations

from connector.sandbox.wire import Response, json_response

SOURCE = "PartnerFD"


class Refused(Exception):
    """The service refuses: HTTP status, its own code (mostly text, for some codes a number) and description."""

    def __init__(self, status: int, code: str | int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description

    def answer(self) -> Response:
        """The refusal on the wire."""
        payload: dict[str, object] = {"code": self.code, "description": self.description, "data": [], "source": SOURCE}
        return json_response(self.status, payload)


def invalid_property(what: str) -> Refused:
    """A malformed request."""
    return Refused(400, "3000", f"Invalid property: {what}")


def tenant_not_found(tenant: str) -> Refused:
    """No such customer."""
    return Refused(404, "60003", f"Tenant not found: {tenant}")


def no_relationship(tenant: str) -> Refused:
    """The customer left the partner."""
    return Refused(403, "20002", f"The partner has no commerce relationship with the customer ID {tenant}.")


def subscription_not_found(subscription_id: str) -> Refused:
    """No such subscription with this customer."""
    return Refused(404, "20003", f"Subscription with ID {subscription_id} not found.")


def cannot_decrease() -> Refused:
    """More seats are to go than may be given back now. The one code that the documentation prints as a number."""
    return Refused(400, 800090, "Subscription quantity cannot be decreased.")


def not_ready() -> Refused:
    """A renewal is under way."""
    return Refused(409, "800082", "Subscription is not ready to be updated. Try again after sometime")


def updated_too_often() -> Refused:
    """The life-time limit of updates of one subscription."""
    text = "This subscription has been updated too many times. Please contact partner support to make more updates."
    return Refused(400, "900311", text)


def not_emulated(method: str, path: str) -> Response:
    """A loud no to whatever the sandbox does not imitate."""
    text = f"The sandbox does not emulate {method} {path}; the real service may."
    return json_response(501, {"code": "0", "description": text, "data": [], "source": "sandbox"})
