"""Choose which codes to keep in one step of parallel unmasking (MaskGIT, arXiv 2202.04200; Show-o, section 3.4).

    logits -> softmax -> candidates: sampled at masked positions (from the top k, renormalised, with top-k)
                      -> confidence: log p(candidate) + temperature * Gumbel noise, p before top-k
                      -> the least confident candidates are masked again, as many as the schedule says;
                         none if the model is confident of all (with early exit)

Decisions:
- The scheduler works on codebook indices, without model and vocabulary; the loop is `generation.image_denoiser`.
- Logits are needed at masked positions only. Noise is drawn for all positions, as published (one multinomial, then one
  uniform number each), so the same generator and the same logits give the codes of the published sampler.
- Arithmetic is float32, on the device of the logits; the decision is moved to the device of the codes in one transfer.
- The temperature is multiplied by (1 - r) in every step, on its running value: 4 steps from 1.0 use .75, .375, .094, 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.mask_schedules import mask_counts, mask_schedule
from showo_turbo.generation.options import SamplingOptions, check_option
from showo_turbo.generation.orders import priorities
from showo_turbo.validation import check_steps, check_top_k, schedule_exponent

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for the whole batch, or several for equally many rows each, in order; None is torch's default."""

Rows = Tensor | slice
"""Row indices: long (n,), or a slice."""

ALL_ROWS = slice(None)


@dataclass(frozen=True)
class UnmaskingStep:
    """Hold the decision of one step, for `batch` images of `n` codes.

    Attributes:
        candidates: long (batch, n), the known codes and the sampled ones; after the last step, the image.
        confidence: float32 (batch, n); None where nothing depends on it.
        masked: bool (batch, n), the positions that are masked again.
        temperature: weight of the Gumbel noise.
    """

    candidates: Tensor
    confidence: Tensor | None
    masked: Tensor
    temperature: float


