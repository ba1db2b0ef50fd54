"""The image denoising loop, the only one in the project (Show-o, arXiv 2408.12528, section 3.4).

    state --which places are masked--> image rows --passes--> scores of masked places --scheduler--> next state

Decisions:
- Images that are still the same under the same prompt are computed once: at the start, all those of one prompt. What an
  unconditional image scores before anything is known is a constant of the model (`unconditional`).
- Scores are computed where codes are masked, in the order of `State.settled`; guidance mixes these only.
- One pass of the transformer over the whole batch counts as one, so an image of T steps takes T passes, guided or not.
- Images of a batch finish in the same step, or earlier by early exit; one that is finished is computed no more.
- Inpainting, extrapolation and variation are this loop from another start: a state with some codes settled.
- The number of the step is the number of passes so far, so a trajectory can go on from any of its states.
- States are small and live on the CPU, where they are decided about; wherever they are, the next one is there too.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.image_passes import ImagePasses
from showo_turbo.generation.scheduler import ALL_ROWS, Generators, Rows, UnmaskingScheduler, share_rows
from showo_turbo.generation.scoring import Scoring, alone
from showo_turbo.generation.trajectory import State, trajectory
from showo_turbo.generation.unconditional import unconditional_blank_logits, unconditional_key_values
from showo_turbo.models.showo import Showo
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
        longest = max(map(len, prompts))
        if longest + num_codes + 2 > model.max_positions:
            raise InputError(
                f"prompt of {longest} and image of {num_codes + 2} tokens exceed the model's "
                f"{model.max_positions} positions: shorten the prompt or make the image smaller"
            )
        self.model, self.vocabulary, self.scheduler = model, vocabulary, scheduler
        self.guidance_scale, self.generator = guidance_scale, generator
        self.num_codes, self.unconditional = num_codes, unconditional
        self.prompts = list(dict.fromkeys(map(tuple, prompts)))
        self.owners = [self.prompts.index(tuple(prompt)) for prompt in prompts]

    @classmethod
    def joined(cls, denoisers: Sequence["ImageDenoiser"]) -> "ImageDenoiser":
        """One denoiser for the images of several, whose options and numbers of images are the same.

        Each image comes out as it does of its own denoiser, whose generator it keeps.
        """
        prompts = [one.prompts[owner] for one in denoisers for owner in one.owners]
        return denoisers[0]._with_images(prompts, [one.generator for one in denoisers])

    def keep(self, rows: Sequence[int]) -> "ImageDenoiser":
        """Of one that was `joined`, a denoiser for the images of some of those it was joined from, by number."""
        sources = [source for share, source in share_rows(len(self.owners), self.generator) if share.start in rows]
        kept = self._with_images([self.prompts[self.owners[row]] for row in rows], sources)
        passes = vars(self).get("_passes")  # there are none if there was no room for them
        if passes is not None and not passes.unread:
            wanted = [self.prompts.index(prompt) for prompt in kept.prompts]
            wanted += range(len(self.prompts), len(passes.prompts))  # the unconditional one
            read = [passes.key_values_of(number) for number in wanted]
            kept._passes = ImagePasses(self.model, self.vocabulary, [passes.prompts[one] for one in wanted], read)
        return kept

    def _with_images(self, prompts: Sequence[Sequence[int]], generator: Generators) -> "ImageDenoiser":
        """One with the same options for other images."""
        return ImageDenoiser(
            self.model,
            self.vocabulary,
            self.scheduler,
            prompts,
            self.num_codes,
            self.unconditional,
            self.guidance_scale,
            generator,
        )

    @property
    def sequences(self) -> int:
        """How many sequences a pass reads, at most: each image, and with guidance once more as an unconditional one."""
        return len(self.owners) * (2 if self.guidance_scale > 0 else 1)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Of one that was `joined`: one for each that it was joined from."""
        return self.generator if isinstance(self.generator, Sequence) else []

    def logits(self, state: State) -> Tensor:
        """Guided scores of every code at every place, float32 (batch, n, codebook_size). One pass.

        Sampling needs them at masked places only, `masked_logits`, which are this tensor's `[~state.settled]`.
        """
        logits, rows = alone(self.model, self._score(state, torch.ones_like(state.settled)))
        return rearrange(logits[rows], "(b n) c -> b n c", b=len(state.ids))

    def masked_logits(self, state: State) -> Tensor:
        """Guided scores of every code at masked places, image after image, float32 (places, codebook_size)."""
        logits, rows = alone(self.model, self._score(state, ~state.settled))
        return logits[rows]

    def unmask(self, state: State, logits: Tensor, rows: Rows = ALL_ROWS) -> State:
        """The state after one step of the scheduler, given the `masked_logits`; its last step settles everything.

        Args:
            state: the state before.
            logits: float32 (places, codebook_size), or fewer rows.
            rows: long (places,), which row of the scores each place has, where several have the same.
        """
        index = state.forward_passes
        codes = self.vocabulary.ids_to_codes(state.ids)
        step = self.scheduler.step(logits, index, codes, ~state.settled, self.generator, rows)
        last = index + 1 == self.scheduler.num_inference_steps
        settled = torch.ones_like(step.masked) if last else ~step.masked
        return State(self.vocabulary.codes_to_ids(step.candidates), settled, index + 1)

    def step(self, state: State) -> Scoring[State]:
        """One step: score, draw, keep the most confident."""
        logits, rows = yield from self._score(state, ~state.settled)
        return self.unmask(state, logits, rows)

    def advance(self, state: State) -> State:
        """One step, with a pass of its own."""
        return alone(self.model, self.step(state))

    def run(self, start: State) -> Iterator[State]:
        """The trajectory from `start` to finished images, whose ids are all image codes."""
        return trajectory(start, self.advance)

    @cached_property
    def _passes(self) -> ImagePasses:
        """Passes over images under the prompts, the unconditional one last."""
        if self.guidance_scale == 0:
            return ImagePasses(self.model, self.vocabulary, self.prompts)
        known = unconditional_key_values(self.model, self.vocabulary, self.unconditional)
        return ImagePasses(self.model, self.vocabulary, [*self.prompts, self.unconditional], [known])

    def _score(self, state: State, asked: Tensor) -> Scoring[tuple[Tensor, Rows]]:
        """Guided scores where asked, bool (batch, n): float32 (rows, codebook_size), and which row each place has."""
        ids, asked = state.hide_unsettled(self.vocabulary.mask_id).cpu(), asked.cpu()
        if self.guidance_scale == 0:
            return (yield from self._score_each(self.owners, ids, asked))
        if not state.settled.any():
            blank = unconditional_blank_logits(self.model, self.vocabulary, self.unconditional, self.num_codes)
            conditional, rows = yield from self._score_each(self.owners, ids, asked)
            unconditional = blank.repeat(len(conditional) // len(blank), 1)
        else:
            owners = [*self.owners, *[len(self.prompts)] * len(ids)]
            logits, rows = yield from self._score_each(owners, ids.repeat(2, 1), asked.repeat(2, 1))
            conditional, unconditional = logits[rows].chunk(2)
            rows = ALL_ROWS
        guided = conditional.mul_(1 + self.guidance_scale).sub_(unconditional.mul_(self.guidance_scale))  # both our own
        return guided, rows

    def _score_each(self, owners: Sequence[int], ids: Tensor, asked: Tensor) -> Scoring[tuple[Tensor, Rows]]:
        """Scores of the different images (rows, codebook_size), and which row each place of all images has.

        Equal images under the same prompt are computed once, images without places to score not at all.
        """
        places = asked.sum(1).tolist()
        images = {number: (owners[number], tuple(ids[number].tolist())) for number, count in enumerate(places) if count}
        different = {image: number for number, image in reversed(images.items())}
        firsts = sorted(different.values())
        logits = yield from self._passes.score(torch.tensor(owners)[firsts], ids[firsts], asked[firsts])
        if len(firsts) == len(images):
            return logits, ALL_ROWS
        rows = torch.arange(len(logits)).split([places[first] for first in firsts])
        of_first = dict(zip(firsts, rows, strict=True))
        return logits, torch.cat([of_first[different[image]] for image in images.values()]).to(logits.device)
