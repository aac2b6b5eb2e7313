"""The emulated Dataverse Web API, made from Microsoft's documentation and checked with Microsoft's Python client."""

from connector.sandbox.dataverse.context import DataverseOptions
from connector.sandbox.dataverse.service import DataverseService

__all__ = ["DataverseOptions", "DataverseService"]
