"""Real MSAL signs in at the sandbox over TLS, and is refused as the real service would refuse it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import msal
import pytest
import requests

from connector.sandbox.app import Sandbox
from connector.sandbox.scenario import build_scenario
from connector.sandbox.server import Endpoints, SandboxServer
from connector.sandbox.wire import Request, Response

TENANT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Sandbox(build_scenario({"name": "empty"}))) as running:
        yield running
        assert running.crashes == []


@pytest.fixture
def session(server: SandboxServer) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.verify = server.endpoints.ca_bundle
        session.trust_env = False
        yield session


def application(at: Endpoints, session: requests.Session, **changed: Any) -> msal.ConfidentialClientApplication:
    values = {"client_id": at.client_id, "client_credential": at.client_secret, "tenant": at.tenant} | changed
    return msal.ConfidentialClientApplication(
        values["client_id"],
        client_credential=values["client_credential"],
        authority=f"{at.sign_in}/{values['tenant']}",
        instance_discovery=False,
        http_client=session,
    )


def test_msal_gets_tokens_that_open_each_api(server: SandboxServer, session: requests.Session) -> None:
    at = server.endpoints
    app = application(at, session)
    for scope, url in (
        (f"{at.dataverse}/.default", f"{at.dataverse}/api/data/v9.2/WhoAmI"),
        (f"{at.partner_center}/.default", f"{at.partner_center}/v1/customers"),
        ("https://api.partnercenter.microsoft.com/.default", f"{at.partner_center}/v1/customers"),
    ):
        token = app.acquire_token_for_client([scope])
        assert token["expires_in"] == 3599
        answer = session.get(url, headers={"Authorization": f"Bearer {token['access_token']}"})
        assert answer.status_code == 200, answer.text


def test_msal_accepts_the_sandbox_as_an_oidc_authority(server: SandboxServer, session: requests.Session) -> None:
    at = server.endpoints
    app = msal.ConfidentialClientApplication(
        at.client_id,
        client_credential=at.client_secret,
        oidc_authority=f"{at.sign_in}/{at.tenant}",
        http_client=session,
    )
    assert "access_token" in app.acquire_token_for_client([f"{at.dataverse}/.default"])


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"client_credential": "wrong"}, 7000215),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, 700016),
    ],
)
def test_msal_is_told_what_is_wrong_with_the_application(
    server: SandboxServer, session: requests.Session, changed: dict[str, str], number: int
) -> None:
    at = server.endpoints
    refused = application(at, session, **changed).acquire_token_for_client([f"{at.dataverse}/.default"])
    assert refused["error_codes"] == [number]
    assert f"AADSTS{number}" in refused["error_description"]


def test_msal_does_not_find_another_tenant(server: SandboxServer, session: requests.Session) -> None:
    with pytest.raises(ValueError, match="authority"):
        application(server.endpoints, session, tenant=TENANT).acquire_token_for_client(["https://x/.default"])


def sandbox(**extra: Any) -> Sandbox:
    return Sandbox(build_scenario({"name": "empty", **extra}))


def post(world: Sandbox, form: dict[str, str], path: str = "oauth2/v2.0/token", tenant: str | None = None) -> Any:
    request = Request("POST", f"/{tenant or world.sign_in.tenant}/{path}", "", {}, urlencode(form).encode())
    answer = world.handle("sign_in", request)
    assert isinstance(answer, Response)
    return answer.status, json.loads(answer.body)


def good(world: Sandbox, **extra: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": world.sign_in.client_id,
        "client_secret": world.sign_in.client_secret,
    } | extra


def test_the_v1_endpoint_takes_a_resource() -> None:
    world = sandbox()
    status, body = post(world, good(world, resource="https://api.partnercenter.microsoft.com"), "oauth2/token")
    assert status == 200 and body["expires_in"] == "3599"
    assert world.sign_in.authorize("partner_center", f"Bearer {body['access_token']}") == "ok"


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"scope": ""}, 900144),
        ({"scope": "https://nowhere.example/.default"}, 500011),
        ({"grant_type": "password"}, 70003),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, 9002313),
    ],
)
def test_malformed_token_requests_are_refused(change: dict[str, str], number: int) -> None:
    world = sandbox()
    form = good(world, scope="https://api.partnercenter.microsoft.com/.default") | change
    status, body = post(world, form)
    assert status == 400 and body["error_codes"] == [number]


def test_an_unknown_tenant_is_refused() -> None:
    world = sandbox()
    status, body = post(world, good(world), tenant=TENANT)
    assert status == 400 and body["error_codes"] == [90002]


def test_a_refresh_token_is_exchanged_for_a_new_one() -> None:
    world = sandbox()
    token = world.sign_in.issue_refresh_token()
    scope = "https://api.partnercenter.microsoft.com/.default"
    status, body = post(world, good(world, grant_type="refresh_token", refresh_token=token, scope=scope))
    assert status == 200 and body["refresh_token"] != token


def test_tokens_expire_by_the_sandboxs_clock_and_are_bound_to_one_api() -> None:
    world = sandbox()
    header = f"Bearer {world.sign_in.issue('partner_center')}"
    assert world.sign_in.authorize("partner_center", header) == "ok"
    assert world.sign_in.authorize("dataverse", header) == "wrong_audience"
    assert world.sign_in.authorize("dataverse", None) == "missing"
    world.clock.advance(timedelta(seconds=3599))
    assert world.sign_in.authorize("partner_center", header) == "expired"


def test_a_world_may_deny_the_application_user() -> None:
    world = sandbox(access={"dataverse": "not_a_member"})
    assert world.sign_in.authorize("dataverse", f"Bearer {world.sign_in.issue('dataverse')}") == "not_a_member"
    answer = world.handle(
        "dataverse",
        Request("GET", "/api/data/v9.2/WhoAmI", "", {"authorization": f"Bearer {world.sign_in.issue('dataverse')}"}),
    )
    assert isinstance(answer, Response) and answer.status == 403


def test_secrets_and_tokens_stand_nowhere_in_the_trace(server: SandboxServer, session: requests.Session) -> None:
    at = server.endpoints
    token = application(at, session).acquire_token_for_client([f"{at.dataverse}/.default"])["access_token"]
    session.get(f"{at.dataverse}/api/data/v9.2/WhoAmI", headers={"Authorization": f"Bearer {token}"})
    kept = json.dumps(server.sandbox.trace.to_json())
    assert "WhoAmI" in kept and token not in kept and at.client_secret not in kept
