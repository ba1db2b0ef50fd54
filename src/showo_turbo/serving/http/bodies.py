"""Fields of requests, as pydantic models. Own options derive from their declarations, so a new one appears by itself.

Decisions:
- Types are strict, since `"4"` for a number is a mistake; fields of forms are texts and are converted.
- A field that is unknown but close to an own option is refused. Others are ignored with a warning, since clients send
  fields of other servers.
"""

from dataclasses import Field, fields
from difflib import get_close_matches
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal

from showo_turbo.errors import one_line
from showo_turbo.extras import require_module
from showo_turbo.generation.options import (
    RECOMMENDED,
    DecodingOptions,
    Options,
    SamplingOptions,
    argument_of,
    range_in_words,
)
from showo_turbo.serving.http.error_bodies import ApiError, invalid
from showo_turbo.validation import shown

MAX_PREVIEWS = 3
MAX_STOPS = 4

# fmt: off
IGNORED = frozenset((
    "background", "frequency_penalty", "input_fidelity", "metadata", "moderation", "parallel_tool_calls",
    "presence_penalty", "prompt_cache_key", "quality", "reasoning_effort", "safety_identifier", "service_tier",
    "store", "style", "verbosity",
))
# fmt: on
"""Fields of OpenAI's API without an effect here, which are not worth a warning."""


def _schema_of(declared: Field) -> dict[str, Any]:
    """Return the range of an option in words of JSON schema."""
    spec = declared.metadata
    names = {"minimum": "minimum", "maximum": "maximum", "above": "exclusiveMinimum"}
    return {name: spec[bound] for bound, name in names.items() if spec[bound] is not None}


def _option_fields(options: type[Options]) -> dict[str, Any]:
    """Return pydantic fields of all options of a class; those that are left out are None or "recommended"."""
    from pydantic import Field as BodyField

    own: dict[str, Any] = {}
    for declared in fields(options):
        annotation, default = argument_of(options, declared)
        if not options.left_out_is_recommended:
            annotation, default = annotation | None, None
        if declared.metadata["choices"]:
            annotation = Literal[declared.metadata["choices"]] | None
        values = range_in_words(declared)
        help = f"{declared.metadata['help']} {values[:1].upper()}{values[1:]}{'.' if values else ''}".strip()
        own[declared.name] = (
            annotation,
            BodyField(default, description=help, json_schema_extra=_schema_of(declared) or None),
        )
    return own


@cache
def bodies() -> SimpleNamespace:
    """Return the bodies `images`, `edits` and `chat`.

    Raises:
        InputError: if pydantic is not installed.
    """
    require_module("pydantic", "the server", "serve")
    from pydantic import BaseModel, ConfigDict, create_model
    from pydantic import Field as BodyField

    open_fields = ConfigDict(extra="allow", strict=True, protected_namespaces=())
    common: dict[str, Any] = {
        "model": (str | None, BodyField(None, description="Name of a model; the first one if left out.")),
        "seed": (
            int | None,
            BodyField(
                None, ge=0, lt=2**63, description="Seed; random if left out. The same seed gives the same bytes."
            ),
        ),
        "user": (str | None, BodyField(None, description="Ignored.")),
    }
    drawing: dict[str, Any] = {
        "prompt": (str, BodyField(description="Text of the image.")),
        "n": (int | None, BodyField(None, ge=1, description="Number of images; 1 if left out.")),
        "size": (str | None, BodyField(None, description='Width and height in pixels, "256x256", or "auto".')),
        "response_format": (Literal["b64_json"] | None, BodyField(None, description="Images are returned as base64.")),
        "output_format": (Literal["png", "jpeg", "webp"] | None, BodyField(None, description="png if left out.")),
        "output_compression": (
            int | None,
            BodyField(None, ge=0, le=100, description="Quality of jpeg and webp in percent; 95 if left out."),
        ),
        "stream": (bool | None, BodyField(None, description="Send server-sent events.")),
        "partial_images": (
            int | None,
            BodyField(None, ge=0, le=MAX_PREVIEWS, description="Previews of each image in a stream."),
        ),
    }
    sampling, decoding = _option_fields(SamplingOptions), _option_fields(DecodingOptions)
    edits: dict[str, Any] = {
        "strength": (float | None, BodyField(None, description="Fraction of the image that a variation redraws.")),
        "direction": (
            str | list[str] | None,
            BodyField(None, description="Extend the image: left, right, up, down, or several, with commas in forms."),
        ),
        "offset": (int | None, BodyField(None, description="Codes that are added beyond half an image at a time.")),
    }
    image_url: Any = create_model("ImageUrl", __config__=open_fields, url=(str, ...))
    part: Any = create_model(
        "ContentPart",
        __config__=open_fields,
        type=(str, ...),
        text=(str | None, None),
        image_url=(image_url | str | None, None),
    )
    message: Any = create_model(
        "Message", __config__=open_fields, role=(str, ...), content=(str | list[part] | None, None)
    )
    stream_options: Any = create_model("StreamOptions", __config__=open_fields, include_usage=(bool | None, None))
    chat: dict[str, Any] = {
        "messages": (list[message], BodyField(description="The dialogue: text, and one image.", min_length=1)),
        "max_tokens": (int | None, BodyField(None, ge=1, description="Length of the longest answer.")),
        "max_completion_tokens": (int | None, BodyField(None, ge=1, description="Another name of max_tokens.")),
        "temperature": (
            float | None,
            BodyField(None, ge=0, le=1e6, description="Sample tokens; greedy decoding if 0 or left out."),
        ),
        "top_p": (float | None, BodyField(None, ge=0, le=1, description="Must be 1 or left out to sample.")),
        "stop": (str | list[str] | None, BodyField(None, description="Texts that end the answer, up to four.")),
        "n": (int | None, BodyField(None, ge=1, description="Number of images; answers are one.")),
        **{name: drawing[name] for name in ("size", "output_format", "output_compression", "stream")},
        "strength": edits["strength"],
        "stream_options": (stream_options | None, None),
        "modalities": (list[str] | None, BodyField(None, description='["text"], or ["image"] to draw.')),
    }
    build = {
        "images": ("ImageBody", common | drawing | sampling),
        "edits": ("EditBody", common | drawing | edits | sampling),
        "chat": ("ChatBody", decoding | sampling | common | chat),  # shared names may be "recommended"
    }
    made: dict[str, type[BaseModel]] = {
        name: create_model(title, __config__=open_fields, **own) for name, (title, own) in build.items()
    }
    return SimpleNamespace(**made)


