"""Routes of the page: what it needs to know, and drawing, answers and edits with an event after every forward pass.

body --> request of the engine --Worker--> DrawingPass or AnswerPass, .. --> server-sent events

Bodies are those of the API, with the same limits and checks. Events are `accepted`, `queue` while others are ahead,
`pass` after each forward pass, the last with `done`, and `error`.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import torch
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from showo_turbo.serving.http.bodies import ChatBody, EditBody, ImageBody, read_json_body
from showo_turbo.serving.http.chat_routes import chat_request, read_chat
from showo_turbo.serving.http.error_bodies import as_api_errors, invalid
from showo_turbo.serving.http.image_costs import windows_of
from showo_turbo.serving.http.image_routes import DrawingCall, drawing_options, new_drawing, read_drawing
from showo_turbo.serving.http.images_in import decode_data_url, open_limited, to_model_size
from showo_turbo.serving.http.page_info import page_info
from showo_turbo.serving.http.server import BEARER, RequestServer, Server
from showo_turbo.serving.http.streams import event_stream, file_bytes, read_body, server_sent_event
from showo_turbo.serving.pass_reports import AnswerPass, AnswerPassReport, DrawingPass, DrawingPassReport
from showo_turbo.serving.requests import (
    DrawingRequest,
    ExtrapolateRequest,
    ImageRequest,
    InpaintRequest,
    VaryRequest,
)
from showo_turbo.serving.submissions import Event, Submission
from showo_turbo.serving.worker import Worker

router = APIRouter(dependencies=[BEARER], include_in_schema=False)

MAX_CODES = 1 << 14
"""Largest number of codes of an image that is edited."""

_SECONDS_BETWEEN_QUEUE_EVENTS = 0.25


_Codes = list[list[int]] | None


class PageEditBody(EditBody):
    """Hold the body of an edit: that of the API, with image and mask as JSON."""

    image: str | None = Field(None, description="The image, as a data URL.")
    codes: _Codes = Field(None, description="The image as codes, row by row, in place of `image`.")
    mask: _Codes = Field(None, description="1 for each code to redraw, else 0, row by row.")


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


async def events_of(worker: Worker, task: Submission) -> AsyncIterator[Event | int]:
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
            elif task.started is None and (now := worker.count_ahead(task)) != ahead:
                ahead = now
                yield ahead
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        task.cancel()


async def drawing_events(drawing: DrawingCall, task: Submission, passes: int) -> AsyncIterator[bytes]:
    """Yield the passes of a request that draws as server-sent events."""
    request, server = drawing.request, drawing.server
    about = {"model": drawing.model, "seed": request.seed, "passes": passes, "warnings": drawing.warnings}
    yield server_sent_event(about, "accepted")
    async for event in events_of(server.worker, task):
        if isinstance(event, int):
            yield server_sent_event({"ahead": event}, "queue")
            continue
        assert isinstance(event, DrawingPass)
        files = [await server.in_image_thread(file_bytes, image, "png", None) for image in event.images]
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
            server.metrics.images.labels(drawing.model).inc(len(files))
        yield server_sent_event(data, "pass")


async def answer_events(server: Server, model: str, task: Submission, warnings: list[str]) -> AsyncIterator[bytes]:
    """Yield the passes of an answer as server-sent events."""
    yield server_sent_event({"model": model, "warnings": warnings}, "accepted")
    async for event in events_of(server.worker, task):
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


async def drawing_stream(drawing: DrawingCall) -> Response:
    """Start a request that draws, and return the stream of its passes."""
    pipe, server = drawing.pipe, drawing.server
    steps = drawing.request.num_inference_steps or pipe.recommended.num_inference_steps  # type: ignore[union-attr]
    report = DrawingPassReport(pipe.prompts.vocabulary.mask_id)
    task = server.worker.submit(drawing.model, drawing.request, report)
    await task.checked()
    return event_stream(server, drawing_events(drawing, task, steps * windows_of(drawing.request, pipe)))


@router.get("/app/info")
async def info(server: RequestServer) -> Response:
    """Describe models and options."""
    return JSONResponse(page_info(server.worker, server.limits))


@router.post("/app/draw")
async def draw(request: Request, server: RequestServer) -> Response:
    """Draw a prompt."""
    with as_api_errors(ImageBody.model_fields):
        return await drawing_stream(await read_drawing(request, server))


@router.post("/app/sidecar")
async def describe(request: Request, server: RequestServer) -> Response:
    """Return the sidecar file of an image: all settings that it takes to draw it again."""
    with as_api_errors(ImageBody.model_fields):
        drawing = await read_drawing(request, server)
        assert isinstance(drawing.request, ImageRequest)
        assert server.sidecar is not None
        return JSONResponse(await server.in_image_thread(server.sidecar, drawing.model, drawing.request))


@router.post("/app/edit")
async def edit(request: Request, server: RequestServer) -> Response:
    """Redraw a part of an image, extend it, or vary it."""
    begin = time.monotonic()
    with as_api_errors(PageEditBody.model_fields):
        body = read_json_body(PageEditBody, await read_body(request, server.limits))
        server.check_prompt(body.prompt)
        return await drawing_stream(new_drawing(server, body, await edit_request(server, body), begin))


@router.post("/app/ask")
async def ask(request: Request, server: RequestServer) -> Response:
    """Answer a question about an image."""
    with as_api_errors(ChatBody.model_fields):
        body, messages = await read_chat(request, server)
        model, pipe = server.pipe(body.model)
        chat = await chat_request(server, body, messages)
        decoding = chat.decoding_options
        report = AnswerPassReport(pipe.prompts, decoding.block_length if decoding.decoding == "jacobi" else 0)
        warnings = server.warnings(pipe, body, "questions", [messages.question])
        task = server.worker.submit(model, chat, report)
        await task.checked()
        return event_stream(server, answer_events(server, model, task, warnings))
