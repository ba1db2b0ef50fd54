"""Read bodies, notice clients that go away, and send events."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from io import BytesIO
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from PIL.Image import Image
from starlette.requests import ClientDisconnect

from showo_turbo.serving.http.error_bodies import ApiError, ClientGoneError, to_api_error
from showo_turbo.serving.http.gate import too_large
from showo_turbo.serving.http.server import Server
from showo_turbo.serving.limits import LimitOptions

T = TypeVar("T")

_BODY_SECONDS = 60.0


def file_bytes(image: Image, file_format: str, quality: int | None) -> bytes:
    """Return an image as the content of a file; of PNG, those that the command line writes."""
    buffer = BytesIO()
    image.save(buffer, format=file_format, quality=95 if quality is None else quality)
    return buffer.getvalue()


async def read_body(request: Request, limits: LimitOptions) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: if it is too large, or does not arrive in time.
        ClientGoneError: if the client closes its connection.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body << 20:
                    raise too_large(limits)
    except ClientDisconnect:
        raise ClientGoneError from None
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time: send it again", "timeout") from None
    return bytes(body)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, which is cancelled when the client closes its connection.

    Raises:
        ClientGoneError: then.
    """

    async def closed() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    result, gone = asyncio.ensure_future(work), asyncio.ensure_future(closed())
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientGoneError
    finally:
        for one in (result, gone):
            one.cancel()
        await asyncio.gather(result, gone, return_exceptions=True)


def server_sent_event(data: dict[str, Any], name: str | None = None) -> bytes:
    """Return an event of a stream."""
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def event_stream(server: Server, events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return a response of server-sent events; an error of the iterator is its last event."""

    async def guarded() -> AsyncIterator[bytes]:
        try:
            async for event in events:
                yield event
        except Exception as error:
            api_error = to_api_error(error)
            server.metrics.errors.labels(api_error.code).inc()
            yield server_sent_event(api_error.body)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(guarded(), media_type="text/event-stream", headers=headers)
