"""One step of parallel unmasking (MaskGIT, arXiv 2202.04200; Show-o, arXiv 2408.12528, section 3.4).

    logits -> softmax -> candidates: a random draw at masked positions (from the top k, renormalised, if asked)
                      -> confidence: log p(candidate) + temperature * Gumbel noise, p before top-k
                      -> the least confident candidates are masked again, as many as the schedule says;
                         none if the model hardly doubts any (early exit, if asked)

Decisions:
- The scheduler works on codebook indices and knows neither model nor vocabulary; the loop is `generation.image`.
- Scores are needed at masked positions only. Noise is drawn for all of them, as published (one multinomial, then one
  uniform number each), so the same generator and the same logits give the codes of the published sampler.
- Arithmetic is float32, on the device of the scores; the decision is brought back to where the codes are at once.
- The temperature falls by (1 - r) at every step, on its running value: 4 steps from 1.0 use .75, .375, .094, 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.orders import check_order, halton_ranks
from showo_turbo.generation.schedules import mask_schedule

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for the whole batch, or several that share its rows equally and in order; None is torch's default."""

Rows = Tensor | slice
"""Long (n,), or a slice."""

ALL_ROWS = slice(None)


@dataclass(frozen=True)
class UnmaskingStep:
    """What one step decides, for `batch` images of `n` codes.

    Attributes:
        candidates: long (batch, n), known codes where they are known, else the code drawn; of the last step, the image.
        confidence: float32 (batch, n).
        masked: bool (batch, n), the positions masked again.
        temperature: what the Gumbel noise was multiplied with.
    """

    candidates: Tensor
    confidence: Tensor
    masked: Tensor
    temperature: float


class UnmaskingScheduler:
    """Decides, step by step, which codes of an image to keep.

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
        early_exit: float | None = None,
    ) -> None:
        """Check and keep the options.

        Args:
            codebook_size: number of image codes.
            temperature: weight of the Gumbel noise before the first step; 0 keeps the most probable candidates.
            top_k: draw among the k most probable codes only; all of them if left out.
            schedule: name of a mask schedule, see `generation.schedules`.
            order: which codes to settle first, see `generation.orders`.
            sampled_steps: so many steps, the first ones, draw at random; the others take the most probable codes. All
                draw if left out.
            early_exit: settle all of an image at once, as soon as its candidates' doubts 1 - p, p before top-k, add up
                to at most this share of its codes; never if left out.

        Raises:
            InputError: when an option is out of its range.
        """
        if top_k is not None and not 1 <= top_k <= codebook_size:
            raise InputError(f"top_k is {top_k}: choose 1 to {codebook_size} (the codebook's size), or None")
        if not temperature >= 0:
            raise InputError(f"temperature is {temperature}: choose 0 or more")
        if sampled_steps is not None and sampled_steps < 0:
            raise InputError(f"sampled_steps is {sampled_steps}: choose 0 or more, or None")
        if early_exit is not None and not 0 <= early_exit <= 1:
            raise InputError(f"early_exit is {early_exit}: choose 0 (no doubt) to 1 (after one step), or None")
        self.codebook_size = codebook_size
        self.temperature = temperature
        self.top_k = top_k
        self.schedule = mask_schedule(schedule)
        self.order = check_order(order)
        self.sampled_steps = sampled_steps
        self.early_exit = early_exit

    def set_timesteps(self, num_inference_steps: int, num_codes: int) -> None:
        """Lay out the steps for images of `num_codes` codes.

        Raises:
            InputError: when there are fewer steps than one or more than codes, or the order does not suit the grid.
        """
        if not 1 <= num_inference_steps <= num_codes:
            raise InputError(
                f"num_inference_steps is {num_inference_steps}: choose 1 to {num_codes} (the image's codes)"
            )
        if self.order == "halton":
            halton_ranks(num_codes)
        self.num_inference_steps = num_inference_steps
        self.temperatures, self.mask_counts = [], []
        temperature = self.temperature
        for step in range(num_inference_steps):
            progress = (step + 1) / num_inference_steps
            temperature = temperature * (1.0 - progress)
            self.temperatures.append(temperature)
            self.mask_counts.append(int((num_codes * self.schedule(torch.tensor(progress))).floor()))

    def step(
        self,
        logits: Tensor,
        step_index: int,
        codes: Tensor,
        masked: Tensor,
        generator: Generators = None,
        rows: Rows = ALL_ROWS,
    ) -> UnmaskingStep:
        """Draw a candidate for every masked position and choose which ones to mask again.

        Args:
            logits: (masked positions, codebook_size), image after image, guidance applied, or fewer rows, see `rows`;
                float32 is used whatever comes.
            step_index: 0 to num_inference_steps - 1.
            codes: long (batch, n), codebook indices; their values at masked positions do not matter.
            masked: bool (batch, n), the positions not known before this step.
            generator: where random numbers come from, see `Generators`.
            rows: long (masked positions,), which row of the scores each of them has, where several have the same.

        Returns:
            The decision, on the device of `codes`, wherever the scores are.

        Raises:
            InputError: when the generators cannot share the rows equally.
        """
        probabilities = logits.float().softmax(-1)
        temperature, top_k = self.temperatures[step_index], self._top_k(step_index)
        noise = [
            draw_noise(masked[share], top_k or self.codebook_size, source, logits.device)
            for share, source in share_rows(len(masked), generator)
        ]
        exponential, uniform = (torch.cat(piece) for piece in zip(*noise, strict=True))
        drawn, probability = draw_codes(probabilities, top_k, exponential, rows)
        places = masked.to(logits.device)
        chosen = torch.full_like(uniform, torch.finfo(torch.float32).max)
        chosen = chosen.masked_scatter(places, probability)
        confidence = _log(chosen) + temperature * -_log(-_log(uniform))
        candidates = codes.to(logits.device).masked_scatter(places, drawn)
        candidates, confidence = _fetch(candidates, confidence, codes.device)
        again = least_confident(self._priority(confidence, masked), masked, self.mask_counts[step_index])
        if self.early_exit is not None:
            again &= ~self._is_sure(chosen)[:, None].to(again.device)
        return UnmaskingStep(candidates, confidence, again, temperature)

    def _top_k(self, step_index: int) -> int | None:
        """Among how many codes a step draws."""
        return self.top_k if self.sampled_steps is None or step_index < self.sampled_steps else 1

    def _priority(self, confidence: Tensor, masked: Tensor) -> Tensor:
        """What decides which candidates stay: confidence, or earliness in a fixed order."""
        if self.order == "confidence":
            return confidence
        turn = halton_ranks(masked.shape[1]).to(confidence)
        return torch.where(masked, -turn, torch.inf)

    def _is_sure(self, chosen: Tensor) -> Tensor:
        """Which images are to be settled at once, bool (batch,), by their codes' probabilities, above 1 if known."""
        return (1 - chosen).clamp(min=0).sum(1) <= self.early_exit * chosen.shape[1]


