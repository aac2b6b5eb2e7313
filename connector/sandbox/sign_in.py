"""A sign-in service that MSAL accepts: OpenID discovery and the token endpoints of one tenant.

Shapes: Microsoft identity platform, "OAuth 2.0 client credentials flow" and "error codes" (AADSTS numbers).
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

from connector.sandbox.wire import Request, Response, json_response

LIFETIME = timedelta(seconds=3599)


@dataclass(frozen=True, slots=True)
class _Token:
    audience: str
    expires: datetime


class SignInService:
    """Issues and checks bearer tokens; they are random, bound to one audience and expire by the sandbox's clock.

    ``audiences`` maps an API (``dataverse``, ``partner_center``) to the resource URLs under which clients may ask for
    a token. ``refusals`` makes a good token useless for an API: ``not_a_member`` (no application user in the
    environment), ``disabled`` (there is one, switched off) or ``no_privilege:<name>`` (its role lacks a privilege).
    """

    def __init__(self, now: Callable[[], datetime], *, tenant: str, client_id: str, client_secret: str) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._refresh_tokens: dict[str, str] = {}
        self.tenant = tenant
        self.client_id = client_id
        self.client_secret = client_secret
        self.audiences: dict[str, set[str]] = {
            "dataverse": set(),
            "partner_center": {"https://api.partnercenter.microsoft.com"},
        }
        self.refusals: dict[str, str] = {}

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        parts = [part for part in request.path.split("/") if part]
        if not parts:
            return json_response(404, {"error": "not_found"})
        tenant, rest = parts[0], "/".join(parts[1:])
        if rest.endswith(".well-known/openid-configuration") and request.method == "GET":
            return self._discovery(request, tenant, "v2.0" if rest.startswith("v2.0/") else "")
        if rest in ("oauth2/v2.0/token", "oauth2/token") and request.method == "POST":
            return self._token(request, tenant)
        if rest.endswith("discovery/instance"):
            return self._instances(request, tenant)
        if rest.endswith("discovery/v2.0/keys"):
            return json_response(200, {"keys": []})
        return json_response(501, {"error": "not_emulated", "error_description": f"{request.method} {request.path}"})

    def issue(self, api: str) -> str:
        """A fresh token for an API, for tests that do not go through the token endpoint. Raises KeyError."""
        audience = sorted(self.audiences[api])[0] if self.audiences[api] else api
        return self._issue(audience)

    def authorize(self, api: str, authorization: str | None) -> str:
        """Judge an ``Authorization`` header: ``ok``, ``missing``, ``expired``, ``wrong_audience`` or a refusal."""
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not value.strip():
            return "missing"
        token = self._tokens.get(value.strip())
        if token is None or token.expires <= self._now():
            return "expired"
        if token.audience not in self.audiences.get(api, ()) and token.audience != api:
            return "wrong_audience"
        return self.refusals.get(api, "ok")

    def revoke_all(self) -> None:
        """Make every token that is out there useless (a rotated secret, a revoked consent)."""
        with self._lock:
            self._tokens.clear()
            self._refresh_tokens.clear()

    def _discovery(self, request: Request, tenant: str, version: str) -> Response:
        if not self._knows(tenant):
            return _refused(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.", self._now())
        base = f"{request.origin}/{tenant}"
        return json_response(
            200,
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "issuer": f"{base}/{version}" if version else base,
                "tenant_region_scope": "WW",
                "cloud_instance_name": "microsoftonline.com",
                "response_types_supported": ["code", "id_token", "token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            },
        )

    def _instances(self, request: Request, tenant: str) -> Response:
        host = request.origin.partition("://")[2]
        return json_response(
            200,
            {
                "tenant_discovery_endpoint": f"{request.origin}/{self.tenant}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            },
        )

    def _token(self, request: Request, tenant: str) -> Response:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        now = self._now()
        if not self._knows(tenant):
            return _refused(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.", now)
        client, secret = form.get("client_id"), form.get("client_secret")
        if client is None and (basic := _basic(request.header("authorization"))) is not None:
            client, secret = basic
        if client is None:
            return _refused(400, "invalid_request", 900144, "The request body must contain 'client_id'.", now)
        if client.lower() != self.client_id.lower():
            text = f"Application with identifier '{client}' was not found in the directory."
            return _refused(400, "unauthorized_client", 700016, text, now)
        if secret is None:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            return _refused(401, "invalid_client", 7000218, text, now)
        if not secrets.compare_digest(secret.encode("utf-8"), self.client_secret.encode("utf-8")):
            return _refused(401, "invalid_client", 7000215, "Invalid client secret provided.", now)
        return self._grant(form, v2=request.path.rstrip("/").endswith("/v2.0/token"))

    def _grant(self, form: dict[str, str], *, v2: bool) -> Response:
        now = self._now()
        grant = form.get("grant_type")
        if grant not in ("client_credentials", "refresh_token"):
            text = f"The app requested an unsupported grant type '{grant}'."
            return _refused(400, "unsupported_grant_type", 70003, text, now)
        if grant == "refresh_token" and form.get("refresh_token") not in self._refresh_tokens:
            return _refused(400, "invalid_grant", 9002313, "The refresh token is malformed or invalid.", now)
        wanted = _resource(form.get("scope", "") if v2 else form.get("resource", ""))
        if wanted is None:
            text = "The request body must contain the following parameter: " + ("'scope'." if v2 else "'resource'.")
            return _refused(400, "invalid_request", 900144, text, now)
        known = {audience for group in self.audiences.values() for audience in group}
        if wanted not in known:
            text = f"The resource principal named {wanted} was not found in the tenant."
            return _refused(400, "invalid_resource", 500011, text, now)
        payload: dict[str, object] = {
            "token_type": "Bearer",
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "access_token": self._issue(wanted),
        }
        if not v2:
            payload |= {
                "expires_in": "3599",
                "ext_expires_in": "3599",
                "expires_on": str(int((now + LIFETIME).timestamp())),
                "resource": wanted,
            }
        if grant == "refresh_token":
            payload["refresh_token"] = self.issue_refresh_token()
        return json_response(200, payload, ("Cache-Control", "no-store, no-cache"))

    def issue_refresh_token(self) -> str:
        """A refresh token as a person's consent would have given it."""
        value = secrets.token_urlsafe(48)
        with self._lock:
            self._refresh_tokens[value] = self.client_id
        return value

    def _issue(self, audience: str) -> str:
        expires = self._now() + LIFETIME
        head = _segment({"typ": "JWT", "alg": "RS256"})
        until = int(expires.timestamp())
        claims = _segment({"aud": audience, "tid": self.tenant, "appid": self.client_id, "exp": until})
        value = f"{head}.{claims}.{secrets.token_urlsafe(32)}"
        with self._lock:
            self._tokens[value] = _Token(audience, expires)
        return value

    def _knows(self, tenant: str) -> bool:
        return tenant.lower() == self.tenant.lower()


def _segment(payload: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(payload).encode("utf-8")).rstrip(b"=").decode("ascii")


def _resource(scope: str) -> str | None:
    for word in scope.split():
        if word.startswith("https://"):
            return word.removesuffix("/.default").removesuffix("/user_impersonation").rstrip("/")
    return None


def _basic(header: str | None) -> tuple[str, str] | None:
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (ValueError, UnicodeDecodeError):
        return None
    return client, secret


def _refused(status: int, error: str, number: int, text: str, now: datetime) -> Response:
    trace = str(uuid.uuid4())
    return json_response(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{number}: {text} Trace ID: {trace}",
            "error_codes": [number],
            "timestamp": now.strftime("%Y-%m-%d %H:%M:%SZ"),
            "trace_id": trace,
            "correlation_id": str(uuid.uuid4()),
        },
    )
