"""Sign-in with Microsoft Entra through MSAL, and the only code that ever adds an Authorization header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import msal
import requests
from pydantic import SecretStr
from requests.auth import AuthBase

from connector.errors import AuthError, ConfigError, ProtocolError, Transient
from connector.http.counter import RequestCounter
from connector.http.origin import Origin
from connector.http.redaction import redact
from connector.http.retry import parse_retry_after, untrusted
from connector.sync.ports import Clock

_SERVICE = "sign_in"
_EARLY = timedelta(minutes=5)
_LONGEST_WAIT = 3600.0
_DEFAULT_WAIT = 5.0

_HINTS: Mapping[int, str] = {
    7000215: "The client secret is wrong: give the secret's value, not its id.",
    7000222: "The client secret has expired: create a new one for the app registration.",
    700016: "The application id is not known in this tenant: check client_id and tenant.",
    90002: "The tenant does not exist: check the tenant id.",
    900023: "The tenant is not a valid id or domain: check the tenant id.",
    700027: "The certificate is not the one that is registered for the application.",
    500011: "The scope's resource is not known in this tenant: check the service's base address.",
    65001: "Nobody has consented to the application's permissions: an administrator must.",
    53003: "A conditional access policy blocks the sign-in: except this application or its location.",
}


class TokenSource(Protocol):
    """Where bearer tokens come from. Thread-safe. Raises AuthError, ConfigError or Transient."""

    def token(self) -> str:
        """A token that is valid now."""

    def refresh(self) -> None:
        """Drop the cached token: the service refused it."""


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """An app registration's secret."""

    secret: SecretStr


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A PEM file that holds the private key and the certificate registered for the application."""

    path: Path
    passphrase: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """The identity of the machine: system-assigned, or the user-assigned one with this client id."""

    client_id: str | None = None


Credential = ClientSecret | ClientCertificate | ManagedIdentity


class BearerAuth(AuthBase):
    """Adds the token, and only to requests on the configured origin.

    An AuthBase rather than a header, because `requests` lets a ``.netrc`` entry replace a plain header.
    """

    def __init__(self, origin: Origin, tokens: TokenSource) -> None:
        self._origin = origin
        self._tokens = tokens

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Check the address once more, then sign. Raises ProtocolError for any other origin."""
        if not self._origin.contains(request.url or ""):
            raise ProtocolError(
                f"refused to send a token for {self._origin.service} to another address",
                service=self._origin.service,
                operation="sign request",
            )
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
        return request


class _NoAuth(AuthBase):
    """Keeps `requests` from looking into ``.netrc`` for the sign-in host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _SignInSession:
    """What MSAL sees as its HTTP client: the shared session, with time-outs, without redirects, and counted."""

    def __init__(self, session: requests.Session, counter: RequestCounter | None, *, https_only: bool) -> None:
        self._session = session
        self._counter = counter
        self._https_only = https_only
        self.status: int | None = None
        self.retry_after: str | None = None

    def get(self, url: str, **kwargs: Any) -> requests.Response:
        return self._ask("GET", url, "discovery" if self._https_only else "token", kwargs)

    def post(self, url: str, **kwargs: Any) -> requests.Response:
        return self._ask("POST", url, "token", kwargs)

    def close(self) -> None:
        """The session is shared; its owner closes it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def _ask(self, method: str, url: str, kind: str, kwargs: dict[str, Any]) -> requests.Response:
        if self._https_only and not url.startswith("https://"):
            raise ValueError("the sign-in service named an address that is not https")
        kwargs.setdefault("timeout", (10.0, 60.0))
        kwargs["verify"] = self._session.verify
        kwargs["allow_redirects"] = False
        kwargs["auth"] = _NoAuth()
        self.status = self.retry_after = None
        if self._counter is not None:
            self._counter.add(_SERVICE, kind)
        response = self._session.request(method, url, **kwargs)
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")
        return response


