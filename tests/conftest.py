"""What every test gets: no environment of the machine it runs on, no logging left over, bounded property tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

# A slow machine is not a failing one; "deterministic" repeats the same examples every time.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("deterministic", deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("LINKSUB_HYPOTHESIS", "deterministic" if "CI" in os.environ else "dev"))

_MACHINE = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, certificate bundles, colours and linksub's own variables of the machine do not reach a test."""
    for name in list(os.environ):
        if (name.startswith("LINKSUB_") and not name.startswith("LINKSUB_TEST_")) or name.upper() in (
            *_MACHINE,
            *_PROXIES,
        ):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _clean_logging() -> Iterator[None]:
    """A command line under test sets up logging; nothing of it may stay."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    from connector.cli.logs import reset_logging

    reset_logging()
    root.handlers[:] = handlers
    root.setLevel(level)
