"""Denoise masked images, a few codes a step: the only image loop of the project (Show-o, section 3.4).

    state --masked positions--> rows of images --forward pass--> logits at masked positions --scheduler--> next state

Decisions:
- Prompt rows never attend to images, so the KV cache of a prompt, filled in the first forward pass (prefill), serves
  all its images in all passes.
- Images that are still equal under the same prompt are computed once: at the start, all those of one prompt. The
  unconditional prompt, and logits of a fully masked image under it, depend on the weights alone: `Showo.derived`.
- Logits are computed at masked positions only, in the order of `State.settled`, and guidance mixes these only.
- One forward pass of the whole batch counts as one, so an image of T steps takes T passes, with and without guidance.
- Images of a batch finish in the same step, or earlier by early exit; finished ones are not computed any more.
- A student may have latents, one an image; they are drawn with the first random numbers of its generator.
- Inpainting, extrapolation and variation are this loop from another start: a state with some codes settled.
- The index of a step is the number of passes so far, so a trajectory can be resumed from any of its states.
- States are small and stay on the device they came on, usually the CPU, where the decisions about them are made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.kv_cache import ImageCache, SequenceCache, allocate_kv_buffer, buffer_length
from showo_turbo.generation.scheduler import ALL_ROWS, Generators, Rows, UnmaskingScheduler, draw_latents, split_rows
from showo_turbo.generation.trajectory import ForwardInput, State, Step, run_single, trajectory
from showo_turbo.models.packed_forward import PackedSequences, RaggedLayout
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary


def masked_state(batch: int, num_codes: int, vocabulary: Vocabulary, device: torch.device | str | None = None) -> State:
    """Return the start of images of which all codes are masked."""
    ids = torch.full((batch, num_codes), vocabulary.mask_id, device=device)
    return State(ids, torch.zeros_like(ids, dtype=torch.bool))


def partly_known_state(codes: Tensor, known: Tensor, vocabulary: Vocabulary) -> State:
    """Return the start of images of which some codes are known and stay unchanged.

    Args:
        codes: long (batch, n), codebook indices; values at unknown positions are ignored.
        known: bool (batch, n).
        vocabulary: the id layout.
    """
    return State(torch.where(known, codes + vocabulary.image_offset, vocabulary.mask_id), known)


class ImageDenoiser:
    """Turn masked images into images. One object serves one batch."""

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
        openings: Sequence[int] | None = None,
    ) -> None:
        """Prepare a batch.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            scheduler: with its timesteps set.
            prompts: id lists, one per image, as `PromptBuilder.text_to_image` or `PromptBuilder.editing` builds them.
            num_codes: codes of an image.
            unconditional: the id list of the unconditional prompt; needed with guidance only.
            guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance.
            generator: source of random numbers, see `scheduler.Generators`.
            openings: token id that opens each image, see `distillation.latents`; drawn if left out.

        Raises:
            InputError: if the guidance scale is negative or there is no unconditional prompt for it, the images cannot
                be divided equally among the generators, or prompt and image exceed the model's positions.
        """
        if not guidance_scale >= 0:
            raise InputError(f"guidance_scale is {guidance_scale}: choose 0 (no guidance) or more")
        if guidance_scale > 0 and unconditional is None:
            raise InputError(
                f"guidance_scale is {guidance_scale}, but there is no unconditional prompt to compare with"
            )
        if openings is None:
            latents = draw_latents(model.config.num_latents, len(prompts), generator)
            openings = [vocabulary.opening_ids[latent] for latent in latents]
        longest = max(map(len, prompts))
        if longest + num_codes + 2 > model.max_positions:
            raise InputError(
                f"prompt of {longest} and image of {num_codes + 2} tokens exceed the model's "
                f"{model.max_positions} positions: shorten the prompt or make the image smaller"
            )
        self.model, self.vocabulary, self.scheduler = model, vocabulary, scheduler
        self.guidance_scale, self.generator = guidance_scale, generator
        self.num_codes, self.unconditional = num_codes, tuple(unconditional or ())
        self.prompts = list(dict.fromkeys(map(tuple, prompts)))
        self.openings = torch.tensor(openings)[:, None]
        self.prompt_of_image = [self.prompts.index(tuple(prompt)) for prompt in prompts]
        self._forward: ImageForward | None = None

    @classmethod
    def batch(cls, denoisers: Sequence["ImageDenoiser"]) -> "ImageDenoiser":
        """Join denoisers with the same options and numbers of images; each image keeps its generator and result."""
        prompts = [one.prompts[prompt] for one in denoisers for prompt in one.prompt_of_image]
        generators = cast("list[torch.Generator]", [one.generator for one in denoisers])
        openings = torch.cat([one.openings for one in denoisers])[:, 0].tolist()
        return denoisers[0]._for_images(prompts, generators, openings)

    def select(self, rows: Sequence[int]) -> "ImageDenoiser":
        """Return a denoiser for some of the denoisers that were joined, given as the indices of their images."""
        sources = split_rows(len(self.prompt_of_image), self.generator)
        generators = cast("list[torch.Generator]", [source for own, source in sources if own.start in rows])
        own = [self.prompts[self.prompt_of_image[row]] for row in rows]
        selected = self._for_images(own, generators, self.openings[list(rows), 0].tolist())
        forward = self._forward
        if forward is not None and not forward.num_unread:
            numbers = [self.prompts.index(prompt) for prompt in selected.prompts]
            numbers += range(len(self.prompts), len(forward.prompts))  # the unconditional one
            prefixes = [forward.prefix(number) for number in numbers]
            prompts = [forward.prompts[number] for number in numbers]
            selected._forward = ImageForward(self.model, self.vocabulary, prompts, prefixes)
        return selected

    def _for_images(
        self, prompts: Sequence[Sequence[int]], generator: Generators, openings: Sequence[int]
    ) -> "ImageDenoiser":
        return ImageDenoiser(
            self.model,
            self.vocabulary,
            self.scheduler,
            prompts,
            self.num_codes,
            self.unconditional,
            self.guidance_scale,
            generator,
            openings,
        )

    @property
    def sequences(self) -> int:
        """Largest number of sequences in a forward pass: one per image, with guidance two."""
        return len(self.prompt_of_image) * (2 if self.guidance_scale > 0 else 1)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Generators of the denoisers that were joined by `batch`."""
        return self.generator if isinstance(self.generator, Sequence) else []

    def logits(self, state: State) -> Tensor:
        """Return guided logits of every code at every position, float32 (batch, n, codebook_size), by one forward pass.

        Sampling needs them at masked positions only, `masked_logits`, which are this tensor's `[~state.settled]`.
        """
        logits, rows = run_single(self.model, self._guided_logits(state, torch.ones_like(state.settled)))
        return rearrange(logits[rows], "(b n) c -> b n c", b=len(state.ids))

    def masked_logits(self, state: State) -> Tensor:
        """Return guided logits of every code at masked positions, image after image, float32 (positions, codes)."""
        logits, rows = run_single(self.model, self._guided_logits(state, ~state.settled))
        return logits[rows]

    def unmask(self, state: State, logits: Tensor, rows: Rows = ALL_ROWS) -> State:
        """Return the state after one step of the scheduler; its last step settles every position.

        Args:
            state: the state before.
            logits: float32 (masked positions, codebook_size), or fewer rows.
            rows: long (masked positions,), the row of logits of each position, where several share one.
        """
        index, offset = state.forward_passes, self.vocabulary.image_offset
        step = self.scheduler.step(logits, index, state.ids - offset, ~state.settled, self.generator, rows)
        return self._settled(index, step.candidates + offset, step.masked)

    def step(self, state: State) -> Step[State]:
        """Run one step: compute logits, sample candidates, keep the most confident."""
        logits, rows = yield from self._guided_logits(state, ~state.settled)
        return self.unmask(state, logits, rows)

    def advance(self, state: State) -> State:
        """Run one step with a forward pass of its own."""
        return self._compiled_step(state) or run_single(self.model, self.step(state))

    def run(self, start: State) -> Iterator[State]:
        """Yield the trajectory from `start` to finished images, whose ids are all image codes."""
        return trajectory(start, self.advance)

    def _compiled_step(self, state: State) -> State | None:
        """Run one step as a single call of `backends.compiled_passes`; return None if it is not one of those."""
        passes, scheduler, index = self.model.image_passes, self.scheduler, state.forward_passes
        priorities, is_greedy = scheduler.priorities, scheduler.choices(index) == 1 and scheduler.early_exit is None
        if (
            passes is None
            or priorities is None
            or not is_greedy
            or self.sequences > 1
            or self._forward is None
            or self._forward.num_unread
        ):
            return None
        masked, prefix, count = ~state.settled, self._forward.prompt_buffer[:, :, 0], scheduler.mask_counts[index]
        image = torch.cat([self.openings, state.ids], 1)
        drawn = passes.step(self.model, self.vocabulary, image, masked, count, prefix, priorities)
        if drawn is None:
            return None
        scheduler.noise(index, masked, self.generator, masked.device)
        return self._settled(index, *drawn)

    def _settled(self, index: int, ids: Tensor, masked: Tensor) -> State:
        """Return the state after a step, in which some positions, bool (batch, n), are masked again."""
        last = index + 1 == self.scheduler.num_inference_steps
        return State(ids, torch.ones_like(masked) if last else ~masked, index + 1)

    def _guided_logits(self, state: State, scored: Tensor) -> Step[tuple[Tensor, Rows]]:
        """Compute guided logits at the scored positions, bool (batch, n): float32 (rows, codebook_size).

        Returns:
            Logits, and the row of each position.
        """
        ids, scored = state.mask_unsettled(self.vocabulary.mask_id).cpu(), scored.cpu()
        ids = torch.cat([self.openings, ids], 1)
        if self.guidance_scale == 0:
            return (yield from self._prompts_forward().logits(self.prompt_of_image, ids, scored))
        if not state.settled.any() and len(self.openings.unique()) == 1:
            masked = self._unconditional_masked_logits(ids[:1])  # first: its pass may read the unconditional prompt
            conditional, rows = yield from self._prompts_forward().logits(self.prompt_of_image, ids, scored)
            unconditional = masked.repeat(len(conditional) // len(masked), 1)
        else:
            prompt_of_image, ids = [*self.prompt_of_image, *[len(self.prompts)] * len(ids)], ids.repeat(2, 1)
            logits, rows = yield from self._prompts_forward().logits(prompt_of_image, ids, scored.repeat(2, 1))
            conditional, unconditional = logits[rows].chunk(2)
            rows = ALL_ROWS
        guided = conditional.mul_(1 + self.guidance_scale).sub_(unconditional.mul_(self.guidance_scale))  # own tensors
        return guided, rows

    def _prompts_forward(self) -> "ImageForward":
        """Return the KV cache of all prompts, the unconditional one last, allocated at the first use."""
        if self._forward is None and self.guidance_scale > 0:
            prompts, prefix = [*self.prompts, self.unconditional], self._unconditional_prefix()
            self._forward = ImageForward(self.model, self.vocabulary, prompts, [prefix])
        elif self._forward is None:
            self._forward = ImageForward(self.model, self.vocabulary, self.prompts)
        return self._forward

    def _unconditional_prefix(self) -> Tensor:
        """Return the KV cache of the unconditional prompt, (layers, 2, length, heads, head size)."""
        prompt = self.unconditional
        return self.model.derived(
            ("unconditional prefix", prompt), lambda: ImageForward(self.model, self.vocabulary, [prompt]).prefix(0)
        )

    def _unconditional_masked_logits(self, image: Tensor) -> Tensor:
        """Return logits of a masked image, long (1, 1 + n), under the unconditional prompt: float32 (n, codes)."""
        prompt = self.unconditional

        def compute() -> Tensor:
            forward = ImageForward(self.model, self.vocabulary, [prompt])
            scored = torch.ones(1, self.num_codes, dtype=torch.bool)
            logits, _ = run_single(self.model, forward.logits([0], image, scored))
            self.model.derived(("unconditional prefix", prompt), lambda: forward.prefix(0))  # read in the same pass
            return logits

        return self.model.derived(("unconditional masked logits", prompt, *image[0].tolist()), compute)


class ImageForward:
    """Compute logits of images under their prompts.

    first forward pass only         every forward pass
    prompt a   [t2i] a a [eot]      image 1 of a   [soi] codes [eoi]  attends to  prompt a, itself
    prompt b   [t2i] b [eot]        image 2 of a   [soi] codes [eoi]              prompt a, itself
                                    image 1 of b   [soi] codes [eoi]              prompt b, itself

    KV cache of prompts (layers, prompts, longest prompt), and of images (images, longest prompt + codes + 2)
    . a a a a                                              . a a a a | soi c c c c eoi
    . . b b b                                              . . b b b | soi c c c c eoi

    Positions are counted from `<|soi|>`, prompts having negative ones, so the cache of a prompt does not depend on the
    prompts beside it.
    """

    def __init__(
        self, model: Showo, vocabulary: Vocabulary, prompts: Sequence[Sequence[int]], prefixes: Sequence[Tensor] = ()
    ) -> None:
        """Allocate the KV cache.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists, different ones; lengths may differ.
            prefixes: KV caches of the last prompts, as `prefix` returns them; these prompts are not read again.
        """
        self.model, self.vocabulary, self.prompts, self.device = model, vocabulary, prompts, model.device
        self.longest = buffer_length(max(map(len, prompts)), model.cuda_graphs)
        self.pads = [self.longest - len(prompt) for prompt in prompts]
        self.prompt_buffer = allocate_kv_buffer(self, model, len(prompts), self.longest)
        self.image_buffer = self.prompt_buffer[0, :, :0]
        self._images: tuple[Sequence[int], PackedSequences, Tensor] | None = None
        self.eoi = torch.full((1, 1), vocabulary.eoi_id)
        self.num_unread = len(prompts) - len(prefixes)
        for number, prefix in enumerate(prefixes, start=self.num_unread):
            self.prompt_buffer[:, :, number, self.pads[number] :] = prefix

    def prefix(self, number: int) -> Tensor:
        """Return the KV cache of a prompt, (layers, 2, length, heads, head size), after a prefill if needed."""
        if self.num_unread:
            ids, prompts = self._unread_prompts()
            self.model.packed_forward(self.model.embed(ids.to(self.device)), [prompts])
            self.num_unread = 0
        return self.prompt_buffer[:, :, number, self.pads[number] :].clone()

    def logits(self, prompt_of_image: Sequence[int], image_ids: Tensor, scored: Tensor) -> Step[tuple[Tensor, Rows]]:
        """Compute logits of every code at the scored positions, image after image.

        Equal images under the same prompt are computed once, and images without scored positions not at all.

        Args:
            prompt_of_image: index of each image's prompt.
            image_ids: long (images, 1 + n), the id that opens each image, and its codes and masks as token ids.
            scored: bool (images, n).

        Returns:
            Logits, float32 (rows, codebook_size), and the row of each scored position.
        """
        counts = scored.sum(1).tolist()
        compared = image_ids.tolist() if len(counts) > 1 else [[]]
        images = {
            number: (prompt_of_image[number], tuple(codes))
            for number, (count, codes) in enumerate(zip(counts, compared, strict=True))
            if count
        }
        different = {image: number for number, image in reversed(images.items())}
        firsts = sorted(different.values())
        if len(firsts) < len(counts):
            image_ids, scored = image_ids[firsts], scored[firsts]

        ids = torch.cat([image_ids, self.eoi.expand(len(firsts), 1)], 1).flatten()
        prompts = tuple(prompt_of_image[number] for number in firsts)
        groups = [self._image_rows(prompts, scored, [counts[number] for number in firsts])]
        if self.num_unread:
            prompt_ids, prompt_rows = self._unread_prompts()
            ids, groups = torch.cat([prompt_ids, ids]), [prompt_rows, *groups]
        embeddings = self.model.embed(ids.to(self.device))
        logits = yield ForwardInput(embeddings, groups, (self.vocabulary.image_offset, self.vocabulary.mask_id))
        self.num_unread = 0
        if len(firsts) == len(images):
            return logits, ALL_ROWS
        rows = dict(zip(firsts, torch.arange(len(logits)).split([counts[first] for first in firsts]), strict=True))
        return logits, torch.cat([rows[different[image]] for image in images.values()]).to(logits.device)

    def _unread_prompts(self) -> tuple[Tensor, PackedSequences]:
        """Return the ids of prompts without a KV cache, long (rows,), and their rows, none of which is scored."""
        device, unread = self.device, self.prompts[: self.num_unread]
        lengths = [len(prompt) for prompt in unread]
        pads, columns = torch.tensor(self.pads[: self.num_unread])[:, None], torch.arange(self.longest)
        visible = columns <= torch.arange(max(lengths))[:, None] + pads[:, None]
        ends = [prompt.index(eoi) + 1 if (eoi := self.vocabulary.eoi_id) in prompt else 0 for prompt in unread]
        if any(ends):  # images to edit, see `omni_attention.editing_mask`
            visible |= columns < (pads + torch.tensor(ends)[:, None])[:, None]
        is_prompt = columns >= pads
        slots = is_prompt.flatten().nonzero()[:, 0]
        packed = PackedSequences(
            RaggedLayout(lengths, device),
            (slots % self.longest - self.longest).to(device),
            SequenceCache(self.prompt_buffer, slots.to(device), self.num_unread, self.longest),
            (visible & is_prompt[:, None])[:, None].to(device),
            torch.zeros(0, dtype=torch.long, device=device),
            RaggedLayout([0] * self.num_unread),
        )
        return torch.tensor([token for prompt in unread for token in prompt]), packed

    def _image_rows(self, prompts: Sequence[int], scored: Tensor, counts: Sequence[int]) -> PackedSequences:
        """Return the rows of images under prompts, scored where bool (images, n) says, at `counts` positions each."""
        device, (images, num_codes) = self.device, scored.shape
        if self._images is None or self._images[0] != prompts:
            length = num_codes + 2
            columns = self.longest + length
            if self.image_buffer.shape[1] < images or self.image_buffer.shape[2] != columns:
                self.image_buffer = allocate_kv_buffer(self, self.model, images, columns, layers=1)[0]
            pads = [self.pads[prompt] for prompt in prompts]
            rows = PackedSequences(
                RaggedLayout([length] * images),
                torch.arange(length, device=device).repeat(images),
                ImageCache(self.prompt_buffer, self.image_buffer[:, :images], torch.tensor(prompts, device=device)),
                (torch.arange(columns) >= torch.tensor(pads)[:, None])[:, None, None].to(device) if any(pads) else None,
                torch.zeros(0, dtype=torch.long, device=device),
                RaggedLayout([0] * images),
            )
            numbers = torch.arange(images * length).view(images, length)[:, 1:-1].contiguous()
            self._images = prompts, rows, numbers
        _, rows, numbers = self._images
        return replace(rows, scored_rows=numbers[scored].to(device), scored_layout=RaggedLayout(counts, device))
