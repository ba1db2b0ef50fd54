"""Declare every option of image sampling and text decoding once; all other places derive from these two classes.

    SamplingOptions ---+--> arguments of text_to_image, inpaint, image_to_text, ...        takes_options
    DecodingOptions ---+--> fields of requests and of the options of commands              add_options
                       +--> keys of sidecar files and of `generation.json`                 the classes themselves

Decisions:
- A field holds type, default, range and help. `option` declares it; `check_option` is the only check of its range.
- Ranges that depend on the model (codes of an image, codebook size) are checked where the model is known.
- This module imports no torch, so that the command line can print its help at once.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache, wraps
from inspect import Parameter, getdoc, signature
from sys import float_info
from types import NoneType
from typing import Any, ClassVar, Literal, ParamSpec, Self, TypeVar, get_args

from showo_turbo.errors import InputError
from showo_turbo.validation import shown

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

RECOMMENDED = "recommended"
"""Stands for an option that is left out where None has a meaning of its own."""

DIRECTIONS = ("left", "right", "up", "down")
"""Directions of extrapolation."""

MAX_IMAGES = 1000
"""Largest number of images of one prompt."""

MAX_PIXELS_ALONG = 1 << 14
"""Largest height and width; an image of that size takes hundreds of windows."""

MAX_DIRECTIONS = 64
"""Largest number of directions of one extrapolation."""


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    range: str = "",
    limit: str = "",
    flags: tuple[str, ...] = (),
) -> Any:
    """Declare a field of an options class.

    Args:
        default: value of the field if nothing else is given.
        help: one or two sentences; the text of `--help`, docstrings and schemas.
        minimum: smallest value.
        maximum: largest value.
        above: largest value that is too small.
        choices: the values, of a text.
        range: the range in words, for errors: "X is Y: choose RANGE".
        limit: what the model bounds the value by; such a range is checked where the model is known.
        flags: names on the command line; derived from the field's name if left out.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above}
    return field(
        default=default,
        metadata={"help": help, "choices": choices, "range": range, "limit": limit, "flags": flags, **bounds},
    )


@dataclass(frozen=True)
class Options:
    """Check the fields of an options class when it is built.

    Raises:
        InputError: if a value has another type than its field or lies outside its range.
    """

    left_out_is_recommended: ClassVar[bool] = False
    """Whether an option that is left out takes the checkpoint's recommendation rather than its default."""

    def __post_init__(self) -> None:
        for one in fields(self):
            check_option(type(self), one.name, getattr(self, one.name))


@dataclass(frozen=True)
class SamplingOptions(Options):
    """Configure how images are drawn (MaskGIT sampling, arXiv 2202.04200; Show-o, arXiv 2408.12528, section 3.4).

    A checkpoint's `generation.json` holds those that its authors recommend.

    Attributes:
        num_inference_steps: forward passes of the transformer.
        guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance. (It is
            diffusers' scale minus 1.)
        top_k: sample among the k most probable codes; None samples among all.
        temperature: weight of the Gumbel noise in the choice of codes to keep, before the first step.
        schedule: the share of codes that stays masked, over the steps: "cosine", "linear", "sigmoid" or "powX".
        order: which codes are kept first: "confidence" (as published), "halton" or "bayer" (positions far apart), see
            `generation.orders`.
        sampled_steps: sample in this number of first steps and take the most probable codes in the others; None samples
            in all.
        sampled_codes: in a step that samples, sample this number of codes, those that are kept first, and take the most
            probable ones for the others; None samples all. Codes of one step do not see each other, so few samples
            vary an image without contradictions.
        early_exit: finish an image before its last step, as soon as the sum of 1 - p over its sampled codes is at most
            this fraction of its codes; None never does. An approximation, see docs/lab/speed.md.

    Raises:
        InputError: if a value has another type or lies outside its range. Ranges that depend on the model are checked
            by `UnmaskingScheduler`.
    """

    left_out_is_recommended: ClassVar[bool] = True

    num_inference_steps: int = option(
        16,
        "Forward passes of the transformer.",
        minimum=1,
        limit="the number of codes in an image",
        flags=("--steps", "--num-inference-steps"),
    )
    guidance_scale: float = option(
        0.0,
        "Classifier-free guidance w in (1 + w) * conditional - w * unconditional.",
        minimum=0,
        maximum=1000,
        range="0 (no guidance) to 1,000",
    )
    top_k: int | None = option(None, "Sample among the k most probable codes.", minimum=1, limit="the codebook's size")
    temperature: float = option(
        1.0, "Weight of the noise in the choice of codes to keep.", minimum=0, maximum=1e6, range="0 to 1,000,000"
    )
    schedule: str = option("cosine", "Mask schedule: cosine, linear, sigmoid or powX.")
    order: str = option(
        "confidence",
        "Which codes are kept first: confidence, halton or bayer.",
        choices=("confidence", "halton", "bayer"),
    )
    sampled_steps: int | None = option(
        None,
        "Sample in this number of first steps, then take the most probable codes.",
        minimum=0,
        range="0 or more, or None",
    )
    sampled_codes: int | None = option(
        None,
        "In a step that samples, sample only this number of codes, those that are kept first.",
        minimum=1,
        range="1 or more, or None",
    )
    early_exit: float | None = option(
        None,
        "Finish an image early when at most this fraction of its codes is in doubt; an approximation.",
        minimum=0,
        maximum=1,
        range="0 (no doubt) to 1 (after one step), or None",
    )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build options from a dict; what is left out takes its default.

        Raises:
            InputError: if a name is not an option, or as the class.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"sampling options: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    def with_steps(self, num_inference_steps: int | None) -> Self:
        """Return a copy with another number of steps, or these options if it is None.

        Raises:
            InputError: if it is not an integer.
        """
        return self if num_inference_steps is None else replace(self, num_inference_steps=num_inference_steps)

    def override(self, **given: Any) -> Self:
        """Return a copy with the options that are given; None and "recommended" stand for those that are left out.

        For an option of which None is a value, only "recommended" stands for left out.

        Raises:
            InputError: if a name is not an option, or as the class.
        """
        known = [one.name for one in fields(self)]
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"{unknown[0]} is no option: choose among {', '.join(known)}")
        chosen = {name: value for name, value in given.items() if not self.is_left_out(name, value)}
        return replace(self.with_steps(chosen.get("num_inference_steps")), **chosen)

    @classmethod
    def is_left_out(cls, name: str, value: object) -> bool:
        """Return whether a value given for an option stands for none given."""
        declared = cls.__dataclass_fields__[name]
        return isinstance(value, str) and value == RECOMMENDED if is_optional(declared) else value is None


