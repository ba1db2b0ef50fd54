"""Messages of a dialogue: one image, its turns, and the last question."""

from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from showo_turbo.pipelines.chat import ChatTurn
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.http.error_bodies import invalid
from showo_turbo.serving.http.images_in import decode_data_url, open_limited, to_model_size
from showo_turbo.serving.http.remote_images import fetch_image
from showo_turbo.serving.http.server import Server
from showo_turbo.validation import shown


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
