"""Dialogues about an image, and images drawn in a dialogue.

messages --> one image, turns, question --> ChatRequest --Worker--> AnswerEvent, .. --> JSON, or events of a stream
         --> the last text               --> request that draws, with `modalities: ["image"]`
"""

import base64
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from showo_turbo.generation.options import DecodingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.dialogues import ChatRequest, dialogue_ids
from showo_turbo.serving.http.bodies import MAX_STOPS, ChatBody, given, read_json_body, request_body, schema_of
from showo_turbo.serving.http.chat_messages import Messages, load_message_image, read_messages
from showo_turbo.serving.http.error_bodies import as_api_errors, invalid
from showo_turbo.serving.http.image_costs import size_of
from showo_turbo.serving.http.image_routes import drawing_options, new_drawing
from showo_turbo.serving.http.server import BEARER, ERRORS, RequestServer, Server, choose_seed, now
from showo_turbo.serving.http.streams import event_stream, read_body, server_sent_event, while_connected
from showo_turbo.serving.reports import AnswerEvent, AnswerReport
from showo_turbo.serving.requests import DrawingRequest, EditRequest, ImageRequest, VaryRequest
from showo_turbo.serving.submissions import Submission
from showo_turbo.validation import shown

router = APIRouter(dependencies=[BEARER], responses=ERRORS)


def decoding_options(body: Any) -> dict[str, Any]:
    """Return the options of an answer; a temperature above 0 stands for sampling.

    Raises:
        ApiError: if `top_p` is given to sample.
        InputError: if an option is out of its range.
    """
    options = given(DecodingOptions, body)
    if options.get("temperature") == 0:
        del options["temperature"]
    elif "temperature" in options:
        options = {"do_sample": True, "decoding": "autoregressive"} | options
    if options.get("do_sample") and body.top_p not in (None, 1):
        raise invalid("top_p", f"top_p is {body.top_p}: this model samples with top_k, leave top_p out")
    DecodingOptions(**options)
    return options


def fitting_length(pipe: ShowoPipeline, messages: Messages, body: Any) -> dict[str, int]:
    """Return `max_new_tokens` for `max_tokens`, which may be more than the model has positions left."""
    wanted = body.max_completion_tokens or body.max_tokens
    if wanted is None or body.max_new_tokens is not None:
        return {}
    config = pipe.model.config
    image_length = pipe.require_vision_tower().num_features if config.w_clip_vit else config.num_vq_tokens
    questions = [*(turn.question for turn in messages.turns), messages.question]
    cleaned = [pipe.prompts.check_question(question) for question in questions]
    ids = dialogue_ids(pipe.prompts, [0] * image_length, cleaned, [turn.answer for turn in messages.turns])
    return {"max_new_tokens": max(1, min(wanted, pipe.model.max_positions - len(ids)))}


def stop_sequences(body: Any) -> list[str]:
    """Return the texts that end an answer.

    Raises:
        ApiError: if there are too many, or one is empty.
    """
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > MAX_STOPS or not all(stops) or max(map(len, stops), default=0) > 256:
        raise invalid("stop", f"stop is {shown(body.stop)}: give up to {MAX_STOPS} texts of 1 to 256 characters")
    return stops


async def read_chat(request: Request, server: Server) -> tuple[Any, Messages]:
    """Return the body of a dialogue, and the content of its messages.

    Raises:
        ApiError: if the body is invalid or too large, or a text is too long.
    """
    body = read_json_body(ChatBody, await read_body(request, server.limits))
    messages = read_messages(body.messages)
    for text in (messages.question, *(turn.question for turn in messages.turns)):
        server.check_prompt(text, "messages")
    return body, messages


async def chat_request(server: Server, body: Any, messages: Messages) -> ChatRequest:
    """Return the request for an answer to the last question.

    Raises:
        ApiError: if there is no image, or it cannot be read.
        InputError: if an option is out of its range.
    """
    if messages.image_url is None:
        raise invalid(
            "messages", "messages hold no image: the model answers questions about one, add an image_url part"
        )
    _, pipe = server.pipe(body.model)
    options = decoding_options(body) | fitting_length(pipe, messages, body)
    image = await load_message_image(server, messages.image_url, pipe)
    return ChatRequest(image, messages.turns, messages.question, seed=choose_seed(body.seed), **options)


