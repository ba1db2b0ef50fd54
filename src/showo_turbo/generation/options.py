"""How an image is sampled, in a few numbers and names."""

from dataclasses import dataclass, fields, replace
from typing import Self

from showo_turbo.errors import InputError
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.validation import check_integer, check_number


@dataclass(frozen=True)
class SamplingOptions:
    """Options of text to image; a checkpoint's `generation.json` holds those its authors recommend.

    Attributes:
        num_inference_steps: passes of the transformer, 1 to the image's codes.
        guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance. (It is
            diffusers' scale minus 1.)
        top_k: draw among the k most probable codes only; None draws among all.
        temperature: weight of the noise in choosing which codes to keep, before the first step.
        schedule: how fast codes are kept: "cosine", "linear", "sigmoid" or "powX".
        order: which codes are kept first: "confidence" (as published) or "halton" (places far apart).
        sampled_steps: so many steps, the first ones, draw at random, and the others take the most probable codes; None
            draws in all.
        early_exit: finish an image before its last step, as soon as the probabilities of the codes drawn leave at most
            this share of them in doubt (the sum of 1 - p, of all the image's codes); None never does. An
            approximation, see docs/speed.md.

    Raises:
        InputError: when a value is of another type. Ranges depend on the model, which checks them.
    """

    num_inference_steps: int = 16
    guidance_scale: float = 0.0
    top_k: int | None = None
    temperature: float = 1.0
    schedule: str = "cosine"
    order: str = "confidence"
    sampled_steps: int | None = None
    early_exit: float | None = None

    def __post_init__(self) -> None:
        check_integer("num_inference_steps", self.num_inference_steps)
        for name in ("top_k", "sampled_steps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        if self.early_exit is not None:
            check_number("early_exit", self.early_exit)
        for name in ("guidance_scale", "temperature"):
            check_number(name, getattr(self, name))

    @classmethod
    def from_dict(cls, values: dict) -> "SamplingOptions":
        """Options by name; what is left out takes its default.

        Raises:
            InputError: when a name is not an option, or a value cannot be.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"sampling options: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    def at(self, num_inference_steps: int | None) -> Self:
        """What is recommended for so many steps, where these options are what is; None is as many as these have.

        Raises:
            InputError: when it is no whole number.
        """
        return self if num_inference_steps is None else replace(self, num_inference_steps=num_inference_steps)

    def scheduler(self, codebook_size: int, num_codes: int) -> UnmaskingScheduler:
        """A scheduler with these options for images of `num_codes` codes.

        Raises:
            InputError: when an option is out of its range.
        """
        scheduler = UnmaskingScheduler(
            codebook_size,
            temperature=self.temperature,
            top_k=self.top_k,
            schedule=self.schedule,
            order=self.order,
            sampled_steps=self.sampled_steps,
            early_exit=self.early_exit,
        )
        scheduler.set_timesteps(self.num_inference_steps, num_codes)
        return scheduler
