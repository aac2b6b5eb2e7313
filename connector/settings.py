"""The configuration as frozen records: every key, its bounds and its default. ``config.example.yaml`` explains them.

Times are time spans (``30s``, ``5m``, ``2h``, ``7d``), every URL is https, every path is relative to the configuration
file, and every secret is a reference.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationInfo, model_validator

from connector.domain.model import ParentLog
from connector.domain.policy import Policy
from connector.secret_ref import BY_REFERENCE, SecretRef, parse_secret_ref

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: object) -> timedelta:
    """``30s``, ``5m``, ``2h`` or ``7d`` → a time span. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,6}) ?([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time span; write a whole number and a unit: 30s, 5m, 2h or 7d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_database_url(value: object, base: Path | None = None) -> SecretRef:
    """A PostgreSQL URL without a password, or a reference to a whole URL. Raises ValueError."""
    if not isinstance(value, str) or value.startswith(("env:", "file:", "keyvault:")):
        return parse_secret_ref(value, base)
    parts = urlsplit(value)
    if parts.scheme not in ("postgresql", "postgresql+psycopg") or not parts.hostname:
        raise ValueError("not a PostgreSQL URL; write postgresql+psycopg://HOST/DATABASE, or env:NAME that holds it")
    if parts.password is not None or "password" in parts.query:
        raise ValueError(f"holds a password; {BY_REFERENCE}")
    return SecretRef("plain", value)


def parse_https_url(value: object) -> str:
    """An https origin, optionally with a path; no trailing slash. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a URL; write https://HOST")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError("not a URL; write https://HOST") from error
    if parts.scheme != "https":
        raise ValueError("must start with https://; nothing is ever sent unencrypted")
    if not re.fullmatch(r"[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\]", parts.netloc.removesuffix(f":{port}")):
        raise ValueError("must be https://HOST or https://HOST:PORT, without a user name, spaces or other signs")
    if parts.query or parts.fragment or "\\" in value or ".." in parts.path or value != value.strip():
        raise ValueError("must be https://HOST, without a query, a fragment or '..'")
    if "/api/" in f"{parts.path}/":
        raise ValueError("must be the address of the service only; linksub adds /api/... itself")
    return value.rstrip("/")


def _yes_or_no(value: object) -> object:
    """``yes`` and ``no``, which YAML may read as true and false."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("yes", "no"):
        return value.strip().lower() == "yes"
    raise ValueError("must be yes, no or null")


def _base(info: ValidationInfo) -> Path | None:
    """Where relative paths start: the directory of the configuration file, wherever linksub is started."""
    base = (info.context or {}).get("base")
    return base if isinstance(base, Path) else None


def _secret(value: object, info: ValidationInfo) -> SecretRef:
    return parse_secret_ref(value, _base(info))


def _database_url(value: object, info: ValidationInfo) -> SecretRef:
    return value if isinstance(value, SecretRef) else parse_database_url(value, _base(info))


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("not a path; write it in quotes if it looks like a number")
    path = Path(value).expanduser()
    base = _base(info)
    return path if base is None else base / path


def _existing(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if info.context is not None and not path.is_file():
        raise ValueError(f"no such file: {path}")
    return path


def _mapping(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("write the name of a mapping that ships (work365), or the path of a mapping file")
    if "/" in value or "\\" in value or value.endswith((".yaml", ".yml")):
        return str(_existing(value, info))
    return value


def _wall_clock(value: object) -> object:
    """A bare number would be read as seconds after midnight: refuse it instead of provisioning at 00:38."""
    for key in ("increase_time", "decrease_time"):
        if isinstance(value, Mapping) and isinstance(value.get(key), int | float):
            raise ValueError(f"{key} is a clock time; write it as 23:30")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Secret = Annotated[SecretRef, BeforeValidator(_secret)]
DatabaseUrl = Annotated[SecretRef, BeforeValidator(_database_url)]
HttpsUrl = Annotated[str, BeforeValidator(parse_https_url)]
ConfigPath = Annotated[Path, BeforeValidator(_path)]
ExistingFile = Annotated[Path, BeforeValidator(_existing)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class DataverseSection(_Section):
    """Where the CRM is."""

    url: HttpsUrl
    """The address of the environment, such as https://contoso.crm4.dynamics.com."""
    api_version: Annotated[str, Field(pattern=r"^v9\.[0-9]$")] = "v9.2"
    """Version of the Web API, such as v9.2."""


class PartnerCenterSection(_Section):
    """Where Partner Center is."""

    url: HttpsUrl = "https://api.partnercenter.microsoft.com"
    """The address of the Partner Center API."""


class Certificate(_Section):
    """A certificate with its private key."""

    path: ExistingFile
    """PEM file with the private key and the certificate."""
    passphrase: Secret | None = None
    """Reference to the passphrase of the private key, if it has one."""


class PartnerCenterIdentity(_Section):
    """Another identity for Partner Center; what is not given is taken from ``sign_in``."""

    tenant_id: Identifier | None = None
    """The partner's own tenant at Microsoft, if it is not the CRM's."""
    client_id: Identifier | None = None
    """Application (client) id that is registered in Partner Center."""
    client_secret: Secret | None = None
    """Reference to that application's secret."""
    scope: str | None = None
    """What to ask a token for; by default the address of Partner Center followed by /.default."""


class SignInSection(_Section):
    """How linksub signs in: exactly one of client_secret, certificate and managed_identity."""

    authority: HttpsUrl = "https://login.microsoftonline.com"
    """The sign-in service."""
    tenant_id: Identifier
    """The directory (tenant) id or a domain name of the tenant."""
    client_id: Identifier | None = None
    """Application (client) id; not needed for a system-assigned managed identity."""
    client_secret: Secret | None = None
    """Reference to the application's secret."""
    certificate: Certificate | None = None
    """A certificate instead of a secret."""
    managed_identity: bool = False
    """Use the identity that Azure gives the machine."""
    validate_authority: bool = True
    """False only for a sign-in service that is not Microsoft's, such as the sandbox."""
    partner_center: PartnerCenterIdentity | None = None
    """Another identity for Partner Center."""

    @model_validator(mode="after")
    def _one_credential(self) -> SignInSection:
        if problems := credential_problems(self.model_dump()):
            raise ValueError(" | ".join(problems))
        return self


class StateSection(_Section):
    """Where linksub keeps its journal."""

    directory: ConfigPath = Field(default=Path(".linksub"), validate_default=True)
    """Directory of the journal and the lock."""
    url: DatabaseUrl | None = None
    """A PostgreSQL database for several machines, or a reference to its URL; null uses the directory."""


class HttpSection(_Section):
    """The transport's limits."""

    ca_bundle: ExistingFile | None = None
    """PEM file with the certificate authorities to trust; null trusts the usual ones."""
    connect_timeout: Duration = timedelta(seconds=10)
    """How long to wait for a connection, such as 10s."""
    read_timeout: Duration = timedelta(seconds=60)
    """How long to wait for an answer, such as 60s."""
    max_response_mb: Annotated[int, Field(ge=1, le=1024)] = 64
    """The largest answer that is accepted, in megabytes."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 5
    """How often a request that may be repeated is sent at most."""
    dataverse_parallel: Annotated[int, Field(ge=1, le=52)] = 8
    """The most requests to Dataverse at the same time."""
    partner_center_per_minute: Annotated[int, Field(ge=1, le=6000)] = 450
    """The most requests to Partner Center per minute."""


class RunSection(_Section):
    """One run."""

    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """How many families are worked on at the same time."""
    deadline: Duration = timedelta(minutes=30)
    """After this no further family is started."""
    lease: Duration = timedelta(minutes=10)
    """How long one family stays reserved for one run; longer than the slowest request."""
    report_directory: ConfigPath | None = None
    """Where each run leaves its report; null writes none."""


class Work365Section(_Section):
    """What this organisation's Work 365 does by itself. Nothing public says so; null: it is observed, as far as it can."""

    parent_log: Annotated[ParentLog | None, Field(strict=False)] = None
    """The log of a parent whose quantity the API writes: makes, late, not_applicable or none; null observes it once."""
    pushes: Annotated[bool | None, BeforeValidator(_yes_or_no)] = None
    """Whether Work 365's own engine raises parents when a child changes: yes or no; null if you do not know."""


class LogSection(_Section):
    """What is logged (to stderr)."""

    format: Literal["text", "json"] = "text"
    """text for people, json for machines."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe kind of line to write."""


class Config(_Section):
    """The whole configuration."""

    schema_version: Literal[1] = 1
    """Version of this file's form."""
    dataverse: DataverseSection
    """The CRM; at least its url."""
    partner_center: PartnerCenterSection = PartnerCenterSection()
    """Partner Center."""
    sign_in: SignInSection
    """The identity; at least tenant_id and one credential."""
    mapping: Annotated[str, BeforeValidator(_mapping)] = "work365"
    """Name of a mapping that ships, or path of a mapping file."""
    state: StateSection = StateSection()
    """The journal."""
    http: HttpSection = HttpSection()
    """The transport."""
    run: RunSection = RunSection()
    """One run."""
    log: LogSection = LogSection()
    """Logging."""
    work365: Work365Section = Work365Section()
    """What this organisation's Work 365 does by itself."""
    policy: Annotated[Policy, BeforeValidator(_wall_clock)] = Policy()
    """What linksub may do."""

    _source: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _lease_outlives_a_request(self) -> Config:
        if self.run.lease <= self.http.read_timeout:
            raise ValueError(
                "run.lease must be longer than http.read_timeout, or a family is given away in mid-request"
            )
        return self

    @property
    def source(self) -> Path | None:
        """The file that this was read from, if it was."""
        return self._source

    def read_from(self, path: Path) -> Config:
        """The same configuration, knowing its file."""
        copy = self.model_copy()
        copy._source = path
        return copy

    def digest(self) -> str:
        """SHA-256 (hex) over :meth:`decisive`. A mapping's *content* has a digest of its own."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def decisive(self) -> dict[str, Any]:
        """What decisions depend on: targets, mapping's name and policy; not logging or paths, so the same everywhere."""
        return {
            "schema_version": self.schema_version,
            "dataverse": self.dataverse.model_dump(mode="json"),
            "partner_center": self.partner_center.model_dump(mode="json"),
            "mapping": Path(self.mapping).name,
            "work365": self.work365.model_dump(mode="json"),
            "policy": self.policy.model_dump(mode="json"),
        }


def credential_problems(sign_in: Mapping[str, Any]) -> list[str]:
    """What is wrong with the choice of credential. Takes the keys as they stand in the file."""
    problems = []
    given = [key for key in ("client_secret", "certificate", "managed_identity") if sign_in.get(key)]
    if not given:
        problems.append("names no credential; give one of client_secret, certificate or managed_identity")
    if len(given) > 1:
        problems.append(f"names more than one credential ({', '.join(given)}); keep one")
    if given != ["managed_identity"] and not sign_in.get("client_id"):
        problems.append("has no client_id; it is the application (client) id of the app registration")
    other = sign_in.get("partner_center")
    if isinstance(other, Mapping) and other.get("client_id") and not other.get("client_secret"):
        problems.append("names another client_id for partner_center without its client_secret; give both")
    return problems