def share_rows(batch: int, generator: Generators) -> list[tuple[slice, torch.Generator | None]]:
    """Which rows of a batch each generator draws for.

    Raises:
        InputError: when they are no generators, or cannot share the rows equally.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return [(slice(0, batch), generator)]
    if not isinstance(generator, Sequence) or not all(isinstance(one, torch.Generator) for one in generator):
        raise InputError(f"generator is {generator!r}: give a torch.Generator or a list of them (a number is a seed)")
    if not generator or batch % len(generator):
        raise InputError(f"generator is a list of {len(generator)} for {batch} images: give one, or one per prompt")
    share = batch // len(generator)
    return [(slice(i * share, (i + 1) * share), source) for i, source in enumerate(generator)]


def draw_noise(
    masked: Tensor, choices: int, generator: torch.Generator | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The random numbers of one step, in the order in which the published sampler draws them.

    They are drawn for all positions, so which ones are known does not change what the others get; but none if all are
    known, since images by themselves would be finished.

    Args:
        masked: bool (batch, n), where a code is to be drawn.
        choices: among how many.
        generator: drawn from on its own device.
        device: where the numbers are needed.

    Returns:
        Exponential ones (masked positions, choices) for `draw_codes`, and uniform ones (batch, n).
    """
    if not masked.any():
        return torch.empty(0, choices, device=device), torch.ones(masked.shape, device=device)
    source = device if generator is None else generator.device
    exponential = torch.empty(masked.numel(), choices, device=source).exponential_(generator=generator)
    uniform = torch.rand(masked.shape, generator=generator, device=source)
    if not masked.all():
        exponential = exponential[masked.flatten().to(source)]
    return exponential.to(device), uniform.to(device)


def draw_codes(
    probabilities: Tensor, top_k: int | None, exponential: Tensor, rows: Rows = ALL_ROWS
) -> tuple[Tensor, Tensor]:
    """Random codes, long (places,), and their probabilities, from (rows, codebook_size): as `torch.multinomial` draws.

    With q from an exponential distribution, argmax(p / q) is code i with probability p_i; this is how torch computes
    it, so the noise can be drawn elsewhere, and for more rows than these.

    Args:
        probabilities: (rows, codebook_size).
        top_k: draw among so many codes only; all if None.
        exponential: (places, choices), noise.
        rows: which row each place has.
    """
    pool, codes = probabilities, None
    if top_k is not None:
        pool, codes = probabilities.topk(top_k)
        codes = codes[rows]
    pool = pool[rows]
    shares = pool if codes is None else pool / pool.sum(-1, keepdim=True)
    choice = (shares / exponential).argmax(-1, keepdim=True)
    drawn = choice if codes is None else codes.gather(-1, choice)
    return drawn[:, 0], pool.gather(-1, choice)[:, 0]


def least_confident(confidence: Tensor, masked: Tensor, count: int) -> Tensor:
    """The `count` least confident of the masked positions, bool (batch, n).

    Every row keeps at least one position masked and, if it can, settles at least one. Of candidates that tie at the
    border, none is masked.
    """
    unknown = masked.sum(1, keepdim=True)
    count_per_row = torch.minimum(unknown - 1, torch.full_like(unknown, count)).clamp(min=1)
    border = confidence.sort(1).values.gather(1, count_per_row.clamp(max=confidence.shape[1] - 1))
    return (confidence < border) & masked


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-20).log()


def _fetch(codes: Tensor, confidence: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both on another device, in one transfer; float32 holds codes below 2**24 exactly."""
    if codes.device == device:
        return codes, confidence
    fetched = torch.stack([codes.float(), confidence]).to(device)
    return fetched[0].long(), fetched[1]
