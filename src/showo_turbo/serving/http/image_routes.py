"""Images of prompts, and edits of images.

body --> request of the engine --Worker--> DrawingEvent, .. --image threads--> files --> JSON, or events of a stream
"""

import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import ImageSource
from showo_turbo.serving.http.bodies import (
    EditBody,
    ImageBody,
    given,
    read_form_body,
    read_json_body,
    request_body,
    schema_of,
)
from showo_turbo.serving.http.error_bodies import as_api_errors, invalid
from showo_turbo.serving.http.forms import read_form
from showo_turbo.serving.http.image_costs import check_cost, size_of, windows_of
from showo_turbo.serving.http.images_in import has_hole, mask_of, open_limited, to_model_size
from showo_turbo.serving.http.server import BEARER, ERRORS, RequestServer, Server, choose_seed, now
from showo_turbo.serving.http.streams import event_stream, file_bytes, read_body, server_sent_event, while_connected
from showo_turbo.serving.reports import DrawingEvent, DrawingReport, preview_passes
from showo_turbo.serving.requests import (
    DrawingRequest,
    EditRequest,
    ExtrapolateRequest,
    ImageRequest,
    InpaintRequest,
    VaryRequest,
)
from showo_turbo.serving.submissions import Submission
from showo_turbo.validation import shown

router = APIRouter(dependencies=[BEARER], responses=ERRORS)


@dataclass
class DrawingCall:
    """Hold a request that draws, on its way from body to response.

    Attributes:
        server: what all routes share.
        model: name of the model.
        pipe: its pipeline.
        body: the body.
        request: the request of the engine.
        warnings: warnings for the client.
        begin: time of arrival, of `time.monotonic`.
    """

    server: Server
    model: str
    pipe: ShowoPipeline
    body: Any
    request: DrawingRequest
    warnings: list[str]
    begin: float

    def start(self, previews: int = 0) -> Submission:
        """Give the request to the worker; `previews` of each image are reported.

        Raises:
            QueueFullError: if too many requests wait.
            DrainingError: if the server is about to stop.
        """
        steps = self.request.num_inference_steps or self.pipe.recommended.num_inference_steps  # type: ignore[union-attr]
        passes = steps * windows_of(self.request, self.pipe)
        report = DrawingReport(preview_passes(passes, previews))
        return self.server.worker.submit(self.model, self.request, report)

    @property
    def file_format(self) -> str:
        """Format of the image files."""
        return self.body.output_format or "png"

    async def files(self, event: DrawingEvent) -> list[bytes]:
        """Return the images of an event as files."""
        begin = time.monotonic()
        file_format, quality = self.file_format, self.body.output_compression
        files = [await self.server.in_image_thread(file_bytes, image, file_format, quality) for image in event.images]
        self.server.metrics.stage(self.model, "encode", begin)
        if event.done:
            self.server.metrics.images.labels(self.model).inc(len(files))
        return files

    def usage(self, event: DrawingEvent) -> dict[str, Any]:
        """Return the tokens of prompt and images."""
        text = len(self.pipe.prompts.text_to_image(str(self.request.prompt)))
        codes = event.num_codes * len(event.images)
        given_image = getattr(self.request, "image", None) is not None
        image = self.pipe.model.config.num_vq_tokens if given_image else 0
        return {
            "input_tokens": text + image,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image},
            "output_tokens": codes,
            "total_tokens": text + image + codes,
        }

    def extension(self, event: DrawingEvent) -> dict[str, Any]:
        """Return the `showo` field of a response."""
        return {
            "forward_passes": event.forward_passes,
            "seed": self.request.seed,
            "seconds": round(time.monotonic() - self.begin, 4),
            "warnings": self.warnings,
        }

    async def result(self, task: Submission) -> DrawingEvent:
        """Return the last event."""
        await task.checked()
        async for event in task:
            if event.done:
                return event  # type: ignore[return-value]
        raise AssertionError("a task ends with its last event")


def new_drawing(server: Server, body: Any, request: DrawingRequest, begin: float) -> DrawingCall:
    """Return a request that draws, after checking its cost."""
    model, pipe = server.pipe(body.model)
    check_cost(server.limits, request, pipe)
    warnings = server.warnings(pipe, body, "prompts", [str(request.prompt)])
    return DrawingCall(server, model, pipe, body, request, warnings, begin)


async def read_drawing(request: Request, server: Server) -> DrawingCall:
    """Return the request of a body with a prompt.

    Raises:
        ApiError: if the body is invalid, too large or too costly.
        InputError: if an option is out of its range.
    """
    begin = time.monotonic()
    body = read_json_body(ImageBody, await read_body(request, server.limits))
    server.check_prompt(body.prompt)
    size = size_of(body, server.pipe(body.model)[1])
    return new_drawing(server, body, ImageRequest(body.prompt, **size, **drawing_options(body)), begin)


async def image_response(drawing: DrawingCall, request: Request, kind: str) -> Response:
    """Draw, and return the response: JSON, or a stream of events of a kind."""
    body = drawing.body
    task = drawing.start((body.partial_images or 0) if body.stream else 0)
    if body.stream:
        await task.checked()
        return event_stream(drawing.server, image_events(drawing, task, kind))
    event = await while_connected(request, drawing.result(task))
    data = [{"b64_json": base64.b64encode(file).decode()} for file in await drawing.files(event)]
    size = event.images[0].size
    return JSONResponse(
        {
            "created": now(),
            "data": data,
            "size": f"{size[0]}x{size[1]}",
            "output_format": drawing.file_format,
            "usage": drawing.usage(event),
            "showo": drawing.extension(event),
        }
    )


