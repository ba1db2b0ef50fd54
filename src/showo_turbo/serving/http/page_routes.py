"""Routes of the page: what it needs to know, and drawing, answers and edits with an event after every forward pass.

body --> request of the engine --Worker--> DrawingPass or AnswerPass, .. --> server-sent events

Bodies are those of the API, with the same limits and checks. Events are `accepted`, `queue` while others are ahead,
`pass` after each forward pass, the last with `done`, and `error`.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import torch

from showo_turbo.generation.options import DecodingOptions
from showo_turbo.serving.dialogues import ChatRequest
from showo_turbo.serving.http.application import (
    Server,
    choose_seed,
    event_stream,
    file_bytes,
    read_body,
    server_sent_event,
)
from showo_turbo.serving.http.bodies import bodies, read_json_body
from showo_turbo.serving.http.chat_routes import (
    decoding_options,
    fitting_length,
    load_message_image,
    read_messages,
)
from showo_turbo.serving.http.error_bodies import as_api_errors, invalid
from showo_turbo.serving.http.image_costs import size_of, windows_of
from showo_turbo.serving.http.image_routes import DrawingCall, drawing_options, new_drawing
from showo_turbo.serving.http.images_in import decode_data_url, open_limited, to_model_size
from showo_turbo.serving.http.page_files import add_page_files
from showo_turbo.serving.http.page_info import page_info
from showo_turbo.serving.pass_reports import AnswerPass, AnswerPassReport, DrawingPass, DrawingPassReport
from showo_turbo.serving.requests import (
    DrawingRequest,
    ExtrapolateRequest,
    ImageRequest,
    InpaintRequest,
    VaryRequest,
)
from showo_turbo.serving.worker import Event, Submission

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

Sidecar = Callable[[str, ImageRequest], dict[str, Any]]
"""Returns the content of the sidecar file of an image, from the name of the model and the request."""

MAX_CODES = 1 << 14
"""Largest number of codes of an image that is edited."""

_SECONDS_BETWEEN_QUEUE_EVENTS = 0.25


def edit_body() -> type["BaseModel"]:
    """Return the body of an edit: that of the API, with image and mask as JSON."""
    from pydantic import Field, create_model

    codes = list[list[int]] | None
    return create_model(
        "PageEditBody",
        __base__=bodies().edits,
        image=(str | None, Field(None, description="The image, as a data URL.")),
        codes=(codes, Field(None, description="The image as codes, row by row, in place of `image`.")),
        mask=(codes, Field(None, description="1 for each code to redraw, else 0, row by row.")),
    )


async def edit_request(server: Server, body: Any) -> DrawingRequest:
    """Return the request of an edit: inpainting by a mask, extrapolation by `direction`, else a variation.

    Raises:
        ApiError: if the image cannot be read, or there are several edits or images.
        InputError: if an option is out of its range.
    """
    _, pipe = server.pipe(body.model)
    if (body.image is None) == (body.codes is None):
        raise invalid("image", "image is missing or given twice: give image or codes")
    chosen = [name for name in ("mask", "direction", "strength") if getattr(body, name) is not None]
    if len(chosen) != 1:
        raise invalid("mask", f"{' and '.join(chosen) or 'no edit'} is given: give one of mask, direction and strength")
    source: dict[str, Any] = {}
    if body.codes is not None:
        source["codes"] = _grid("codes", body.codes)
        pipe.check_codes(source["codes"])
    else:

        def read() -> Any:
            return to_model_size(open_limited(decode_data_url(body.image), server.limits.max_pixels), pipe)

        source["image"] = await server.in_image_thread(read)
    source |= drawing_options(body)
    if body.mask is not None:
        return InpaintRequest(mask=_grid("mask", body.mask) > 0, prompt=body.prompt, **source)
    if body.direction is not None:
        given = body.direction if isinstance(body.direction, list) else body.direction.split(",")
        return ExtrapolateRequest(prompt=body.prompt, direction=given, offset=body.offset or 0, **source)
    return VaryRequest(prompt=body.prompt, strength=body.strength, **source)


def _grid(name: str, rows: list[list[int]]) -> torch.Tensor:
    """Return rows as a tensor, long (1, height, width).

    Raises:
        ApiError: if they differ in length, or are none or too many.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not 1 <= sum(map(len, rows)) <= MAX_CODES:
        raise invalid(name, f"{name} is no grid: give rows of one length, up to {MAX_CODES:,} codes in all")
    if any(not 0 <= code < 1 << 31 for row in rows for code in row):
        raise invalid(name, f"{name} has numbers out of range: give 0 or more")
    return torch.tensor(rows)[None]


async def events_of(task: Submission) -> AsyncIterator[Event | int]:
    """Yield the events of a request and, before its first step, the number of requests ahead of it as it changes."""
    events = aiter(task)
    pending, ahead = asyncio.ensure_future(anext(events)), -1
    try:
        while True:
            await asyncio.wait((pending,), timeout=_SECONDS_BETWEEN_QUEUE_EVENTS)
            if pending.done():
                event = pending.result()
                yield event
                if event.done:
                    return
                pending = asyncio.ensure_future(anext(events))
            elif task.started is None and (now := task.worker.count_ahead(task)) != ahead:
                ahead = now
                yield ahead
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        task.cancel()


