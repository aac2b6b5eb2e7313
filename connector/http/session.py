"""The one `requests` session: verification always on, no cookies, no hidden retries, and a place to watch from."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.util.retry import Retry

from connector import __version__


class Observer(Protocol):
    """Watches every HTTP exchange of the process, sign-in included; may raise to end it there."""

    def before(self, request: requests.PreparedRequest) -> None:
        """A request is about to be sent."""

    def after(self, response: requests.Response) -> None:
        """The head of an answer arrived; its body was not read yet."""


class ObservedAdapter(HTTPAdapter):
    """An HTTPAdapter without retries of its own that tells an observer about each exchange."""

    def __init__(self, *, pool_size: int, observer: Observer | None = None) -> None:
        super().__init__(pool_connections=8, pool_maxsize=pool_size, max_retries=Retry(0, read=False))
        self._observer = observer

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request, with the observer asked before and after."""
        if self._observer is not None:
            self._observer.before(request)
        response = super().send(request, *args, **kwargs)
        if self._observer is not None:
            try:
                self._observer.after(response)
            except BaseException:
                response.close()
                raise
        return response


def make_session(
    *, ca_bundle: str | None = None, pool_size: int = 16, observer: Observer | None = None
) -> requests.Session:
    """A session for all services and for MSAL.

    ``ca_bundle`` is a PEM file that replaces the default trust store; verification cannot be switched off. Proxies and
    ``REQUESTS_CA_BUNDLE`` from the environment keep working. Cookies are refused, so that Dataverse's affinity cookie
    does not pin every request to one server (Microsoft docs: "Send parallel requests").
    """
    session = requests.Session()
    adapter = ObservedAdapter(pool_size=pool_size, observer=observer)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = f"linksub/{__version__}"
    session.verify = ca_bundle if ca_bundle is not None else True
    return session