async def image_events(drawing: DrawingCall, task: Submission, kind: str) -> AsyncIterator[bytes]:
    """Yield previews and images as server-sent events."""
    try:
        previews = 0
        async for event in task:
            assert isinstance(event, DrawingEvent)
            for number, file in enumerate(await drawing.files(event)):
                size = event.images[0].size
                name = f"{kind}.completed" if event.done else f"{kind}.partial_image"
                data = {
                    "type": name,
                    "b64_json": base64.b64encode(file).decode(),
                    "created_at": now(),
                    "size": f"{size[0]}x{size[1]}",
                    "output_format": drawing.file_format,
                    "background": "opaque",
                    "quality": "high",
                    "showo": drawing.extension(event) | {"image_index": number},
                }
                data |= {"usage": drawing.usage(event)} if event.done else {"partial_image_index": previews}
                yield server_sent_event(data, name)
            previews += 1
    finally:
        task.cancel()


def drawing_options(body: Any) -> dict[str, Any]:
    """Return the arguments that all requests that draw have in common.

    Raises:
        InputError: if an option is out of its range.
    """
    return {"num_images_per_prompt": body.n or 1, "seed": choose_seed(body.seed)} | given(SamplingOptions, body)


async def edit_request(server: Server, body: Any, image: bytes, mask: bytes | None) -> DrawingRequest:
    """Return the request of an edit: inpainting by a mask, extrapolation by `direction`, a variation by `strength`.

    Without these and without a transparent part of the image, the prompt is an instruction.

    Raises:
        ApiError: if an image cannot be read, the arguments belong to different edits, or the model follows no
            instructions.
    """
    name, pipe = server.pipe(body.model)
    options, pixels = drawing_options(body), server.limits.max_pixels
    if size_of(body, pipe) not in ({}, {"height": pipe.resolution, "width": pipe.resolution}):
        raise invalid("size", f"size is {shown(body.size)}: edits have the model's size, choose 'auto'")
    kinds = {"mask": mask, "direction": body.direction, "strength": body.strength}
    chosen = [name for name, value in kinds.items() if value is not None]
    if len(chosen) > 1:
        raise invalid(chosen[1], f"{chosen[1]} and {chosen[0]} are different edits: give one of them")
    if body.offset is not None and body.direction is None:
        raise invalid("offset", "offset is for extrapolation: give a direction, or leave it out")

    def read() -> tuple[ImageSource, Any]:
        opened = open_limited(image, pixels)
        if mask is None and not chosen and has_hole(opened):
            return to_model_size(opened, pipe), mask_of(opened, opened, pipe)
        masked = None if mask is None else mask_of(open_limited(mask, pixels, "mask"), opened, pipe)
        return to_model_size(opened, pipe), masked

    source, masked = await server.in_image_thread(read)
    if masked is not None:
        return InpaintRequest(source, masked, body.prompt, **options)
    if body.direction is not None:
        given_directions = body.direction.split(",") if isinstance(body.direction, str) else body.direction
        directions = [direction.strip() for direction in given_directions]
        return ExtrapolateRequest(source, body.prompt, directions, offset=body.offset or 0, **options)
    if body.strength is not None:
        return VaryRequest(source, body.prompt, strength=body.strength, **options)
    if not pipe.model.config.edits_images:
        raise invalid(
            "mask",
            f"without a mask the prompt is an instruction, and model {shown(name)} was not trained to follow one: "
            "give a mask to redraw a part of the image, strength to vary it, or direction to extend it",
        )
    return EditRequest(source, body.prompt, **options)


def _form_schema() -> dict[str, Any]:
    """Return the schema of the form of an edit: its body, and files."""
    schema, as_file = schema_of(EditBody), {"type": "string", "format": "binary"}
    properties = {"image": as_file, "mask": as_file} | schema["properties"]
    return schema | {"properties": properties, "required": ["image", "prompt"]}


@router.post("/v1/images/generations", openapi_extra=request_body("application/json", schema_of(ImageBody)))
async def generate_images(request: Request, server: RequestServer) -> Response:
    """Draw images of a prompt; with `stream`, previews on the way."""
    with as_api_errors(ImageBody.model_fields):
        return await image_response(await read_drawing(request, server), request, "image_generation")


@router.post("/v1/images/edits", openapi_extra=request_body("multipart/form-data", _form_schema()))
async def edit_images(request: Request, server: RequestServer) -> Response:
    """Redraw the part of an image that is white or transparent in a mask, extend it, vary it, or edit it as told."""
    begin = time.monotonic()
    with as_api_errors({"image", "mask", *EditBody.model_fields}):
        texts, files = await read_form(await read_body(request, server.limits), request)
        body = read_form_body(EditBody, texts)
        server.check_prompt(body.prompt)
        images, masks = files.pop("image", []), files.pop("mask", [])
        if len(images) != 1:
            raise invalid("image", f"there are {len(images)} images: give one file, image")
        if len(masks) > 1 or files:
            raise invalid("mask", "there are further files: give image and, if needed, mask")
        edit = await edit_request(server, body, images[0], masks[0] if masks else None)
        return await image_response(new_drawing(server, body, edit, begin), request, "image_edit")