async def drawing_events(drawing: DrawingCall, task: Submission, passes: int) -> AsyncIterator[bytes]:
    """Yield the passes of a request that draws as server-sent events."""
    request = drawing.request
    about = {"model": drawing.model, "seed": request.seed, "passes": passes, "warnings": drawing.warnings}
    yield server_sent_event(about, "accepted")
    async for event in events_of(task):
        if isinstance(event, int):
            yield server_sent_event({"ahead": event}, "queue")
            continue
        assert isinstance(event, DrawingPass)
        files = [await drawing.server.in_image_thread(file_bytes, image, "png", None) for image in event.images]
        data: dict[str, Any] = {
            "pass": event.forward_passes,
            "seconds": round(event.time - (task.started or event.time), 5),
            "images": [f"data:image/png;base64,{base64.b64encode(file).decode()}" for file in files],
            "levels": event.levels,
            "grid": event.grid,
            "size": event.images[0].size,
            "done": event.done,
        }
        if event.done:
            width = event.grid[1]
            data["codes"] = [[row[at : at + width] for at in range(0, len(row), width)] for row in event.codes]
            drawing.server.metrics.images.labels(drawing.model).inc(len(files))
        yield server_sent_event(data, "pass")


async def answer_events(server: Server, model: str, task: Submission, warnings: list[str]) -> AsyncIterator[bytes]:
    """Yield the passes of an answer as server-sent events."""
    yield server_sent_event({"model": model, "warnings": warnings}, "accepted")
    async for event in events_of(task):
        if isinstance(event, int):
            yield server_sent_event({"ahead": event}, "queue")
            continue
        assert isinstance(event, AnswerPass)
        data: dict[str, Any] = {
            "pass": event.forward_passes,
            "seconds": round(event.time - (task.started or event.time), 5),
            "tokens": event.tokens,
            "settled": event.num_settled,
            "ended": event.ended,
            "done": event.done,
        }
        if event.output is not None:
            data |= {
                "text": event.output.text,
                "prompt_tokens": event.output.prompt_tokens,
                "cached_tokens": event.output.cached_tokens,
            }
            server.metrics.answered(model, len(event.output.token_ids), event.output.forward_passes)
        yield server_sent_event(data, "pass")


def add_page_routes(app: "FastAPI", server: Server, bearer: Any, sidecar: Sidecar) -> None:
    """Add the page and its routes."""
    from fastapi import Depends, Request, Response
    from fastapi.responses import JSONResponse

    options: dict[str, Any] = {"dependencies": [Depends(bearer)], "include_in_schema": False}
    image_body, chat_body, page_edit_body = bodies().images, bodies().chat, edit_body()
    add_page_files(app)

    async def stream(drawing: DrawingCall) -> Response:
        pipe = drawing.pipe
        steps = drawing.request.num_inference_steps or pipe.recommended.num_inference_steps  # type: ignore[union-attr]
        report = DrawingPassReport(pipe.prompts.vocabulary.mask_id)
        task = server.worker.submit(drawing.model, drawing.request, report)
        await task.checked()
        return event_stream(server, drawing_events(drawing, task, steps * windows_of(drawing.request, pipe)))

    async def drawing_of(request: Request) -> DrawingCall:
        begin = time.monotonic()
        body = read_json_body(image_body, await read_body(request, server.limits))
        server.check_prompt(body.prompt)
        size = size_of(body, server.pipe(body.model)[1])
        return new_drawing(server, body, ImageRequest(body.prompt, **size, **drawing_options(body)), begin)

    @app.get("/app/info", **options)
    async def info() -> Response:
        """Describe models and options."""
        return JSONResponse(page_info(server.worker, server.limits))

    @app.post("/app/draw", **options)
    async def draw(request: Request) -> Response:
        """Draw a prompt."""
        with as_api_errors(image_body.model_fields):
            return await stream(await drawing_of(request))

    @app.post("/app/sidecar", **options)
    async def describe(request: Request) -> Response:
        """Return the sidecar file of an image: all settings that it takes to draw it again."""
        with as_api_errors(image_body.model_fields):
            drawing = await drawing_of(request)
            assert isinstance(drawing.request, ImageRequest)
            return JSONResponse(await server.in_image_thread(sidecar, drawing.model, drawing.request))

    @app.post("/app/edit", **options)
    async def edit(request: Request) -> Response:
        """Redraw a part of an image, extend it, or vary it."""
        begin = time.monotonic()
        with as_api_errors(page_edit_body.model_fields):
            body = read_json_body(page_edit_body, await read_body(request, server.limits))
            server.check_prompt(body.prompt)
            return await stream(new_drawing(server, body, await edit_request(server, body), begin))

    @app.post("/app/ask", **options)
    async def ask(request: Request) -> Response:
        """Answer a question about an image."""
        with as_api_errors(chat_body.model_fields):
            body = read_json_body(chat_body, await read_body(request, server.limits))
            messages = read_messages(body.messages)
            for text in (messages.question, *(turn.question for turn in messages.turns)):
                server.check_prompt(text, "messages")
            if messages.image_url is None:
                raise invalid("messages", "messages hold no image: add an image_url part")
            model, pipe = server.pipe(body.model)
            given = decoding_options(body) | fitting_length(server, pipe, messages, body)
            image = await load_message_image(server, messages.image_url, pipe)
            chat = ChatRequest(image, messages.turns, messages.question, seed=choose_seed(body.seed), **given)
            decoding = DecodingOptions(**given)
            report = AnswerPassReport(pipe.prompts, decoding.block_length if decoding.decoding == "jacobi" else 0)
            warnings = server.warnings(pipe, body, "questions", [messages.question])
            task = server.worker.submit(model, chat, report)
            await task.checked()
            return event_stream(server, answer_events(server, model, task, warnings))
