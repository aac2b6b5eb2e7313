from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from pydantic import SecretStr

from connector.errors import AuthError, ConfigError, ProtocolError, Transient
from connector.http.auth import (
    BearerAuth,
    ClientCertificate,
    ClientSecret,
    Credential,
    ManagedIdentity,
    MsalTokenSource,
)
from connector.http.counter import RequestCounter
from connector.http.origin import Origin
from connector.http.session import make_session
from tests.contract.http_fakes import API, ORG, FakeClock

LOGIN = "https://login.example"
TENANT = "11111111-1111-4111-8111-111111111111"
TOKEN_URL = f"{LOGIN}/{TENANT}/oauth2/v2.0/token"
SECRET = "s3cret-value-never-shown"


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as active:
        active.get(
            f"{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration",
            json={
                "authorization_endpoint": f"{LOGIN}/{TENANT}/oauth2/v2.0/authorize",
                "token_endpoint": TOKEN_URL,
                "issuer": f"{LOGIN}/{TENANT}/v2.0",
            },
        )
        yield active


def source(clock: FakeClock, credential: Credential | None = None, **more: Any) -> MsalTokenSource:
    return MsalTokenSource(
        authority=LOGIN,
        tenant=TENANT,
        client_id="22222222-2222-4222-8222-222222222222",
        credential=credential or ClientSecret(SecretStr(SECRET)),
        scope=f"{ORG}/.default",
        http_client=make_session(),
        clock=clock,
        validate_authority=False,
        **more,
    )


def grant(mock: responses.RequestsMock, token: str = "the-token") -> None:
    mock.post(TOKEN_URL, json={"access_token": token, "expires_in": 3599, "token_type": "Bearer"})


def posts(mock: responses.RequestsMock) -> list[requests.PreparedRequest]:
    return [call.request for call in mock.calls if call.request.method == "POST"]


def test_a_token_is_asked_for_once_and_kept_until_it_is_old(mock: responses.RequestsMock) -> None:
    clock, counter = FakeClock(), RequestCounter()
    grant(mock)
    tokens = source(clock, counter=counter)
    assert not mock.calls
    assert tokens.token() == tokens.token() == "the-token"
    assert len(posts(mock)) == 1
    clock.time += timedelta(minutes=54)
    assert tokens.token() and len(posts(mock)) == 1
    clock.time += timedelta(minutes=2)
    assert tokens.token() and len(posts(mock)) == 2
    assert counter.counts()[("sign_in", "token")] == 2


def test_a_refused_token_is_dropped_and_asked_for_afresh(mock: responses.RequestsMock) -> None:
    grant(mock, "old")
    grant(mock, "new")
    tokens = source(FakeClock())
    assert tokens.token() == "old"
    tokens.refresh()
    assert tokens.token() == "new"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (7000215, "secret is wrong"),
        (7000222, "expired"),
        (700016, "application id"),
        (90002, "tenant"),
        (1, "Check tenant"),
    ],
)
def test_a_refused_sign_in_says_what_to_do_and_never_the_secret(
    mock: responses.RequestsMock, code: int, hint: str
) -> None:
    mock.post(
        TOKEN_URL,
        status=401,
        json={
            "error": "invalid_client",
            "error_description": f"AADSTS{code}: Invalid client secret {SECRET} provided.\r\nTrace ID: x",
            "error_codes": [code],
            "trace_id": "trace-1",
            "correlation_id": "corr-1",
        },
    )
    with pytest.raises(AuthError) as caught:
        source(FakeClock()).token()
    assert hint in str(caught.value.hint)
    assert f"AADSTS{code}" in str(caught.value)
    assert (caught.value.code, caught.value.correlation_id, caught.value.request_id) == (str(code), "corr-1", "trace-1")
    assert SECRET not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_sign_in_service_is_left_alone_as_long_as_it_asks(mock: responses.RequestsMock, status: int) -> None:
    clock = FakeClock()
    mock.post(TOKEN_URL, status=status, json={"error": "temporarily_unavailable"}, headers={"Retry-After": "40"})
    grant(mock)
    tokens = source(clock)
    with pytest.raises(Transient) as caught:
        tokens.token()
    assert caught.value.retry_after == 40
    clock.time += timedelta(seconds=15)
    with pytest.raises(Transient) as again:
        tokens.token()
    assert again.value.retry_after == 25
    assert len(posts(mock)) == 1
    clock.time += timedelta(seconds=26)
    assert tokens.token() == "the-token"


