"""The way from a `requests` session to the sandbox without sockets and TLS."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from connector.sandbox.app import Sandbox
from connector.sandbox.wire import Request, Response

DATAVERSE, PARTNER_CENTER = "https://dataverse.example", "https://partnercenter.example"

Exchange = Callable[[str, Request], tuple[Response, bool]]
"""(service, request) → the answer, and whether its body is cut on the way."""


class Tokens:
    """A token source that asks the sandbox itself."""

    def __init__(self, sandbox: Sandbox, api: str) -> None:
        self._sandbox, self._api = sandbox, api
        self._token = sandbox.sign_in.issue(api)

    def token(self) -> str:
        return self._token

    def refresh(self) -> None:
        self._token = self._sandbox.sign_in.issue(self._api)


class InProcess(HTTPAdapter):
    """Hands every request of a session to a function: no sockets, no TLS."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        assert request.url is not None and request.method is not None
        parts = urlsplit(request.url)
        body = request.body or b""
        message = Request(
            request.method,
            parts.path,
            parts.query,
            {key.lower(): _text(value) for key, value in request.headers.items()},
            body.encode() if isinstance(body, str) else body,
            f"{parts.scheme}://{parts.netloc}",
        )
        answer, partial = self._exchange("dataverse" if message.origin == DATAVERSE else "partner_center", message)
        headers = urllib3.HTTPHeaderDict()
        for key, value in answer.headers:
            headers.add(key, value)
        headers["Content-Length"] = str(len(answer.body))
        shown = answer.body[: len(answer.body) // 2] if partial else answer.body
        raw = urllib3.HTTPResponse(
            io.BytesIO(shown), headers, answer.status, preload_content=False, request_method=request.method
        )
        return self.build_response(request, raw)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
