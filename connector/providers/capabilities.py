"""What a provider can do and who fulfils its changes: what a plug-in declares about itself."""

from __future__ import annotations

from enum import StrEnum

from connector.domain.model import Capabilities

__all__ = ["Capabilities", "FulfilledBy"]


class FulfilledBy(StrEnum):
    """Who carries a change out at a provider."""

    NOBODY = "nobody"
    """Do Nothing: there is no far side, so a change is never sent anywhere."""
    PERSON = "person"
    """Manual: a person orders the seats and then says so in the CRM."""
    LINKED_PARENT = "linked_parent"
    """Linked: the far side is another subscription, the family's parent."""
    ADAPTER = "adapter"
    """An adapter of linksub talks to the provider."""
    UNSUPPORTED = "unsupported"
    """The CRM knows this provider and linksub does not serve it: families with it are held for a person."""