@dataclass(frozen=True)
class DecodingOptions(Options):
    """Configure how text is decoded (Jacobi decoding, arXiv 2502.05415, section 3.1).

    Attributes:
        max_new_tokens: length of the longest answer.
        decoding: "jacobi" (a block of tokens per forward pass) or "autoregressive" (one token). Without sampling both
            give the same answer.
        block_length: tokens per forward pass of Jacobi decoding.
        do_sample: sample tokens instead of taking the most probable one; autoregressive only.
        temperature: divides the logits before sampling.
        top_k: sample among the k most probable tokens; None samples among all.
        sliding_window: decode `block_length` tokens ahead at all times, and the next block too where drafts have been
            good, rather than one block after the other; the answer is the same.
        drafts: take speculative drafts from the question, the answer so far and earlier iterates where these were
            accepted more often than the model's own; the answer is the same.

    Raises:
        InputError: if a value has another type or lies outside its range, or needs another option that is not set.
    """

    max_new_tokens: int = option(64, "Length of the longest answer in tokens.", minimum=1)
    decoding: str = option(
        "jacobi", "jacobi (in parallel) or autoregressive: the same answer.", choices=("jacobi", "autoregressive")
    )
    block_length: int = option(16, "Tokens per forward pass of Jacobi decoding.", minimum=1)
    do_sample: bool = option(False, "Sample tokens; needs autoregressive decoding.")
    temperature: float = option(
        1.0,
        "Divides the logits before sampling.",
        above=1e-6,
        maximum=1e6,
        range="more than 0, up to 1,000,000, or greedy decoding",
    )
    top_k: int | None = option(None, "Sample among the k most probable tokens.", minimum=1, range="1 or more, or None")
    sliding_window: bool = option(True, "Decode a window of tokens ahead instead of block after block.")
    drafts: bool = option(True, "Draft tokens from the text so far; the answer is the same.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.do_sample and self.decoding == "jacobi":
            raise InputError(
                "do_sample needs decoding='autoregressive': Jacobi decoding converges to the greedy answer only"
            )
        if not self.do_sample and (self.temperature != 1.0 or self.top_k is not None):
            raise InputError(
                f"temperature {self.temperature} and top_k {self.top_k} are for sampling: set do_sample=True and "
                "decoding='autoregressive', or leave them out"
            )


def check_option(options: type[Options], name: str, value: Any) -> None:
    """Check a value against the declaration of an option.

    Raises:
        InputError: if it has another type or lies outside the declared range.
    """
    declared = options.__dataclass_fields__[name]
    spec, kind = declared.metadata, value_type(declared)
    if value is None and is_optional(declared):
        return
    expected = None
    if kind is bool and type(value) is not bool:
        expected = "True or False"
    elif kind is int and type(value) is not int:
        expected = "a whole number"
    elif kind is float and not (type(value) in (int, float) and not abs(value) > float_info.max):
        expected = "a finite number"
    elif spec["choices"] and value not in spec["choices"]:
        *others, last = spec["choices"]
        expected = f"{', '.join(others)} or {last}"
    elif kind in (int, float) and not spec["limit"] and not _is_in_range(value, spec):
        expected = range_in_words(declared)
    if expected:
        raise InputError(f"{name} is {shown(value)}: choose {expected}")


def _is_in_range(value: float, spec: Mapping[str, Any]) -> bool:
    """Compare so that NaN is in no range."""
    return (
        (spec["minimum"] is None or value >= spec["minimum"])
        and (spec["maximum"] is None or value <= spec["maximum"])
        and (spec["above"] is None or value > spec["above"])
    )


def range_in_words(declared: Field) -> str:
    """Return the range of an option's values in words, or an empty text if it has none."""
    spec = declared.metadata
    if spec["limit"]:
        return f"{spec['minimum']} to {spec['limit']}"
    return spec["range"] or ("" if spec["minimum"] is None else f"{spec['minimum']} or more")


@cache
def value_type(declared: Field) -> type:
    """Return the type of an option's values, None aside."""
    return next(one for one in (get_args(declared.type) or (declared.type,)) if one is not NoneType)


def is_optional(declared: Field) -> bool:
    """Return whether None is a value of an option."""
    return NoneType in get_args(declared.type)


def argument_of(options: type[Options], declared: Field) -> tuple[Any, Any]:
    """Return type and default of an option as an argument that may be left out.

    Options that are recommended by the checkpoint default to None or, where None is a value, to "recommended".
    """
    annotation: Any = declared.type
    if not options.left_out_is_recommended:
        return annotation, declared.default
    if is_optional(declared):
        return annotation | Literal["recommended"], RECOMMENDED
    return annotation | None, None


def takes_options(options: type[Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a method the options of a class as arguments, after its positional ones.

    The method collects them in its last parameter, `**options`; those that are left out of a call are not in it.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        *own, collected = signature(method).parameters.values()
        positional = [one for one in own if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
        added = []
        for declared in fields(options):
            annotation, default = argument_of(options, declared)
            kind = Parameter.POSITIONAL_OR_KEYWORD
            added.append(Parameter(declared.name, kind, default=default, annotation=annotation))
        parameters = [*positional, *added, *own[len(positional) :], collected]
        expanded = signature(method).replace(parameters=parameters)

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = expanded.bind(*args, **kwargs).arguments
            return method(bound.pop("self"), **bound.pop(collected.name, {}), **bound)

        call.__signature__ = expanded  # type: ignore[attr-defined]  # read by `inspect.signature`
        call.__doc__ = _document(method, fields(options))
        return call

    return decorate


def add_options(
    options: type[Options],
    argument: Callable[[type[Options], Field], tuple[Any, Any]] = argument_of,
    after: str | None = None,
    only: Container[str] | None = None,
    **defaults: Any,
) -> Callable[[C], C]:
    """Add the options of a class to another class, as attributes that `dataclass` then makes fields.

    Args:
        options: the class that declares the options.
        argument: returns type and default of an option's attribute.
        after: own attribute that the options follow; they come first if left out.
        only: names of the options to add; all if left out.
        **defaults: defaults that differ from those that `argument` returns.
    """

    def decorate(cls: C) -> C:
        chosen = [declared for declared in fields(options) if only is None or declared.name in only]
        added: dict[str, Any] = {}
        for declared in chosen:
            added[declared.name], default = argument(options, declared)
            setattr(cls, declared.name, defaults.get(declared.name, default))
        annotations = {} if after else dict(added)
        for name, annotation in cls.__annotations__.items():
            annotations[name] = annotation
            if name == after:
                annotations |= added
        cls.__annotations__ = annotations
        cls.__doc__ = _document(cls, chosen)
        return cls

    return decorate


def options_in(options: type[Options], values: object) -> dict[str, Any]:
    """Return those attributes of an object that are options of a class, by name."""
    return {one.name: getattr(values, one.name) for one in fields(options)}


def _document(documented: object, options: Iterable[Field]) -> str:
    """Return a docstring with the help of options at its end."""
    described = "".join(f"\n    {one.name}: {one.metadata['help']}" for one in options)
    return f"{getdoc(documented)}\n\nOptions:{described}"
