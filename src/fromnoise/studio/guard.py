"""Access control of the studio: one ASGI middleware before everything else.

A page of any site, open in the same browser, can send requests to addresses of this machine, and so can its other
users. Hence the studio answers

- requests to its own names only (`Host`), so that no foreign name can be pointed at it (DNS rebinding);
- requests of the browser that opened the printed link only: the link's token works once, in exchange for a cookie;
- writes from its own page only (`Origin`), as JSON, within limits of size and time;

and every answer forbids framing, content sniffing, caching, and reading by another origin. There are no CORS headers:
nothing is shared.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "POST")
_OWN = (b"same-origin", b"none")

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; worker-src blob:; "
    "connect-src 'self'; img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        head_bytes: the largest size of path and headers together.
        body_bytes: the largest size of the body.
        body_seconds: the longest time in which the whole body must arrive.
    """

    head_bytes: int = 32_000
    body_bytes: int = 1_000_000
    body_seconds: float = 10.0


class Key:
    """Gives a browser access: a link that works once, in exchange for a cookie that lasts as long as the browser.

    Args:
        port: part of the cookie's name, because browsers send a cookie to every port of a machine.
    """

    def __init__(self, port: int) -> None:
        self.cookie = f"fromnoise-{port}"
        self.token = secrets.token_urlsafe(32)
        self._secret = secrets.token_urlsafe(32)
        self._used = False

    def exchange(self, token: str) -> str | None:
        """Return the cookie for the right token, the first time; None otherwise."""
        right = hmac.compare_digest(token.encode(), self.token.encode())
        if not right or self._used:
            return None
        self._used = True
        return f"{self.cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/"

    def fits(self, cookies: str) -> bool:
        """Return whether a Cookie header holds the secret."""
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        values = [value for name, _, value in pairs if name == self.cookie]
        return any(hmac.compare_digest(value.encode(), self._secret.encode()) for value in values)


