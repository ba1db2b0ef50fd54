"""HTTP calls to a Showo Turbo server, by the standard library only.

Decisions:
- The key of the environment goes to the server of the environment only, since a workflow may come from a stranger and
  name another server. For the same reason redirects are not followed.
- The call runs in a thread, so that "Cancel" in ComfyUI closes the connection, and the server stops drawing.
"""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 600.0
TRIES = 6
"""Tries while the server is busy."""

_BUSY = (429, 503)
_POLL_SECONDS = 0.1


class ServerError(RuntimeError):
    """Report that the server cannot be reached, or its message about a request that it refuses."""


@dataclass(frozen=True)
class Server:
    """Call a server.

    Attributes:
        url: its address, without `/v1`.
        key: an API key; empty for none.
    """

    url: str
    key: str = field(default="", repr=False)

    @classmethod
    def find(cls, url: str = "", key: str = "") -> "Server":
        """Return the server of a node's inputs; those that are empty are taken from the environment.

        Raises:
            ServerError: if the address is none of http or https.
        """
        own = _cleaned(os.environ.get("SHOWO_TURBO_URL", "")) or DEFAULT_URL
        chosen = _cleaned(url) or own
        if urlsplit(chosen).scheme not in ("http", "https") or not urlsplit(chosen).hostname:
            raise ServerError(f"server is {chosen!r}: give an address like {DEFAULT_URL}")
        own_key = os.environ.get("SHOWO_TURBO_API_KEY", "") if chosen == own else ""
        return cls(chosen, key.strip() or own_key.strip())

    def post_json(self, path: str, body: Mapping[str, object]) -> dict:
        """Send a body as JSON and return the answer; see `post`."""
        return self.post(path, json.dumps(body).encode(), "application/json")

    def post_form(self, path: str, fields: Mapping[str, object], files: Mapping[str, bytes]) -> dict:
        """Send texts and PNG files as a form and return the answer; see `post`."""
        boundary = secrets.token_hex(16)
        parts = []
        for name, value in fields.items():
            text = value if isinstance(value, str) else json.dumps(value)
            parts.append((f'Content-Disposition: form-data; name="{name}"\r\n\r\n').encode() + text.encode())
        for name, content in files.items():
            head = f'Content-Disposition: form-data; name="{name}"; filename="{name}.png"\r\nContent-Type: image/png'
            parts.append(f"{head}\r\n\r\n".encode() + content)
        body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
        return self.post(path, body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")

    def post(self, path: str, body: bytes, content_type: str) -> dict:
        """Send a request and return the answer; while the server is busy, wait as long as it says and try again.

        Raises:
            ServerError: if the server cannot be reached, refuses the request, or stays busy.
        """
        for number in range(TRIES):
            status, retry_after, content = self._exchange(path, body, content_type)
            if status not in _BUSY or number == TRIES - 1:
                break
            _sleep(min(retry_after, 60.0))
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        raise ServerError(message or f"{self.url} answered {status}: is it the address of a Showo Turbo server?")

    def _exchange(self, path: str, body: bytes, content_type: str) -> tuple[int, float, bytes]:
        """Return status, seconds to wait and content of a response."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        headers = {"Content-Type": content_type} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

        def exchange() -> tuple[int, float, bytes]:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.request("POST", f"{parts.path}{path}", body, headers)
            response = connection.getresponse()
            retry_after = response.getheader("Retry-After", "")
            return response.status, float(retry_after) if retry_after.isdecimal() else 1.0, response.read()

        try:
            connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
            with ThreadPoolExecutor(1) as thread:
                answer = thread.submit(exchange)
                try:
                    while not wait([answer], _POLL_SECONDS).done:
                        raise_if_interrupted()
                except BaseException:
                    _abort(connection)
                    raise
            return answer.result()
        except (OSError, HTTPException, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise ServerError(f"{self.url} cannot be reached ({reason}): start it with showo-turbo serve") from None
        finally:
            connection.close()


def raise_if_interrupted() -> None:
    """Raise ComfyUI's exception if its user has cancelled; without effect outside of ComfyUI."""
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


def _cleaned(url: str) -> str:
    return url.strip().rstrip("/").removesuffix("/v1")


def _abort(connection: HTTPConnection) -> None:
    """Shut a connection down, which wakes a thread that reads from it."""
    if connection.sock is not None:
        with suppress(OSError):  # it is closed already
            connection.sock.shutdown(socket.SHUT_RDWR)


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raise_if_interrupted()
        time.sleep(min(_POLL_SECONDS, max(end - time.monotonic(), 0)))