@dataclass
class Answering:
    """Hold a request for an answer, on its way from body to response."""

    server: Server
    model: str
    request: ChatRequest
    body: Any
    warnings: list[str]
    task: Submission
    begin: float
    identity: str

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return a chunk of a stream."""
        kind = "chat.completion.chunk"
        head = {"id": self.identity, "object": kind, "created": now(), "model": self.model}
        return head | {"choices": choices} | more

    def usage(self, event: AnswerEvent) -> dict[str, Any]:
        """Return the tokens of prompt and answer."""
        output = event.output
        return {
            "prompt_tokens": output.prompt_tokens,
            "completion_tokens": len(output.token_ids),
            "total_tokens": output.prompt_tokens + len(output.token_ids),
            "prompt_tokens_details": {"cached_tokens": output.cached_tokens},
        }

    def extension(self, event: AnswerEvent) -> dict[str, Any]:
        """Return the `showo` field of a response."""
        self.server.metrics.answered(self.model, len(event.output.token_ids), event.output.forward_passes)
        return {
            "forward_passes": event.output.forward_passes,
            "seed": self.request.seed,
            "seconds": round(time.monotonic() - self.begin, 4),
            "warnings": self.warnings,
        }

    async def result(self) -> tuple[str, AnswerEvent]:
        """Return the answer and the last event."""
        text = ""
        await self.task.checked()
        async for event in self.task:
            assert isinstance(event, AnswerEvent)
            text += event.delta
            if event.done:
                return text, event
        raise AssertionError("a task ends with its last event")

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the parts of the answer as server-sent events."""
        options = self.body.stream_options
        delta = {"role": "assistant", "content": ""}
        try:
            yield server_sent_event(self.chunk([{"index": 0, "delta": delta, "finish_reason": None}]))
            async for event in self.task:
                assert isinstance(event, AnswerEvent)
                if event.delta:
                    choice = {"index": 0, "delta": {"content": event.delta}, "finish_reason": None}
                    yield server_sent_event(self.chunk([choice]))
                if event.done:
                    last = {"index": 0, "delta": {}, "finish_reason": event.finish_reason}
                    yield server_sent_event(self.chunk([last], showo=self.extension(event)))
                    if options is not None and options.include_usage:
                        yield server_sent_event(self.chunk([], usage=self.usage(event)))
            yield b"data: [DONE]\n\n"
        finally:
            self.task.cancel()


async def answer(server: Server, body: Any, messages: Messages, request: Request, begin: float) -> Response:
    """Answer the last question, and return the response."""
    model, pipe = server.pipe(body.model)
    if body.n not in (None, 1):
        raise invalid("n", f"n is {body.n}: answers are one, choose 1")
    stops, chat = stop_sequences(body), await chat_request(server, body, messages)
    report = AnswerReport(chat.decoding_options.max_new_tokens, stops, bool(body.stream), pipe.prompts.cleans_up_spaces)
    warnings = [*messages.warnings, *server.warnings(pipe, body, "questions", [messages.question])]
    task = server.worker.submit(model, chat, report)
    answering = Answering(server, model, chat, body, warnings, task, begin, f"chatcmpl-{secrets.token_hex(12)}")
    if body.stream:
        await task.checked()
        return event_stream(server, answering.events())
    text, event = await while_connected(request, answering.result())
    message = {"role": "assistant", "content": text, "refusal": None}
    completion = answering.chunk([{"index": 0, "message": message, "finish_reason": event.finish_reason}])
    usage = {"usage": answering.usage(event), "showo": answering.extension(event)}
    return JSONResponse(completion | {"object": "chat.completion"} | usage)


async def draw(server: Server, body: Any, messages: Messages, request: Request, begin: float) -> Response:
    """Draw the last text, or edit or vary the dialogue's image if there is one, and return the response."""
    _, pipe = server.pipe(body.model)
    options, size = drawing_options(body), size_of(body, pipe)
    drawn: DrawingRequest = ImageRequest(messages.question, **size, **options)
    if messages.image_url is not None:
        image = await load_message_image(server, messages.image_url, pipe)
        strength = {} if body.strength is None else {"strength": body.strength}
        if pipe.model.config.edits_images and not strength:
            drawn = EditRequest(image, messages.question, **options)
        else:
            drawn = VaryRequest(image, messages.question, **strength, **options)
    drawing = new_drawing(server, body, drawn, begin)
    drawing.warnings += messages.warnings
    event = await while_connected(request, drawing.result(drawing.start()))
    head = f"data:image/{drawing.file_format};base64,"
    urls = [head + base64.b64encode(file).decode() for file in await drawing.files(event)]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    usage = drawing.usage(event)
    completion: dict[str, Any] = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": now(),
        "model": drawing.model,
        "usage": {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
        },
        "showo": drawing.extension(event),
    }
    message = {"role": "assistant", "content": content}
    if not body.stream:
        return JSONResponse(completion | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def events() -> AsyncIterator[bytes]:
        choice = {"index": 0, "delta": message, "finish_reason": "stop"}
        yield server_sent_event(completion | {"object": "chat.completion.chunk", "choices": [choice]})
        yield b"data: [DONE]\n\n"

    return event_stream(server, events())


@router.post("/v1/chat/completions", openapi_extra=request_body("application/json", schema_of(ChatBody)))
async def complete_chat(request: Request, server: RequestServer) -> Response:
    """Answer a question about an image, or draw with `modalities: ["image"]`."""
    begin = time.monotonic()
    with as_api_errors(ChatBody.model_fields):
        body, messages = await read_chat(request, server)
        modalities = body.modalities or ["text"]
        if modalities not in (["text"], ["image"]):
            raise invalid("modalities", f"modalities is {shown(modalities)}: choose ['text'] or ['image']")
        respond = draw if modalities == ["image"] else answer
        return await respond(server, body, messages, request, begin)
