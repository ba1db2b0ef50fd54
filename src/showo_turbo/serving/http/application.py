"""The application: all routes, and what they share."""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

from PIL.Image import Image

from showo_turbo import __version__
from showo_turbo.extras import require_module
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.http.bodies import ignored_fields
from showo_turbo.serving.http.error_bodies import ApiError, ClientGoneError, invalid, to_api_error
from showo_turbo.serving.http.gate import OPEN_PATHS, Gate, too_large
from showo_turbo.serving.http.keys import ApiKeys
from showo_turbo.serving.http.metrics import Metrics
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.serving.worker import Worker

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

    from showo_turbo.serving.requests import ImageRequest

T = TypeVar("T")

_ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string"},
    },
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error.",
        "content": {"application/json": {"schema": {"type": "object", "properties": {"error": _ERROR}}}},
    }
}
"""Errors of all routes, for the documentation."""

_IMAGE_THREADS = 2
_BODY_SECONDS = 60.0


@dataclass
class Server:
    """Hold what all routes share.

    Attributes:
        worker: runs the models.
        limits: limits of the server.
        metrics: measurements.
        keys: keys that let in.
        allow_remote_images: fetch images that clients name by address.
        origins: origins of web pages that may send requests.
        only_loopback: serve loopback names only.
        logs: print a line for each request.
        log_prompts: print prompts and questions too.
        sidecar: makes sidecar files for the page, which is served if it is given.
        images: threads that decode and encode image files.
    """

    worker: Worker
    limits: LimitOptions
    metrics: Metrics
    keys: ApiKeys = field(default_factory=ApiKeys)
    allow_remote_images: bool = False
    origins: Sequence[str] = ()
    only_loopback: bool = False
    logs: bool = True
    log_prompts: bool = False
    sidecar: "Callable[[str, ImageRequest], dict[str, Any]] | None" = None
    images: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_IMAGE_THREADS, thread_name_prefix="showo-turbo images")
    )

    def pipe(self, model: str | None) -> tuple[str, ShowoPipeline]:
        """Return name and pipeline of a model, of the first one if None.

        Raises:
            ApiError: if there is no such model.
        """
        pipes = self.worker.pipes
        name = next(iter(pipes)) if model is None else model
        if name not in pipes:
            known = ", ".join(pipes)
            raise ApiError(404, f"model {name[:60]!r} is unknown: choose {known}", "model_not_found", "model")
        return name, pipes[name]

    async def in_image_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function that works on image files outside of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.images, partial(function, *arguments))

    def warnings(self, pipe: ShowoPipeline, body: Any, kind: str, texts: Sequence[str]) -> list[str]:
        """Return warnings for a client: fields without effect, words that the model has never seen."""
        unknown = pipe.known_world and pipe.known_world.note(texts, kind)  # type: ignore[arg-type]
        return [*ignored_fields(body), *([unknown] if unknown else [])]

    def check_prompt(self, prompt: str, param: str = "prompt") -> None:
        """Check the length of a text, and print it if prompts are logged.

        Raises:
            ApiError: if it is too long.
        """
        if len(prompt) > self.limits.max_prompt:
            raise invalid(param, f"{param} has {len(prompt):,} characters: give at most {self.limits.max_prompt:,}")
        if self.log_prompts:
            print(f"{param}: {prompt!r}", file=sys.stderr, flush=True)


def choose_seed(seed: int | None) -> int:
    """Return a seed, a random one if None."""
    return secrets.randbelow(2**32) if seed is None else seed


def file_bytes(image: Image, file_format: str, quality: int | None) -> bytes:
    """Return an image as the content of a file; of PNG, those that the command line writes."""
    buffer = BytesIO()
    image.save(buffer, format=file_format, quality=95 if quality is None else quality)
    return buffer.getvalue()


async def read_body(request: "Request", limits: LimitOptions) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: if it is too large, or does not arrive in time.
        ClientGoneError: if the client closes its connection.
    """
    from starlette.requests import ClientDisconnect

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


async def while_connected(request: "Request", work: Coroutine[Any, Any, T]) -> T:
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


def event_stream(server: Server, events: AsyncIterator[bytes]) -> "Response":
    """Return a response of server-sent events; an error of the iterator is its last event."""
    from fastapi.responses import StreamingResponse

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


def create_app(server: Server) -> "FastAPI":
    """Return the application.

    Raises:
        InputError: if FastAPI is not installed.
    """
    require_module("fastapi", "the server", "serve")
    from fastapi import FastAPI
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import JSONResponse, Response
    from fastapi.security import HTTPBearer
    from starlette.exceptions import HTTPException

    from showo_turbo.serving.http.chat_routes import add_chat_routes
    from showo_turbo.serving.http.image_routes import add_image_routes
    from showo_turbo.serving.http.model_routes import add_model_routes

    app = FastAPI(
        title="Showo Turbo",
        version=__version__,
        description="Draw images and answer questions about images, in the shapes of OpenAI's API.",
        redoc_url=None,
        docs_url="/docs",
    )
    bearer = HTTPBearer(auto_error=False)
    for add in (add_image_routes, add_chat_routes, add_model_routes):
        add(app, server, bearer)
    open_paths: tuple[str, ...] = OPEN_PATHS
    if server.sidecar is not None:
        from showo_turbo.serving.http.page_files import page_files
        from showo_turbo.serving.http.page_routes import add_page_routes

        add_page_routes(app, server, bearer, server.sidecar)
        open_paths += tuple(page_files())

    def respond(error: ApiError) -> Response:
        server.metrics.errors.labels(error.code).inc()
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(ApiError)
    async def refuse(request: Any, error: ApiError) -> Response:
        return respond(error)

    @app.exception_handler(ClientGoneError)
    async def give_up(request: Any, error: ClientGoneError) -> Response:
        server.metrics.errors.labels("client_gone").inc()
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def fail(request: Any, error: Exception) -> Response:
        return respond(to_api_error(error))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Any, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        known = "see /docs for the routes"
        return respond(ApiError(error.status_code, f"{error.detail}: {known}", code, headers=dict(error.headers or {})))

    app.add_middleware(
        Gate,
        keys=server.keys,
        limits=server.limits,
        metrics=server.metrics,
        origins=server.origins,
        only_loopback=server.only_loopback,
        logs=server.logs,
        open_paths=open_paths,
    )
    if server.origins:  # the outermost layer, since it answers requests that browsers send without a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def now() -> int:
    """Return the time in seconds, as OpenAI's API has it."""
    return int(time.time())
