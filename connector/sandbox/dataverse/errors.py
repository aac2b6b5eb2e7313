"""What the Dataverse Web API answers when it does not do what was asked.

Statuses, codes and wordings: Microsoft's "Compose HTTP requests and handle errors", "Web service error codes",
"Dataverse Web API client errors" and "Service protection API limits".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connector.sandbox.schema import InvalidValue, Table
from connector.sandbox.store import DuplicateId, DuplicateKey, PluginError, RowMissing

URI_ERROR = "0x80060888"
PAYLOAD_ERROR = "0x80048d19"
INVALID_ARGUMENT = "0x80040203"
_HELP = (
    "For more information on this error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293"
)


class ODataError(Exception):
    """An error answer: HTTP status, service code (``0x…``, sometimes empty or ``0x0``), message, extra headers."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[str, str], plugin: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        self.plugin = plugin


def not_emulated(what: str) -> ODataError:
    """The loud refusal of anything that this sandbox does not do."""
    return ODataError(501, "0x80040800", f"The sandbox does not emulate {what}.")


def bad_uri(message: str) -> ODataError:
    """400 for a query that cannot be understood or is not allowed."""
    return ODataError(400, URI_ERROR, message)


def bad_payload(table: str, reason: str) -> ODataError:
    """400 for a body that cannot be read as what it should be."""
    where = f"Error identified in Payload provided by the user for Entity :'{table}'"
    return ODataError(400, PAYLOAD_ERROR, f"{where}, {_HELP}  ---->  InnerException : {reason}")


def no_property(name: str, table: str) -> ODataError:
    """400 for a column or navigation property that the table does not have (names are case-sensitive)."""
    return ODataError(400, "0x0", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def no_segment(segment: str) -> ODataError:
    """404 for an entity set, function or table that does not exist."""
    return ODataError(404, "0x8006088a", f"Resource not found for the segment '{segment}'.")


def no_resource(address: str) -> ODataError:
    """404 for a method and address that nothing listens to; its code is empty."""
    return ODataError(404, "", f"No HTTP resource was found that matches the request URI '{address}'.")


def no_row(table: str, row_id: str, *, entity: bool = False) -> ODataError:
    """404 for a row that does not exist; reading and deleting word it with the kind in front."""
    name = f"Entity '{table}'" if entity else table
    return ODataError(404, "0x80040217", f"{name} With Id = {row_id} Does Not Exist")


def version_mismatch() -> ODataError:
    """412: the row moved since the caller read it."""
    return ODataError(
        412, "0x80060882", "The version of the existing record doesn't match the RowVersion property provided."
    )


def exists_already() -> ODataError:
    """412 for ``If-None-Match: *`` on a row that exists."""
    return ODataError(412, "0x80040237", "A record with matching key values already exists.")


def missing_privilege(privilege: str, user: str, table: Table | None = None) -> ODataError:
    """403: the application user's roles lack a privilege."""
    where = f" on OTC={table.number} for entity '{table.name}'" if table else ""
    return ODataError(
        403,
        "0x80040220",
        f"Principal user (Id={user}, type=8, roleCount=1, privilegeCount=4, accessMode=4) is missing {privilege} "
        f"privilege{where}.",
    )


@contextmanager
def as_answers(table: Table) -> Iterator[None]:
    """Turn what the store refuses into the answers that the service gives."""
    try:
        yield
    except RowMissing as missing:
        raise no_row(missing.table, missing.row_id) from missing
    except DuplicateId as duplicate:
        raise ODataError(412, "0x80040237", "Cannot insert duplicate key.") from duplicate
    except DuplicateKey as duplicate:
        names = ", ".join(table.columns[column].schema_name for column in duplicate.columns)
        raise ODataError(
            412,
            "0x80060892",
            f"Entity Key {names} violated. A record with the same value for {names} already exists. "
            "A duplicate record cannot be created. Select one or more unique values and try again.",
        ) from duplicate
    except InvalidValue as invalid:
        raise ODataError(400, invalid.code, str(invalid)) from invalid
    except PluginError as refused:
        raise ODataError(400, refused.code, str(refused), plugin=True) from refused
