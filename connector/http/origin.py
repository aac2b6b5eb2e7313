"""The one place a bearer token may go: scheme, host, port and path prefix, fixed by the configuration.

Services hand out links (``@odata.nextLink``, ``Location``, ``links.next``) and a client that follows them unchecked
sends its token wherever the answer says. Every address passes through :meth:`Origin.resolve` before it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from connector.errors import ConfigError, ProtocolError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class Origin:
    """An immutable scheme + host + port + path prefix, such as ``https://contoso.crm.dynamics.com/api/data/v9.2``.

    ``allow_http_on_loopback`` exists for tests of the wire only; anything but https is refused otherwise.
    Raises ConfigError when ``base_url`` itself cannot be used.
    """

    base_url: str
    service: str = "remote"
    allow_http_on_loopback: bool = False
    scheme: str = field(init=False)
    host: str = field(init=False)
    port: int = field(init=False)
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        base = self.base_url.rstrip("/")
        problem = None
        parts = SplitResult("", "", "", "", "")
        port: int | None = None
        try:
            parts = urlsplit(base)
            port = parts.port
        except ValueError as error:
            problem = str(error)
        host = (parts.hostname or "").lower()
        if problem is None:
            if _FORBIDDEN.search(base):
                problem = "it contains a space, a control character or a backslash"
            elif parts.scheme != "https" and not (
                parts.scheme == "http" and self.allow_http_on_loopback and host in _LOOPBACK
            ):
                problem = "only https is allowed"
            elif not host:
                problem = "it names no host"
            elif "@" in parts.netloc:
                problem = "it contains a user name"
            elif parts.query or parts.fragment or "?" in base or "#" in base:
                problem = "it contains a query or a fragment"
            elif _escapes(parts.path):
                problem = "its path contains '..' or an encoded separator"
        if problem is not None:
            # The address may hold a password in front of '@', so it is not repeated in the message.
            raise ConfigError(
                f"the base address of {self.service} cannot be used: {problem}",
                hint="Give scheme, host and path only, such as https://contoso.crm.dynamics.com.",
            )
        object.__setattr__(self, "base_url", base)
        object.__setattr__(self, "scheme", parts.scheme)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port or _DEFAULT_PORTS[parts.scheme])
        object.__setattr__(self, "prefix", parts.path)

    def resolve(self, path_or_url: str) -> str:
        """The full address for a path below the prefix, or a full address of this origin, returned byte for byte.

        ``accounts?$select=name`` is taken as relative to the prefix; ``/api/data/v9.2/accounts`` must begin with the
        prefix. Raises ProtocolError for anything that leads elsewhere.
        """
        if not path_or_url or _FORBIDDEN.search(path_or_url):
            raise self._refused("it is empty or contains a space, a control character or a backslash")
        if "#" in path_or_url:
            raise self._refused("it contains a fragment")
        if path_or_url.startswith("//"):
            raise self._refused("it names another host")
        if _SCHEME.match(path_or_url):
            self._check_absolute(path_or_url)
            return path_or_url
        path = path_or_url.partition("?")[0]
        if _escapes(path):
            raise self._refused("its path contains '..' or an encoded separator")
        if path_or_url.startswith("/"):
            if not self._below_prefix(path):
                raise self._refused("its path is outside the configured prefix")
            return self.base_url[: len(self.base_url) - len(self.prefix)] + path_or_url
        return f"{self.base_url}/{path_or_url}"

    def contains(self, url: str) -> bool:
        """Whether a full address lies on this origin."""
        try:
            return bool(_SCHEME.match(url)) and self.resolve(url) == url
        except ProtocolError:
            return False

    def _check_absolute(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise self._refused("it is not a valid address") from error
        if parts.scheme.lower() != self.scheme:
            raise self._refused(f"its scheme is not {self.scheme}")
        if "@" in parts.netloc:
            raise self._refused("it contains a user name")
        if (parts.hostname or "").lower() != self.host:
            raise self._refused("it names another host")
        if (port if port is not None else _DEFAULT_PORTS[self.scheme]) != self.port:
            raise self._refused("it names another port")
        if _escapes(parts.path):
            raise self._refused("its path contains '..' or an encoded separator")
        if not self._below_prefix(parts.path):
            raise self._refused("its path is outside the configured prefix")

    def _below_prefix(self, path: str) -> bool:
        return path == self.prefix or path.startswith(self.prefix + "/")

    def _refused(self, why: str) -> ProtocolError:
        return ProtocolError(
            f"refused an address that does not belong to {self.service} ({self.host}): {why}",
            service=self.service,
            operation="follow link",
            hint="A service that hands out such links is misconfigured or hostile; nothing was sent there.",
        )


def _escapes(path: str) -> bool:
    """Whether a path climbs out of its folder, plainly or percent-encoded (any number of times)."""
    decoded = path
    for _ in range(4):
        following = unquote(decoded)
        if following == decoded:
            break
        if following.count("/") != decoded.count("/") or "\\" in following:
            return True
        decoded = following
    else:
        return True
    return any(segment in (".", "..") for segment in decoded.split("/"))
