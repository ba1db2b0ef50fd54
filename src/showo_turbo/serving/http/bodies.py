"""Fields of requests, as pydantic models. Own options derive from their declarations, so a new one appears by itself.

Decisions:
- Types are strict, since `"4"` for a number is a mistake; fields of forms are texts and are converted.
- A field that is unknown but close to an own option is refused. Others are ignored with a warning, since clients send
  fields of other servers.
"""

from dataclasses import Field as OptionField
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json

from showo_turbo.errors import one_line
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


class _OpenModel(BaseModel):
    """Accept unknown fields, and no conversions."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class _Body(_OpenModel):
    """Fields of all requests."""

    model: str | None = Field(None, description="Name of a model; the first one if left out.")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Seed; random if left out. The same seed gives the same bytes."
    )
    user: str | None = Field(None, description="Ignored.")
    size: str | None = Field(None, description='Width and height in pixels, "256x256", or "auto".')
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="png if left out.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of jpeg and webp in percent; 95 if left out."
    )
    stream: bool | None = Field(None, description="Send server-sent events.")


class _Drawing(_Body):
    """Fields of requests that draw."""

    prompt: str = Field(description="Text of the image.")
    n: int | None = Field(None, ge=1, description="Number of images; 1 if left out.")
    response_format: Literal["b64_json"] | None = Field(None, description="Images are returned as base64.")
    partial_images: int | None = Field(None, ge=0, le=MAX_PREVIEWS, description="Previews of each image in a stream.")


class _Edit(_Drawing):
    """Fields of requests that edit an image."""

    strength: float | None = Field(None, description="Fraction of the image that a variation redraws.")
    direction: str | list[str] | None = Field(
        None, description="Extend the image: left, right, up, down, or several, with commas in forms."
    )
    offset: int | None = Field(None, description="Codes that are added beyond half an image at a time.")


class _ImageUrl(_OpenModel):
    url: str


class _ContentPart(_OpenModel):
    type: str
    text: str | None = None
    image_url: _ImageUrl | str | None = None


class _Message(_OpenModel):
    role: str
    content: str | list[_ContentPart] | None = None


class _StreamOptions(_OpenModel):
    include_usage: bool | None = None


class _Chat(_Body):
    """Fields of dialogues."""

    messages: list[_Message] = Field(description="The dialogue: text, and one image.", min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="Length of the longest answer.")
    max_completion_tokens: int | None = Field(None, ge=1, description="Another name of max_tokens.")
    temperature: float | None = Field(
        None, ge=0, le=1e6, description="Sample tokens; greedy decoding if 0 or left out."
    )
    top_p: float | None = Field(None, ge=0, le=1, description="Must be 1 or left out to sample.")
    stop: str | list[str] | None = Field(None, description="Texts that end the answer, up to four.")
    n: int | None = Field(None, ge=1, description="Number of images; answers are one.")
    strength: float | None = Field(None, description="Fraction of the image that a variation redraws.")
    stream_options: _StreamOptions | None = None
    modalities: list[str] | None = Field(None, description='["text"], or ["image"] to draw.')


def _schema_of_option(declared: OptionField) -> dict[str, Any]:
    """Return the range of an option in words of JSON schema."""
    spec = declared.metadata
    names = {"minimum": "minimum", "maximum": "maximum", "above": "exclusiveMinimum"}
    return {name: spec[bound] for bound, name in names.items() if spec[bound] is not None}


def _field_of_option(options: type[Options], declared: OptionField) -> tuple[Any, Any]:
    """Return the pydantic field of an option; one that is left out is None or "recommended"."""
    annotation, default = argument_of(options, declared)
    if not options.left_out_is_recommended:
        annotation, default = annotation | None, None
    if declared.metadata["choices"]:
        annotation = Literal[declared.metadata["choices"]] | None
    values = range_in_words(declared)
    help = f"{declared.metadata['help']} {values[:1].upper()}{values[1:]}{'.' if values else ''}".strip()
    return annotation, Field(default, description=help, json_schema_extra=_schema_of_option(declared) or None)


def _with_options(title: str, base: type[BaseModel], *kinds: type[Options]) -> Any:
    """Return a body with the fields of `base` and those options that it does not declare itself."""
    own = {one.name: _field_of_option(kind, one) for kind in kinds for one in fields(kind)}
    fresh: dict[str, Any] = {name: field for name, field in own.items() if name not in base.model_fields}
    return create_model(title, __base__=base, **fresh)


ImageBody = _with_options("ImageBody", _Drawing, SamplingOptions)
EditBody = _with_options("EditBody", _Edit, SamplingOptions)
ChatBody = _with_options("ChatBody", _Chat, DecodingOptions, SamplingOptions)


def schema_of(body: type[BaseModel]) -> dict[str, Any]:
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


def request_body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the documentation of a body that a route reads by itself."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def read_json_body(body: type[BaseModel], raw: bytes) -> Any:
    """Return a body that was sent as JSON.

    Raises:
        ApiError: if it is not valid JSON, or a field is missing or invalid.
    """
    try:
        values = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(None, f"the body is no valid JSON ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise invalid(None, "the body is no JSON object: give one with the fields of the request")
    return _validated(body.model_validate, values)


def read_form_body(body: type[BaseModel], texts: dict[str, str]) -> Any:
    """Return a body that was sent as a form; empty fields count as left out.

    Raises:
        ApiError: if a field is missing or invalid.
    """
    given = {name: text for name, text in texts.items() if text != "" or name == "prompt"}
    return _validated(lambda values: body.model_validate_strings(values, strict=False), given)


def _validated(validate: Any, values: dict[str, Any]) -> Any:
    try:
        found = validate(values)
    except ValidationError as error:
        raise _first_error(error, values) from None
    options = {one.name for kind in (SamplingOptions, DecodingOptions) for one in fields(kind)}
    for name in found.model_extra or {}:
        if close := get_close_matches(name, options | {"seed", "partial_images", "direction", "strength"}, 1, 0.85):
            raise invalid(name[:60], f"{shown(name)} is unknown: choose {close[0]}")
    return found


def _first_error(error: ValidationError, values: dict[str, Any]) -> ApiError:
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