def test_a_sign_in_service_that_cannot_be_reached_is_transient(mock: responses.RequestsMock) -> None:
    mock.post(TOKEN_URL, body=requests.ConnectionError("no route"))
    with pytest.raises(Transient):
        source(FakeClock()).token()


def test_a_tenant_that_does_not_exist_is_a_sign_in_error() -> None:
    with responses.RequestsMock() as active:
        active.get(re.compile(re.escape(LOGIN)), status=400, json={"error": "invalid_tenant"})
        with pytest.raises(AuthError, match="could not be started"):
            source(FakeClock()).token()


def test_sign_in_ignores_netrc(mock: responses.RequestsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine login.example login eve password mallory\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    grant(mock)
    source(FakeClock()).token()
    assert all("Authorization" not in call.request.headers for call in mock.calls)


def test_a_certificate_file_that_is_missing_or_incomplete_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        source(FakeClock(), ClientCertificate(tmp_path / "none.pem")).token()
    half = tmp_path / "half.pem"
    half.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="lacks the private key"):
        source(FakeClock(), ClientCertificate(half)).token()


@pytest.mark.parametrize("passphrase", [None, "pass-phrase"])
def test_a_certificate_signs_an_assertion_instead_of_sending_a_secret(
    mock: responses.RequestsMock, tmp_path: Path, passphrase: str | None
) -> None:
    grant(mock)
    path = tmp_path / "app.pem"
    path.write_bytes(_certificate(passphrase))
    secret = SecretStr(passphrase) if passphrase else None
    assert source(FakeClock(), ClientCertificate(path, secret)).token() == "the-token"
    body = str(posts(mock)[0].body)
    assert "client_assertion=" in body and "client_secret" not in body


def test_a_managed_identity_asks_the_machine_for_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "IMDS_ENDPOINT", "AZUREPS_HOST_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    with responses.RequestsMock() as active:
        active.get(
            re.compile(r"http://169\.254\.169\.254/metadata/identity/oauth2/token.*"),
            json={"access_token": "machine", "expires_in": "86399", "resource": ORG, "token_type": "Bearer"},
        )
        counter = RequestCounter()
        assert (
            source(FakeClock(), ManagedIdentity("33333333-3333-4333-8333-333333333333"), counter=counter).token()
            == "machine"
        )
        assert "resource=https%3A%2F%2Fcontoso.crm.dynamics.com&" in f"{active.calls[0].request.url}&"
        assert "client_id=33333333" in str(active.calls[0].request.url)
        assert counter.total("sign_in") == 1


def test_the_token_is_added_to_the_configured_origin_only() -> None:
    class Tokens:
        def token(self) -> str:
            return "the-token"

        def refresh(self) -> None:
            pass

    auth = BearerAuth(Origin(API), Tokens())
    own = requests.Request("GET", f"{API}/accounts").prepare()
    assert auth(own).headers["Authorization"] == "Bearer the-token"
    for url in ("https://contoso.crm.dynamics.com.evil.example/api/data/v9.2/x", f"{ORG}/api/data/v9.1/x"):
        other = requests.Request("GET", url).prepare()
        with pytest.raises(ProtocolError):
            auth(other)
        assert "Authorization" not in other.headers


def _certificate(passphrase: str | None) -> bytes:
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "linksub")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem + certificate.public_bytes(serialization.Encoding.PEM)
