from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from connector.http.redaction import RedactingFilter, RedactingFormatter, forget_secrets, redact, register_secrets

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    forget_secrets()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Authorization: Bearer {JWT}", JWT),
        ("'Authorization': 'Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("sent Bearer abc.def-ghi_123", "abc.def-ghi_123"),
        (f"token {JWT} was used", JWT),
        ("client_id=1&client_secret=S3cr%7Et&scope=x", "S3cr%7Et"),
        ('{"refresh_token": "0.AXoA-long", "x": 1}', "0.AXoA-long"),
        ("passphrase: hunter2", "hunter2"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "***" in redact(text)


def test_ordinary_text_is_left_alone() -> None:
    text = "patch subscription 0f3c of Pine Cone Vet: status 412 (0x80060882), the bearer of the licence"
    assert redact(text) == text


def test_registered_secrets_are_masked_longest_first() -> None:
    register_secrets([SecretStr("hunter2"), SecretStr("hunter2-and-more")])
    assert redact("a hunter2-and-more b hunter2 c") == "a *** b *** c"


def test_short_values_are_not_registered_because_masking_them_would_hide_prose() -> None:
    register_secrets(["ab", ""])
    assert redact("about") == "about"


def test_the_filter_masks_message_arguments_fields_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    register_secrets(["planted-secret"])
    logger = logging.getLogger("connector.test_redaction")
    usual = caplog.handler.formatter
    caplog.handler.addFilter(mask := RedactingFilter())
    caplog.handler.setFormatter(RedactingFormatter("%(message)s %(detail)s"))
    try:
        try:
            raise ValueError("planted-secret in an exception")
        except ValueError:
            logger.exception("value %s", "planted-secret", extra={"detail": "planted-secret"})
    finally:
        caplog.handler.removeFilter(mask)
        caplog.handler.setFormatter(usual)
    assert "value *** ***" in caplog.text
    assert "planted-secret" not in caplog.text
    assert "ValueError: *** in an exception" in caplog.text
