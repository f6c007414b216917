"""Who may ask: by token, by the name the server is called by, by the page they come from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pytest_onnxcheck.serve.http.paths import inner_path
from pytest_onnxcheck.serve.http.problems import ProblemError

__all__ = ["Access", "Guard", "cookie_name", "is_loopback"]

#: how the cookie of a browser that has given the token begins
_COOKIE = "onnxcheck_session"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE = ("GET", "HEAD", "OPTIONS")
_OWN_PAGE = ("same-origin", "none")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, by its text alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def cookie_name(scope: Scope) -> str:
    """The cookie of a browser that has given the token.

    It has the port that this server listens on: browsers send the cookies of a host to every port
    of it, so that two servers would take each other's.
    """
    server = scope.get("server")
    return _COOKIE if server is None else f"{_COOKIE}_{server[1]}"


@dataclass
class Access:
    """What a request must have.

    Attributes:
        token: The token; None where none is asked for.
        hosts: The names that the server answers to; None where any will do.
        login: The path of a page that asks for the token, relative to the root, where browsers
            are sent; None where there is none. It is open to all.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None
    login: str | None = None

    @classmethod
    def of(cls, host: str, token: str | None, names: tuple[str, ...] = ()) -> Access:
        """The access to a server.

        Args:
            host: What it listens on.
            token: The token; None where none is asked for.
            names: More names that it is reached by, e.g. through a proxy.
        """
        if is_loopback(host):
            return cls(token, frozenset({*_LOOPBACK, host.lower(), *map(str.lower, names)}))
        return cls(token, frozenset(map(str.lower, names)) or None)

    def is_token(self, given: str) -> bool:
        """Whether it is the token; the time that it takes does not tell how much of it is right."""
        return self.token is not None and _equal(given, self.token)

    def cookie(self) -> str:
        """The value of the cookie, which does not tell the token."""
        assert self.token is not None
        return hmac.new(self.token.encode(), _COOKIE.encode(), hashlib.sha256).hexdigest()

    def permits(self, scope: Scope) -> bool:
        """Whether a request has the token, or the cookie of one who gave it."""
        if self.token is None:
            return True
        headers = Headers(scope=scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        # what is wrong with a cookie of another app of this host does not matter here
        cookie = cookie_parser(headers.get("cookie", "")).get(cookie_name(scope))
        return cookie is not None and _equal(cookie, self.cookie())


class Guard:
    """Refuses requests before anything of them is looked at, those of mounted apps too."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on what may pass."""
        if scope["type"] == "websocket":  # nothing here has any
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            path = inner_path(scope)
            login = self._access.login
            if path != login and not self._access.permits(scope):
                if login is not None and _wants_page(scope["method"], path, headers):
                    page = RedirectResponse(f"{scope.get('root_path', '')}{login}", 303)
                    await page(scope, receive, send)
                    return
                raise ProblemError(
                    401,
                    "token",
                    "the token is missing or wrong: send it as Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
        except ProblemError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Refuses other names: a page may have its own name lead here (DNS rebinding)."""
        hosts = self._access.hosts
        if hosts is None:
            return
        name = _host_name(headers.get("host", ""))
        if name not in hosts:
            raise ProblemError(
                421,
                "unknown-host",
                f"this server is not called {name!r}: use {', '.join(sorted(hosts))}, or start "
                "it with --allowed-host=NAME",
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        """Refuses what a page of another site sends without being asked to."""
        if method in _SAFE:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = site is not None and site not in _OWN_PAGE
        if origin is not None:
            foreign |= _authority(origin) != headers.get("host", "").lower()
        if foreign:
            raise ProblemError(
                403, "foreign-page", "a page of another site may not send this: use its own page"
            )


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _host_name(host: str) -> str:
    """The name in a Host header: without port, and an IPv6 address without brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _wants_page(method: str, path: str, headers: Headers) -> bool:
    """Whether a person opens a page of the panel."""
    of_api = path == "/metrics" or path.startswith("/api/")
    return method == "GET" and not of_api and "text/html" in headers.get("accept", "")
