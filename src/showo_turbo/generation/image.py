"""The image denoising loop, the only one in the project (Show-o, arXiv 2408.12528, section 3.4).

    pass 1    [t2i] [sot] text [eot] | [soi] codes [eoi]      prompt and image together
    pass 2              kept         | [soi] codes [eoi]      no prompt row ever sees the image, so its keys and
    pass T              kept         | [soi] codes [eoi]      values stay; the image rows are computed anew

Decisions:
- With guidance the unconditional rows are the second half of the batch, left-padded like the others. One pass of the
  transformer over the whole batch counts as one, so an image of T steps takes T passes, guided or not.
- Inpainting, extrapolation and variation are this loop from another start: a state with some codes settled.
- The number of the step is the number of passes so far, so a trajectory can go on from any of its states.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.cache import CachedPasses
from showo_turbo.generation.scheduler import Generators, UnmaskingScheduler, share_rows
from showo_turbo.generation.trajectory import State, trajectory
from showo_turbo.models.omni_attention import text_to_image_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import left_pad
from showo_turbo.vocabulary import Vocabulary


def blank_state(batch: int, num_codes: int, vocabulary: Vocabulary, device: torch.device | str | None = None) -> State:
    """Images of which nothing is known."""
    ids = torch.full((batch, num_codes), vocabulary.mask_id, device=device)
    return State(ids, torch.zeros_like(ids, dtype=torch.bool))


def partly_known_state(codes: Tensor, known: Tensor, vocabulary: Vocabulary) -> State:
    """Images of which some codes are known and stay as they are.

    Args:
        codes: long (batch, n), codebook indices; their values at unknown positions do not matter.
        known: bool (batch, n).
        vocabulary: the id layout.
    """
    return State(torch.where(known, vocabulary.codes_to_ids(codes), vocabulary.mask_id), known)


class ImageDenoiser:
    """Turns masked images into images, a few codes a step. One object serves one batch."""

    def __init__(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        scheduler: UnmaskingScheduler,
        prompts: Sequence[Sequence[int]],
        num_codes: int,
        unconditional: Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        generator: Generators = None,
    ) -> None:
        """Lay out the sequences.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            scheduler: with its timesteps set.
            prompts: id lists, one per image, as `PromptBuilder.text_to_image` builds them.
            num_codes: codes of an image.
            unconditional: the id list that guidance compares with; needed only if there is guidance.
            guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance.
            generator: where random numbers come from, see `scheduler.Generators`.

        Raises:
            InputError: when the guidance scale is negative or has nothing to guide with, the generators cannot share
                the images equally, or prompt and image exceed the model's positions.
        """
        if not guidance_scale >= 0:
            raise InputError(f"guidance_scale is {guidance_scale}: choose 0 (no guidance) or more")
        if guidance_scale > 0 and unconditional is None:
            raise InputError(
                f"guidance_scale is {guidance_scale}, but there is no unconditional prompt to compare with"
            )
        share_rows(len(prompts), generator)
        rows = [*prompts, *[unconditional] * len(prompts)] if guidance_scale > 0 else prompts
        self.prefix = left_pad(rows, vocabulary.pad_id, model.device).ids
        length = self.prefix.shape[1] + num_codes + 2
        if length > model.max_positions:
            raise InputError(
                f"prompt of {self.prefix.shape[1]} and image of {num_codes + 2} tokens exceed the model's "
                f"{model.max_positions} positions: shorten the prompt or make the image smaller"
            )
        self.model, self.vocabulary, self.scheduler = model, vocabulary, scheduler
        self.guidance_scale = guidance_scale
        self.generator = generator
        blank = torch.full((len(rows), num_codes), vocabulary.mask_id, device=model.device)
        self.passes = CachedPasses(model, text_to_image_mask(self._sequences(blank), vocabulary))

    @torch.no_grad()
    def logits(self, state: State) -> Tensor:
        """Guided scores of every code at every position of a state, float32 (batch, n, codebook_size). One pass."""
        ids = state.hide_unsettled(self.vocabulary.mask_id)
        hidden = self.passes.run(self._sequences(ids.repeat(len(self.prefix) // len(ids), 1)))
        self.passes.keep(self.prefix.shape[1])
        image_rows = hidden[:, -ids.shape[1] - 1 : -1]
        logits = self.model.logits(image_rows, self.vocabulary.image_offset, self.vocabulary.mask_id)
        if self.guidance_scale == 0:
            return logits
        conditional, unconditional = logits.chunk(2)
        return (1 + self.guidance_scale) * conditional - self.guidance_scale * unconditional

    def unmask(self, state: State, logits: Tensor) -> State:
        """The state after one step of the scheduler; after its last step everything is settled."""
        index = state.forward_passes
        codes = self.vocabulary.ids_to_codes(state.ids)
        step = self.scheduler.step(logits, index, codes, ~state.settled, self.generator)
        last = index + 1 == self.scheduler.num_inference_steps
        settled = torch.ones_like(step.masked) if last else ~step.masked
        return State(self.vocabulary.codes_to_ids(step.candidates), settled, index + 1)

    def advance(self, state: State) -> State:
        """One step: score, draw, keep the most confident."""
        return self.unmask(state, self.logits(state))

    def run(self, start: State) -> Iterator[State]:
        """The trajectory from `start` to finished images, whose ids are all image codes."""
        return trajectory(start, self.advance)

    def _sequences(self, image_ids: Tensor) -> Tensor:
        """prompt [soi] codes [eoi], long (rows, length), for image ids (rows, n)."""
        border = torch.full_like(image_ids[:, :1], self.vocabulary.soi_id)
        return torch.cat([self.prefix, border, image_ids, torch.full_like(border, self.vocabulary.eoi_id)], dim=1)