class MsalTokenSource:
    """App-only tokens for one resource, kept in memory only.

    ``authority`` is the cloud's sign-in base (``https://login.microsoftonline.com``), ``scope`` the resource with
    ``/.default``. ``validate_authority`` False is for private sign-in services: it leaves out Microsoft's instance
    discovery. The sign-in service's ``Retry-After`` is kept: until it has passed, :meth:`token` raises Transient
    without asking. MSAL itself is built anew for each sign-in (about once an hour), so that its own caches, which live by
    the machine's clock, cannot outlast ours.
    """

    def __init__(
        self,
        *,
        authority: str,
        tenant: str,
        client_id: str,
        credential: Credential,
        scope: str,
        http_client: requests.Session,
        clock: Clock,
        validate_authority: bool = True,
        counter: RequestCounter | None = None,
    ) -> None:
        self._authority = f"{authority.rstrip('/')}/{tenant}"
        self._client_id = client_id
        self._credential = credential
        self._scope = scope
        self._clock = clock
        self._validate = validate_authority
        self._http = _SignInSession(http_client, counter, https_only=not isinstance(credential, ManagedIdentity))
        self._lock = Lock()
        self._token: str | None = None
        self._expires_at: datetime | None = None
        self._not_before: datetime | None = None

    def token(self) -> str:
        """A token that is valid for some minutes yet. Raises AuthError, ConfigError or Transient."""
        with self._lock:
            now = self._clock.now()
            if self._token is not None and self._expires_at is not None and now < self._expires_at:
                return self._token
            self._token = None
            if self._not_before is not None and now < self._not_before:
                raise self._later("the sign-in service asked for a pause", (self._not_before - now).total_seconds())
            self._not_before = None
            result = self._sign_in()
            self._token = str(result["access_token"])
            lifetime = timedelta(seconds=_seconds(result.get("expires_in")))
            self._expires_at = self._clock.now() + (lifetime - _EARLY if lifetime > 2 * _EARLY else lifetime / 2)
            return self._token

    def refresh(self) -> None:
        """Drop the cached token."""
        with self._lock:
            self._token = None

    def _sign_in(self) -> dict[str, Any]:
        try:
            # A new application object each time: MSAL's caches of tokens and of error answers live in it.
            result = self._build()()
        except (ConfigError, AuthError):
            raise
        except requests.RequestException as error:
            if untrusted(error):
                raise AuthError(
                    "the certificate of the sign-in service is not trusted",
                    service=_SERVICE,
                    operation="token",
                    hint="Set ca_bundle to the PEM file of the authority that signs for your proxy or service.",
                ) from error
            raise self._later("the sign-in service cannot be reached", _DEFAULT_WAIT) from error
        except Exception as error:
            if self._http.status is not None and (self._http.status == 429 or self._http.status >= 500):
                raise self._throttled() from error
            raise AuthError(
                f"sign-in could not be started: {self._shown(str(error))}",
                service=_SERVICE,
                operation="token",
                status=self._http.status,
                hint="Check authority, tenant, client_id and the credential.",
            ) from None
        if "access_token" in result:
            return result
        if self._http.status == 429 or result.get("error") in ("temporarily_unavailable", "server_error"):
            raise self._throttled()
        codes = [code for code in result.get("error_codes") or () if isinstance(code, int)]
        hint = next((_HINTS[code] for code in codes if code in _HINTS), None)
        raise AuthError(
            f"sign-in was refused: {self._shown(str(result.get('error_description') or result.get('error')))}",
            service=_SERVICE,
            operation="token",
            status=self._http.status,
            code=str(codes[0]) if codes else self._shown(str(result.get("error") or "none")),
            correlation_id=self._id(result.get("correlation_id")),
            request_id=self._id(result.get("trace_id")),
            hint=hint or "Check tenant, client_id and the credential of this application.",
        )

    def _build(self) -> Callable[[], dict[str, Any]]:
        credential = self._credential
        if isinstance(credential, ManagedIdentity):
            identity = (
                msal.SystemAssignedManagedIdentity()
                if credential.client_id is None
                else msal.UserAssignedManagedIdentity(client_id=credential.client_id)
            )
            machine = msal.ManagedIdentityClient(identity, http_client=self._http)
            resource = self._scope.removesuffix("/.default")
            return lambda: dict(machine.acquire_token_for_client(resource=resource))
        app = msal.ConfidentialClientApplication(
            self._client_id,
            client_credential=self._client_credential(credential),
            authority=self._authority,
            http_client=self._http,
            instance_discovery=None if self._validate else False,
        )
        return lambda: dict(app.acquire_token_for_client(scopes=[self._scope]))

    @staticmethod
    def _client_credential(credential: ClientSecret | ClientCertificate) -> str | dict[str, str]:
        if isinstance(credential, ClientSecret):
            return credential.secret.get_secret_value()
        try:
            pem = credential.path.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the certificate file {credential.path} cannot be read: {type(error).__name__}",
                hint="Give the path of a PEM file with the private key and the certificate, readable by this user.",
            ) from error
        if "PRIVATE KEY-----" not in pem or "BEGIN CERTIFICATE-----" not in pem:
            raise ConfigError(
                f"the certificate file {credential.path} lacks the private key or the certificate",
                hint="Put both blocks (BEGIN PRIVATE KEY, BEGIN CERTIFICATE) into one PEM file.",
            )
        parts = {"private_key": pem, "public_certificate": pem[pem.index("-----BEGIN CERTIFICATE-----") :]}
        if credential.passphrase is not None:
            parts["passphrase"] = credential.passphrase.get_secret_value()
        return parts

    def _throttled(self) -> Transient:
        asked = parse_retry_after(self._http.retry_after, self._clock.now(), _LONGEST_WAIT)
        return self._later("the sign-in service is busy", _DEFAULT_WAIT if asked is None else asked)

    def _later(self, why: str, seconds: float) -> Transient:
        self._not_before = self._clock.now() + timedelta(seconds=seconds)
        return Transient(
            why,
            service=_SERVICE,
            operation="token",
            status=self._http.status,
            retry_after=seconds,
            hint="Try again later.",
        )

    def _id(self, value: object) -> str | None:
        return self._shown(value) if isinstance(value, str) else None

    def _shown(self, text: str) -> str:
        first = text.splitlines()[0] if text else "no reason given"
        if isinstance(self._credential, ClientSecret):
            secret = self._credential.secret.get_secret_value()
            first = first.replace(secret, "***") if secret else first
        return redact(first)[:400]


def _seconds(value: object) -> float:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0