def schema_of(body: Any) -> dict[str, Any]:
    """Return the JSON schema of a body, without references."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(definitions[value["$ref"].rpartition("/")[2]])
            return {name: inlined(one) for name, one in value.items()}
        return [inlined(one) for one in value] if isinstance(value, list) else value

    return inlined(schema)


def read_json_body(body: type, raw: bytes) -> Any:
    """Return a body that was sent as JSON.

    Raises:
        ApiError: if it is not valid JSON, or a field is missing or invalid.
    """
    from pydantic_core import from_json

    try:
        values = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(None, f"the body is no valid JSON ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise invalid(None, "the body is no JSON object: give one with the fields of the request")
    return _validated(body, body.model_validate, values)  # type: ignore[attr-defined]


def read_form_body(body: type, texts: dict[str, str]) -> Any:
    """Return a body that was sent as a form; empty fields count as left out.

    Raises:
        ApiError: if a field is missing or invalid.
    """
    given = {name: text for name, text in texts.items() if text != "" or name == "prompt"}
    return _validated(body, lambda values: body.model_validate_strings(values, strict=False), given)  # type: ignore[attr-defined]


def _validated(body: type, validate: Any, values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        found = validate(values)
    except ValidationError as error:
        raise _first_error(error, values) from None
    options = {one.name for kind in (SamplingOptions, DecodingOptions) for one in fields(kind)}
    for name in found.model_extra or {}:
        if close := get_close_matches(name, options | {"seed", "partial_images", "direction", "strength"}, 1, 0.85):
            raise invalid(name[:60], f"{shown(name)} is unknown: choose {close[0]}")
    return found


def _first_error(error: Any, values: dict[str, Any]) -> ApiError:
    """Return the first error of a validation, with the path of the field."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(str(step) for step in first["loc"] if isinstance(step, int) or step in _names(values))
    param = param or str(first["loc"][0])
    if first["type"] == "missing":
        return ApiError(400, f"{first['loc'][-1]} is missing: give it", "missing_value", str(first["loc"][-1]))
    return invalid(param[:100], f"{param[:100]} is {shown(first['input'])}: {first['msg'].lower()}")


def _names(value: object) -> set[str]:
    """Return all names in a nested JSON value."""
    if isinstance(value, dict):
        return {str(name) for name in value}.union(*map(_names, value.values()))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def given(options: type[Options], body: Any) -> dict[str, Any]:
    """Return the options of a class that a body gives, after checking their ranges.

    Raises:
        InputError: if one is out of its range.
    """
    values = {one.name: getattr(body, one.name) for one in fields(options)}
    if issubclass(options, SamplingOptions):
        chosen = {name: value for name, value in values.items() if not options.is_left_out(name, value)}
        SamplingOptions().override(**chosen)
        return chosen
    return {name: value for name, value in values.items() if value not in (None, RECOMMENDED)}


def ignored_fields(body: Any) -> list[str]:
    """Return a warning for each field that has no effect."""
    return [f"{name[:60]} is unknown and ignored" for name in body.model_extra or {} if name not in IGNORED]
