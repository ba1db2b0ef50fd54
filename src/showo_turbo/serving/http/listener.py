"""Listen on an address, and stop in order: refuse new requests, finish those that run, then leave."""

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from showo_turbo.errors import InputError
from showo_turbo.serving.http.gate import is_loopback
from showo_turbo.serving.worker import Worker

_SECONDS_TO_SEND = 5
"""Time that clients get to take their last bytes."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; it does not listen yet.

    Raises:
        InputError: if the address is unknown or in use.
    """
    found = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, UnicodeError) as error:
        if found is not None:
            found.close()
        reason = error.strerror if isinstance(error, OSError) else "it is no name"
        raise InputError(f"host {host!r} and port {port} cannot be used ({reason}): choose others") from None
    return found


def url_of(bound: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = bound.getsockname()[:2]
    shown = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def is_local(bound: socket.socket) -> bool:
    """Return whether a socket can be reached from this machine only."""
    return is_loopback(bound.getsockname()[0])


def listen(
    app: FastAPI, worker: Worker, bound: socket.socket, drain_seconds: float, on_ready: Callable[[], None]
) -> int:
    """Serve until a signal arrives, and return its number. A second signal stops at once.

    Args:
        app: the application.
        worker: runs the requests; it has been started.
        bound: the socket.
        drain_seconds: time that accepted requests get to finish.
        on_ready: called when the first connection can be taken.
    """

    class DrainingServer(uvicorn.Server):
        received = 0
        loop: asyncio.AbstractEventLoop
        draining: asyncio.Task[None]

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            self.loop = asyncio.get_running_loop()
            await super().startup(sockets)
            on_ready()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.received:
                self.should_exit = self.force_exit = True
                return
            self.received = sig
            self.loop.call_soon_threadsafe(self.drain)

        def drain(self) -> None:
            self.draining = self.loop.create_task(self.drain_and_exit())

        async def drain_and_exit(self) -> None:
            await worker.drain(drain_seconds)
            self.should_exit = True

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_SEND,
    )
    server = DrainingServer(config)
    server.run(sockets=[bound])
    return server.received or signal.SIGTERM