class UnmaskingScheduler:
    """Choose, step by step, which codes of an image to keep.

    Example:
        >>> scheduler = UnmaskingScheduler(codebook_size=8192, top_k=200)
        >>> scheduler.set_timesteps(4, num_codes=256)
        >>> step = scheduler.step(logits, 0, codes, masked, generator)
    """

    def __init__(
        self,
        codebook_size: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        schedule: str = "cosine",
        order: str = "confidence",
        sampled_steps: int | None = None,
        sampled_codes: int | None = None,
        early_exit: float | None = None,
    ) -> None:
        """Set the options, which `SamplingOptions` describes.

        Args:
            codebook_size: number of image codes.
            temperature: weight of the Gumbel noise before the first step; 0 keeps the most probable candidates.
            top_k: sample among the k most probable codes; None samples among all.
            schedule: name of a mask schedule, see `mask_schedule`.
            order: which codes to settle first, see `generation.orders`.
            sampled_steps: number of first steps that sample; the others take the most probable codes. None samples in
                all steps.
            sampled_codes: number of codes that such a step samples, those that are kept first: in a fixed order, or
                those whose most probable code has the highest probability. None samples all.
            early_exit: settle all codes of an image as soon as the sum of 1 - p over its candidates, p before top-k,
                is at most this fraction of its codes; None never does.

        Raises:
            InputError: if an option is out of its range.
        """
        checked = {
            "temperature": temperature,
            "order": order,
            "sampled_steps": sampled_steps,
            "sampled_codes": sampled_codes,
            "early_exit": early_exit,
        }
        for name, value in checked.items():
            check_option(SamplingOptions, name, value)
        check_top_k(top_k, codebook_size)
        schedule_exponent(schedule)  # before `mask_schedule`, whose cache takes no list
        self.codebook_size = codebook_size
        self.temperature = temperature
        self.top_k = top_k
        self.schedule = mask_schedule(schedule)
        self.order = order
        self.sampled_steps = sampled_steps
        self.sampled_codes = sampled_codes
        self.early_exit = early_exit

    @classmethod
    def from_options(cls, options: SamplingOptions, codebook_size: int, num_codes: int) -> Self:
        """Build a scheduler with its steps set, for images of `num_codes` codes.

        Raises:
            InputError: if an option is out of its range.
        """
        scheduler = cls(
            codebook_size,
            temperature=options.temperature,
            top_k=options.top_k,
            schedule=options.schedule,
            order=options.order,
            sampled_steps=options.sampled_steps,
            sampled_codes=options.sampled_codes,
            early_exit=options.early_exit,
        )
        scheduler.set_timesteps(options.num_inference_steps, num_codes)
        return scheduler

    def set_timesteps(self, num_inference_steps: int, num_codes: int) -> None:
        """Set the number of steps for images of `num_codes` codes.

        Raises:
            InputError: if there are fewer steps than one or more than codes, or the order needs another grid.
        """
        check_steps(num_inference_steps, num_codes)
        self.priorities = priorities(self.order, num_codes)
        self.num_inference_steps = num_inference_steps
        self.mask_counts = list(mask_counts(self.schedule, num_inference_steps, num_codes))
        self.temperatures = []
        temperature = self.temperature
        for step in range(num_inference_steps):
            progress = (step + 1) / num_inference_steps
            temperature = temperature * (1.0 - progress)
            self.temperatures.append(temperature)

    def choices(self, step_index: int) -> int | None:
        """Return among how many of the most probable codes a step samples; None is all."""
        is_sampled = self.sampled_steps is None or step_index < self.sampled_steps
        return self.top_k if is_sampled else 1

    def noise(
        self, step_index: int, masked: Tensor, generator: Generators, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Draw the random numbers of a step, see `draw_noise`; a step that needs none draws them all the same."""
        choices = self.choices(step_index) or self.codebook_size
        noise = [draw_noise(masked[rows], choices, one, device) for rows, one in split_rows(len(masked), generator)]
        exponential, uniform = noise[0] if len(noise) == 1 else map(torch.cat, zip(*noise, strict=True))
        return exponential, uniform

    def step(
        self,
        logits: Tensor,
        step_index: int,
        codes: Tensor,
        masked: Tensor,
        generator: Generators = None,
        rows: Rows = ALL_ROWS,
    ) -> UnmaskingStep:
        """Sample a candidate for every masked position and choose which ones to mask again.

        Args:
            logits: (masked positions, codebook_size), image after image, guidance applied, or fewer rows, see `rows`;
                converted to float32.
            step_index: 0 to num_inference_steps - 1.
            codes: long (batch, n), codebook indices; values at masked positions are ignored.
            masked: bool (batch, n), the positions that are not known before this step.
            generator: source of random numbers, see `Generators`.
            rows: long (masked positions,), the row of logits of each position, where several share one.

        Returns:
            The decision, on the device of `codes`.

        Raises:
            InputError: if the rows cannot be divided equally among the generators.
        """
        temperature, count = self.temperatures[step_index], self.mask_counts[step_index]
        top_k, probabilities = self.choices(step_index), logits.float().softmax(-1)
        exponential, uniform = self.noise(step_index, masked, generator, logits.device)
        is_sampled = None if top_k == 1 else self._sampled_positions(probabilities, masked, rows)
        if self.priorities is not None and self.early_exit is None:
            candidates, again = settle_in_order(
                self.priorities, probabilities, top_k, exponential, codes, masked, count, rows, is_sampled
            )
            return UnmaskingStep(candidates, None, again, temperature)
        is_open = masked.to(logits.device)
        drawn, probability = draw_codes(probabilities, top_k, exponential, rows, is_sampled)
        chosen = torch.full_like(uniform, torch.finfo(torch.float32).max)  # known positions count as certain
        chosen = chosen.masked_scatter(is_open, probability)
        confidence = _log(chosen) + temperature * -_log(-_log(uniform))
        candidates = codes.to(logits.device).masked_scatter(is_open, drawn)
        if candidates.device != codes.device:  # one transfer; float32 holds codes below 2**24 exactly
            moved = torch.stack([candidates.float(), confidence]).to(codes.device)
            candidates, confidence = moved[0].long(), moved[1]
        priority = confidence
        if self.priorities is not None:
            priority = torch.where(masked, self.priorities.to(confidence), torch.inf)
        again = least_confident(priority, masked, count)
        if self.early_exit is not None:
            finished = (1 - chosen).clamp(min=0).sum(1) <= self.early_exit * chosen.shape[1]
            again &= ~finished[:, None].to(again.device)
        return UnmaskingStep(candidates, confidence, again, temperature)

    def _sampled_positions(self, probabilities: Tensor, masked: Tensor, rows: Rows) -> Tensor | None:
        """Select the masked positions that sample, bool (masked positions,); None if all do."""
        if self.sampled_codes is None:
            return None
        masked = masked.to(probabilities.device)
        if self.priorities is not None:
            priority = self.priorities.to(masked.device).expand(masked.shape)
        else:
            zeros = torch.zeros(masked.shape, device=masked.device)
            priority = zeros.masked_scatter(masked, probabilities.amax(-1)[rows])
        return highest(priority, masked, self.sampled_codes)[masked]


def split_rows(batch: int, generator: Generators) -> list[tuple[slice, torch.Generator | None]]:
    """Return the rows of a batch that each generator draws for.

    Raises:
        InputError: if these are not generators, or the rows cannot be divided equally among them.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return [(slice(0, batch), generator)]
    if not isinstance(generator, Sequence) or not all(isinstance(one, torch.Generator) for one in generator):
        raise InputError(f"generator is {generator!r}: give a torch.Generator or a list of them (a number is a seed)")
    if not generator or batch % len(generator):
        raise InputError(f"generator is a list of {len(generator)} for {batch} images: give one, or one per prompt")
    count = batch // len(generator)
    return [(slice(i * count, (i + 1) * count), source) for i, source in enumerate(generator)]


def draw_noise(
    masked: Tensor, choices: int, generator: torch.Generator | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw the random numbers of one step, in the order of the published sampler.

    They are drawn for all positions, so known ones do not change the numbers of the others; none are drawn if all
    positions are known, since such images would be finished by themselves.

    Args:
        masked: bool (batch, n), the positions to sample.
        choices: number of codes to sample among.
        generator: source of random numbers, used on its own device.
        device: device of the result.

    Returns:
        Exponential noise (masked positions, choices) for `draw_codes`, without rows for a single choice, which needs
        none, and uniform noise (batch, n).
    """
    count = int(masked.count_nonzero())
    if count == 0:
        empty = torch.empty(0, choices, dtype=torch.float32, device=device)
        return empty, torch.ones(masked.shape, dtype=torch.float32, device=device)
    source = device if generator is None else generator.device
    noise = torch.empty(masked.numel(), choices, dtype=torch.float32, device=source)
    exponential = noise.exponential_(generator=generator)
    uniform = torch.rand(masked.shape, generator=generator, dtype=torch.float32, device=source)
    if choices == 1:
        exponential = exponential[:0]
    elif count < masked.numel():
        exponential = exponential[masked.flatten().to(source)]
    return exponential.to(device), uniform.to(device)


def draw_latents(num_latents: int, batch: int, generator: Generators) -> list[int]:
    """Draw the latent of each image, all being equally probable; a model without latents needs no random numbers.

    Args:
        num_latents: `ShowoConfig.num_latents`.
        batch: number of images.
        generator: source of random numbers, used on its own device.

    Raises:
        InputError: if the images cannot be divided equally among the generators.
    """
    latents: list[int] = []
    for rows, source in split_rows(batch, generator):
        count = rows.stop - rows.start
        if num_latents == 1:
            latents += [0] * count
        else:
            device = None if source is None else source.device
            latents += torch.randint(num_latents, (count,), generator=source, device=device).tolist()
    return latents


def draw_codes(
    probabilities: Tensor,
    top_k: int | None,
    exponential: Tensor,
    rows: Rows = ALL_ROWS,
    is_sampled: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample codes, long (positions,), and return them with their probabilities, as `torch.multinomial` does.

    With q from an exponential distribution, argmax(p / q) is code i with probability p_i. torch computes it in this
    way, so the noise can be drawn elsewhere, and for more rows than these.

    Args:
        probabilities: (rows, codebook_size).
        top_k: sample among the k most probable codes; None samples among all.
        exponential: (positions, choices), noise; unused with a single choice.
        rows: the row of each position.
        is_sampled: bool (positions,), those that sample, where others take their most probable code; all if left out.
    """
    if exponential.shape[1] == 1:
        probability, code = probabilities.max(-1)
        return code[rows], probability[rows]
    pool, codes = probabilities, None
    if top_k is not None:
        pool, codes = probabilities.topk(top_k)
        codes = codes[rows]
    pool = pool[rows]
    shares = pool if codes is None else pool / pool.sum(-1, keepdim=True)
    choice = (shares / exponential).argmax(-1, keepdim=True)
    drawn = (choice if codes is None else codes.gather(-1, choice))[:, 0]
    probability = pool.gather(-1, choice)[:, 0]
    if is_sampled is None:
        return drawn, probability
    highest_probability, most_probable = probabilities.max(-1)
    drawn = torch.where(is_sampled, drawn, most_probable[rows])
    return drawn, torch.where(is_sampled, probability, highest_probability[rows])


def settle_in_order(
    priorities: Tensor,
    probabilities: Tensor,
    top_k: int | None,
    exponential: Tensor,
    codes: Tensor,
    masked: Tensor,
    count: int | Tensor,
    rows: Rows = ALL_ROWS,
    is_sampled: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample masked positions and mask the `count` of lowest priority again.

    Args:
        priorities: float32 (n,), see `orders.priorities`.
        probabilities: (rows, codebook_size), or with a single choice other numbers in the same order.
        top_k: as for `draw_codes`, and so are `exponential` and `rows`.
        exponential: likewise.
        codes: long (batch, n), of which those at masked positions are ignored.
        masked: bool (batch, n).
        count: number of positions.
        rows: likewise.
        is_sampled: likewise.

    Returns:
        Candidates, long (batch, n), and the positions that are masked, bool (batch, n).
    """
    device = probabilities.device
    drawn, _ = draw_codes(probabilities, top_k, exponential, rows, is_sampled)
    candidates = codes.to(device).masked_scatter(masked.to(device), drawn).to(codes.device)
    priority = torch.where(masked, priorities.to(masked.device), torch.inf)
    return candidates, least_confident(priority, masked, count)


def highest(priority: Tensor, among: Tensor, count: int | Tensor) -> Tensor:
    """Select the `count` positions of highest priority in each row, of those in the mask `among`, bool (batch, n)."""
    ranks = torch.where(among, priority, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1)
    return (ranks < count) & among


def least_confident(confidence: Tensor, masked: Tensor, count: int | Tensor) -> Tensor:
    """Select the `count` least confident of the masked positions, bool (batch, n).

    Every row keeps at least one position masked and, if possible, settles at least one. Of candidates that tie with the
    first one that is kept, none is masked.
    """
    last = confidence.shape[1] - 1
    count_per_row = (masked.sum(1, keepdim=True) - 1).clamp(max=count).clamp(min(1, last), last)
    border = confidence.sort(1).values.gather(1, count_per_row)
    return (confidence < border) & masked


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-20).log()