class Refused(Exception):
    """A request that is refused, with the reason."""

    def __init__(self, status: int, line: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, list(headers)


class Guard:
    """The middleware.

    Args:
        app: the application behind it.
        hosts: every value of the Host header that is accepted, exactly.
        key: gives a browser access.
        limits: the limits of a request.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], key: Key, limits: Limits | None = None) -> None:
        self.app = app
        self.hosts = frozenset(host.encode() for host in hosts)
        self.key, self.limits = key, limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the studio has no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        scope["nonce"] = secrets.token_urlsafe(18)
        answer = _Answer(send, scope["nonce"])
        try:
            cookie = self._check(scope)
            if cookie is not None:
                await _plain(answer, 303, b"", [(b"location", b"/"), *cookie])
                return
            if scope["method"] == "POST":
                receive = await self._body(scope, receive)
            await self.app(scope, receive, answer)
        except Refused as refused:
            await _refuse(answer, scope, refused)
        except ConnectionResetError:  # the client went away while its body was read
            return
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.started:
                raise
            await _refuse(answer, scope, Refused(500, "the studio failed; its terminal shows the error"))

    def _check(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """Return None for a request that is allowed, or, for one by the link, the headers of the redirect to the page.

        Raises:
            Refused: if the request is not allowed.
        """
        headers = scope["headers"]
        head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(key) + len(text) for key, text in headers)
        if head > self.limits.head_bytes:
            raise Refused(431, f"the head of a request may have at most {self.limits.head_bytes:,} bytes")
        host = _only(headers, b"host")
        if not any(hmac.compare_digest(host or b"", own) for own in self.hosts):
            raise Refused(403, "the studio answers only at its own address: use the link that its terminal shows")
        _check_shape(scope)
        link = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
        page = scope["path"] == "/"
        if self.key.fits((_only(headers, b"cookie") or b"").decode("latin-1")):
            if page and link and scope["method"] == "GET":
                return []
            self._check_origin(scope, b"http://" + (host or b""), page)
            return None
        if page and link and scope["method"] == "GET":
            cookie = self.key.exchange(link[0]) if len(link) == 1 else None
            if cookie is None:
                raise Refused(403, _USED)
            return [(b"set-cookie", cookie.encode())]
        raise Refused(403, _LOCKED)

    def _check_origin(self, scope: Scope, own: bytes, page: bool) -> None:
        """Refuse a request of another origin, even with the right cookie."""
        headers, write = scope["headers"], scope["method"] == "POST"
        origin, site = _only(headers, b"origin"), _only(headers, b"sec-fetch-site")
        if (origin is not None or write) and not hmac.compare_digest(origin or b"", own):
            raise Refused(403, "the studio accepts changes only from its own page")
        if site is not None and site not in _OWN and (write or not page):
            raise Refused(403, "the studio answers only its own page")
        if write:
            kind = (_only(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                raise Refused(415, "the studio accepts only application/json")

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body, within the limits, and return a `receive` that returns it.

        Raises:
            Refused: if it is too large or too slow.
            ConnectionResetError: if the client went away.
        """
        limit = self.limits.body_bytes
        too_large = Refused(413, f"a request may have at most {limit:,} bytes")
        length = _only(scope["headers"], b"content-length")
        if length is not None and (not length.isdigit() or len(length) > 12 or int(length) > limit):
            raise too_large
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ConnectionResetError
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise Refused(408, f"the request took longer than {self.limits.body_seconds:g} s to arrive") from None
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return again


_LOCKED = (
    "the studio opens with the link that its terminal shows, once, and then only in that browser; "
    "for a new link stop it there and start it again"
)
_USED = (
    "this link is not the studio's, or was used already: continue in the browser that opened it, "
    "or stop the studio in its terminal and start it again for a new one"
)


class _Answer:
    """A `send` that puts the strict headers on every answer."""

    def __init__(self, send: Send, nonce: str) -> None:
        self._send, self._policy = send, _POLICY.format(nonce=nonce).encode()
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            strict = [(b"content-security-policy", self._policy), *_ALWAYS]
            names = {name for name, _ in strict}
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
            message = {**message, "headers": [*kept, *strict]}
        await self._send(message)


def _only(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return a header's value, None where it is not given.

    Raises:
        Refused: if it is given twice, because two programs might then use different values.
    """
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise Refused(400, f"the header {name.decode()} is given {len(values)} times")
    return values[0] if values else None


def _check_shape(scope: Scope) -> None:
    """Refuse what no page of the studio sends: other methods, upgrades, bodies where none belong, double lengths."""
    headers, method = scope["headers"], scope["method"]
    if method not in _METHODS:
        raise Refused(405, f"the studio accepts only {', '.join(_METHODS)}", [(b"allow", ", ".join(_METHODS).encode())])
    names = {name for name, _ in headers}
    if b"upgrade" in names or scope["http_version"] not in ("1.0", "1.1"):
        raise Refused(400, "the studio accepts only HTTP/1.1, without upgrades")
    if {b"content-length", b"transfer-encoding"} <= names:
        raise Refused(400, "a request gives its length once: by content-length or by transfer-encoding")
    if method != "POST" and (b"transfer-encoding" in names or (_only(headers, b"content-length") or b"0") != b"0"):
        raise Refused(400, f"a {method} has no body")
    if not scope["path"].startswith("/"):
        raise Refused(400, "a request names a path, such as /")


async def _refuse(answer: _Answer, scope: Scope, refused: Refused) -> None:
    """Send one line, as JSON for an API path and as a small page otherwise, and close the connection."""
    if scope["path"].startswith("/api"):
        kind, body = b"application/json", json.dumps({"error": refused.line}).encode()
    else:
        kind, body = b"text/html; charset=utf-8", _page(refused).encode()
    headers = [(b"content-type", kind), (b"connection", b"close"), *refused.headers]
    await _plain(answer, refused.status, body, headers)


def _page(refused: Refused) -> str:
    # after a link on another site the browser has not sent its cookie; after a link on this page it does
    again = '<p><a href="/">Open the studio</a></p>' if refused.status == 403 else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>fromnoise studio</title></head>'
        f'<body style="font: 16px/1.5 system-ui; margin: 3rem"><p>{html.escape(refused.line)}</p>{again}</body></html>'
    )


async def _plain(answer: Any, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await answer({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await answer({"type": "http.response.body", "body": body, "more_body": False})
