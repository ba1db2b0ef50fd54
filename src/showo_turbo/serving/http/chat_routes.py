"""Dialogues about an image, and images drawn in a dialogue.

messages --> one image, turns, question --> ChatRequest --Worker--> AnswerEvent, .. --> JSON, or events of a stream
         --> the last text               --> request that draws, with `modalities: ["image"]`
"""

import base64
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from showo_turbo.generation.options import DecodingOptions
from showo_turbo.pipelines.chat import ChatTurn
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.dialogues import ChatRequest, dialogue_ids
from showo_turbo.serving.http.application import (
    ERRORS,
    Server,
    choose_seed,
    event_stream,
    now,
    read_body,
    server_sent_event,
    while_connected,
)
from showo_turbo.serving.http.bodies import MAX_STOPS, bodies, given, read_json_body, schema_of
from showo_turbo.serving.http.error_bodies import as_api_errors, invalid
from showo_turbo.serving.http.image_costs import size_of
from showo_turbo.serving.http.image_routes import drawing_options, new_drawing
from showo_turbo.serving.http.images_in import decode_data_url, open_limited, to_model_size
from showo_turbo.serving.http.remote_images import fetch_image
from showo_turbo.serving.reports import AnswerEvent, AnswerReport
from showo_turbo.serving.requests import DrawingRequest, ImageRequest, VaryRequest
from showo_turbo.serving.worker import Submission
from showo_turbo.validation import shown

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


@dataclass(frozen=True)
class Messages:
    """Hold the content of a dialogue.

    Attributes:
        image_url: address of its image, or None.
        turns: questions and answers so far.
        question: the last question.
        warnings: what is ignored.
    """

    image_url: str | None
    turns: list[ChatTurn]
    question: str
    warnings: list[str]


def read_messages(messages: list[Any]) -> Messages:
    """Return the content of messages. Texts of neighbouring messages of one role are joined.

    Raises:
        ApiError: if roles do not alternate from user to user, a part is of another kind, or there are several images.
    """
    urls: list[str] = []
    texts: list[tuple[str, str]] = []
    ignored = 0
    for number, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else []
        text = "" if message.content is None or parts else message.content
        for part in parts or []:
            if part.type == "text":
                text += part.text or ""
            elif part.type == "image_url" and part.image_url is not None and message.role == "user":
                urls.append(part.image_url if isinstance(part.image_url, str) else part.image_url.url)
            elif part.type == "image_url" and message.role == "assistant":
                continue  # an image that the model has drawn
            else:
                raise invalid(
                    f"messages.{number}.content",
                    f"messages.{number} has a part of type {shown(part.type)}: give text, and image_url of users",
                )
        if message.role in ("system", "developer"):
            ignored += 1
        elif message.role not in ("user", "assistant"):
            raise invalid(
                f"messages.{number}.role", f"messages.{number}.role is {shown(message.role)}: choose user or assistant"
            )
        elif texts and texts[-1][0] == message.role:
            texts[-1] = (message.role, f"{texts[-1][1]} {text}".strip())
        else:
            texts.append((message.role, text))
    if len(set(urls)) > 1:
        raise invalid("messages", f"messages hold {len(urls)} images: a dialogue of this model is about one")
    if [role for role, _ in texts[::2]] != ["user"] * len(texts[::2]) or len(texts) % 2 == 0:
        raise invalid("messages", "messages do not go from user to user: the first and the last are the user's")
    contents = [text for _, text in texts]
    turns = [ChatTurn(*pair) for pair in zip(contents[:-1:2], contents[1::2], strict=True)]
    warnings = ["system messages are ignored: the model has no such role"] if ignored else []
    return Messages(urls[0] if urls else None, turns, contents[-1], warnings)


async def load_message_image(server: Server, url: str, pipe: ShowoPipeline) -> Image:
    """Return the image of a dialogue, reduced to what the model reads.

    Raises:
        ApiError: if it cannot be read, or is named by address and that is not allowed.
    """
    remote = url[:5].lower() != "data:"
    if remote and not server.allow_remote_images:
        raise invalid("image_url", "image_url is no data URL: send the image as data:image/png;base64,...")

    def load() -> Image:
        data = fetch_image(url, server.limits.max_body << 20) if remote else decode_data_url(url)
        opened = open_limited(data, server.limits.max_pixels)
        return opened if pipe.model.config.w_clip_vit else to_model_size(opened, pipe)

    return await server.in_image_thread(load)


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


def fitting_length(server: Server, pipe: ShowoPipeline, messages: Messages, body: Any) -> dict[str, int]:
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


async def answer(server: Server, body: Any, messages: Messages, request: "Request", begin: float) -> "Response":
    """Answer the last question, and return the response."""
    from fastapi.responses import JSONResponse

    model, pipe = server.pipe(body.model)
    if messages.image_url is None:
        raise invalid(
            "messages", "messages hold no image: the model answers questions about one, add an image_url part"
        )
    if body.n not in (None, 1):
        raise invalid("n", f"n is {body.n}: answers are one, choose 1")
    stops = stop_sequences(body)
    options = decoding_options(body) | fitting_length(server, pipe, messages, body)
    image = await load_message_image(server, messages.image_url, pipe)
    chat = ChatRequest(image, messages.turns, messages.question, seed=choose_seed(body.seed), **options)
    length = DecodingOptions(**options).max_new_tokens
    report = AnswerReport(length, stops, bool(body.stream), pipe.prompts.cleans_up_spaces)
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


async def draw(server: Server, body: Any, messages: Messages, request: "Request", begin: float) -> "Response":
    """Draw the last text, from the dialogue's image if there is one, and return the response."""
    from fastapi.responses import JSONResponse

    _, pipe = server.pipe(body.model)
    options, size = drawing_options(body), size_of(body, pipe)
    drawn: DrawingRequest = ImageRequest(messages.question, **size, **options)
    if messages.image_url is not None:
        image = await load_message_image(server, messages.image_url, pipe)
        strength = {} if body.strength is None else {"strength": body.strength}
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


def add_chat_routes(app: "FastAPI", server: Server, bearer: Any) -> None:
    """Add the route of dialogues."""
    from fastapi import Depends, Request, Response

    chat_body = bodies().chat
    content = {"application/json": {"schema": schema_of(chat_body)}}

    @app.post(
        "/v1/chat/completions",
        dependencies=[Depends(bearer)],
        responses=ERRORS,
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def complete_chat(request: Request) -> Response:
        """Answer a question about an image, or draw with `modalities: ["image"]`."""
        begin = time.monotonic()
        with as_api_errors(chat_body.model_fields):
            body = read_json_body(chat_body, await read_body(request, server.limits))
            messages = read_messages(body.messages)
            for text in (messages.question, *(turn.question for turn in messages.turns)):
                server.check_prompt(text, "messages")
            modalities = body.modalities or ["text"]
            if modalities not in (["text"], ["image"]):
                raise invalid("modalities", f"modalities is {shown(modalities)}: choose ['text'] or ['image']")
            respond = draw if modalities == ["image"] else answer
            return await respond(server, body, messages, request, begin)
