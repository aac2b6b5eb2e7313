from __future__ import annotations

import pytest

from connector.errors import ConfigError, ProtocolError
from connector.http.origin import Origin

BASE = "https://contoso.crm.dynamics.com/api/data/v9.2"


@pytest.fixture
def origin() -> Origin:
    return Origin(BASE, service="dataverse")


@pytest.mark.parametrize(
    "hostile",
    [
        "https://contoso.crm.dynamics.com.evil.example/api/data/v9.2/accounts",
        "https://evil.example/api/data/v9.2/accounts",
        "https://contoso.crm.dynamics.com@evil.example/api/data/v9.2/accounts",
        "https://user:pw@contoso.crm.dynamics.com/api/data/v9.2/accounts",
        "https://contoso.crm.dynamics.com:444/api/data/v9.2/accounts",
        "http://contoso.crm.dynamics.com/api/data/v9.2/accounts",
        "//evil.example/api/data/v9.2/accounts",
        "/\\evil.example/api/data/v9.2/accounts",
        "https://contoso.crm.dynamics.com\\@evil.example/api/data/v9.2/accounts",
        "https://contoso.crm.dynamics.com/api/data/v9.2/../v9.1/accounts",
        "https://contoso.crm.dynamics.com/api/data/v9.2/%2e%2e/%2e%2e/other",
        "https://contoso.crm.dynamics.com/api/data/v9.2/%252e%252e/other",
        "https://contoso.crm.dynamics.com/api/data/v9.2/..%2fother",
        "https://contoso.crm.dynamics.com/api/data/v9.2/a%5c..%5cb",
        "https://contoso.crm.dynamics.com/api/data/v9.20/accounts",
        "https://contoso.crm.dynamics.com/api/data/accounts",
        "/api/data/accounts",
        "../accounts",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://contoso.crm.dynamics.com/api/data/v9.2/a b",
        "https://contoso.crm.dynamics.com/api/data/v9.2/a\r\nHost: evil.example",
        "https://contoso.crm.dynamics.com/api/data/v9.2/a#fragment",
        "https://contoso.crm.dynamics.com:port/api/data/v9.2/a",
        "https://[::1/api/data/v9.2/a",
        "",
    ],
)
def test_an_address_outside_the_origin_is_refused(origin: Origin, hostile: str) -> None:
    with pytest.raises(ProtocolError):
        origin.resolve(hostile)
    assert not origin.contains(hostile)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("accounts?$select=name", f"{BASE}/accounts?$select=name"),
        ("/api/data/v9.2/accounts", f"{BASE}/accounts"),
        (
            f"{BASE}/accounts?$skiptoken=%3Ccookie%20pagenumber=%222%22",
            f"{BASE}/accounts?$skiptoken=%3Ccookie%20pagenumber=%222%22",
        ),
        (
            "https://CONTOSO.crm.dynamics.com:443/api/data/v9.2/accounts?x=%2f..%2f",
            "https://CONTOSO.crm.dynamics.com:443/api/data/v9.2/accounts?x=%2f..%2f",
        ),
        ("accounts?$filter=createdon ge 2026".replace(" ", "%20"), f"{BASE}/accounts?$filter=createdon%20ge%202026"),
    ],
)
def test_an_address_of_the_origin_is_kept_byte_for_byte(origin: Origin, given: str, full: str) -> None:
    assert origin.resolve(given) == full


@pytest.mark.parametrize(
    "base",
    [
        "http://contoso.crm.dynamics.com",
        "http://127.0.0.1:8080",
        "https://user:pw@contoso.crm.dynamics.com",
        "https://contoso.crm.dynamics.com/a/../b",
        "https://contoso.crm.dynamics.com?x=1",
        "https://",
        "ftp://contoso.crm.dynamics.com",
        "https://contoso.crm.dynamics.com:99999",
    ],
)
def test_a_base_address_that_cannot_be_trusted_is_refused_without_repeating_it(base: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Origin(base)
    assert "pw" not in str(caught.value)


def test_plain_http_is_only_for_loopback_and_only_when_asked() -> None:
    assert Origin("http://127.0.0.1:8080", allow_http_on_loopback=True).resolve("x") == "http://127.0.0.1:8080/x"
    with pytest.raises(ConfigError):
        Origin("http://10.0.0.1:8080", allow_http_on_loopback=True)
