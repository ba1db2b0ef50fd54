"""Let requests in: host, origin, key, number and size are checked before anything of a request is read.

Decisions:
- On a loopback address only loopback names are served, so that a web page cannot reach the server under a name of its
  own. Requests of web pages are refused unless their origin is named (`--cors-origin`).
- `/health`, `/ready` and the documentation are open, all else needs a key if there are keys.
- A client that takes nothing from a stream for the request timeout is disconnected.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from showo_turbo.serving.http.error_bodies import ApiError
from showo_turbo.serving.http.keys import ApiKeys
from showo_turbo.serving.http.metrics import Metrics
from showo_turbo.serving.limits import LimitOptions

OPEN_PATHS = ("/health", "/ready", "/docs", "/openapi.json")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gate:
    """Check requests before the application reads them, and log them (ASGI middleware)."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        keys: ApiKeys,
        limits: LimitOptions,
        metrics: Metrics,
        origins: Collection[str] = (),
        only_loopback: bool = False,
        logs: bool = True,
        open_paths: Collection[str] = OPEN_PATHS,
    ) -> None:
        """Wrap an application.

        Args:
            app: the application.
            keys: keys that let in.
            limits: limits of the server.
            metrics: count of responses by route and status.
            origins: origins of web pages that may send requests.
            only_loopback: serve loopback names only.
            logs: print a line for each request on standard error; it has no part of the content.
            open_paths: paths that need no key.
        """
        self.app, self.keys, self.limits, self.metrics = app, keys, limits, metrics
        self.origins, self.only_loopback, self.logs = frozenset(origins), only_loopback, logs
        self.open_paths = frozenset(open_paths)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.monotonic(), 499

        async def send_in_time(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            async with asyncio.timeout(self.limits.request_timeout):
                await send(message)

        try:
            try:
                name = self._check(scope)
            except ApiError as error:
                await _refuse(error, send_in_time)
                self.metrics.errors.labels(error.code).inc()
                return
            self._running[name] += 1
            try:
                await self.app(scope, receive, send_in_time)
            except TimeoutError:
                pass  # the client takes nothing: the connection is closed
            finally:
                self._running[name] -= 1
                self._running += Counter()  # drops names without requests
        finally:
            route = scope.get("route")
            self.metrics.requests.labels(getattr(route, "path", "other"), status).inc()
            if self.logs and scope["path"] not in ("/health", "/ready", "/metrics"):
                client = (scope.get("client") or ["-"])[0]
                path = scope["path"].encode("unicode_escape").decode()[:100]
                line = f"{client} {scope['method']} {path} {status} {time.monotonic() - begin:.3f} s"
                print(line, file=sys.stderr, flush=True)

    def _check(self, scope: Scope) -> str:
        """Return a name for the key of a request.

        Raises:
            ApiError: if the request is not let in.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.only_loopback and not is_loopback(_name_of(host)):
            raise ApiError(403, f"host {host[:60]!r} is not served: use 127.0.0.1 or localhost", "host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and not self.origins & {origin, "*"} and urlsplit(origin).netloc != host:
            raise ApiError(403, f"origin {origin[:60]!r} is not allowed: --cors-origin allows it", "origin_not_allowed")
        if scope["path"] in self.open_paths:
            return "open"
        name = self.keys.find(headers.get("authorization"))
        if name is None:
            raise ApiError(
                401, "the API key is missing or wrong: send Authorization: Bearer KEY", "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.limits.max_body << 20:
            raise too_large(self.limits)
        if self._running[name] >= self.limits.max_streams:
            raise ApiError(
                429, f"this key has {self._running[name]} requests running: wait for one", "too_many_requests",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        return name


def too_large(limits: LimitOptions) -> ApiError:
    """Return the error of a body that is too large."""
    return ApiError(413, f"the body is too large: send at most {limits.max_body} MiB", "too_large")


def is_loopback(host: str) -> bool:
    """Return whether the name or address of a host is this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _name_of(host: str) -> str:
    """Return a `Host` header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _refuse(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    headers |= {name.lower(): value for name, value in error.headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
