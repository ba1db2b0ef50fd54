"""The text loop, the only one in the project: Jacobi decoding, of which autoregressive decoding is block length 1.

    block of 4, prompt ends in ":"            one pass reads           and predicts
    settled: nothing                          :  g1 g2 g3              a  b  c  d
    a is final: all before it was             a  b  c                  b' c' d'
    b' equals b, so c' read what is final     c' ...                   settled: a b' c'

Jacobi decoding (arXiv 2502.05415, section 3.1; CLLM, arXiv 2403.00835) replaces all guesses of a block at once by the
greedy choice given the current guesses. A choice made from nothing but final ids is final, so at least one more id
settles each pass, and the result is greedy autoregressive decoding's, whatever the guesses.

Decisions:
- A pass reads the last settled id and the unsettled guesses of the block; keys and values of what came before are kept.
- The loop knows which ids are final, so no pass is spent on seeing that nothing changes any more.
- The rows of a batch share the block and read from where the least settled row stands; a row that has ended waits.
- What follows an end-of-text id is end-of-text and settled, so a shorter answer is the ids before the first one.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.cache import CachedPasses
from showo_turbo.generation.trajectory import State, trajectory
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import left_pad
from showo_turbo.vocabulary import Vocabulary

Chooser = Callable[[Tensor], Tensor]
"""Picks one id per row of scores: float32 (..., vocabulary) -> long (...)."""


def greedy(logits: Tensor) -> Tensor:
    """The id with the highest score; of equals the lowest id."""
    return logits.argmax(-1)


def sampler(temperature: float = 1.0, top_k: int | None = None, generator: torch.Generator | None = None) -> Chooser:
    """A chooser that draws at random.

    Args:
        temperature: divides the scores.
        top_k: draw among the k best only, and those that equal the k-th.
        generator: where random numbers come from; draws happen on its device.

    Raises:
        InputError: when an option is out of its range.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}: choose more than 0, or greedy decoding")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}: choose 1 or more, or None")

    def choose(logits: Tensor) -> Tensor:
        scores = logits / temperature
        if top_k is not None:
            worst = scores.topk(min(top_k, scores.shape[-1])).values[..., -1:]
            scores = scores.masked_fill(scores < worst, -torch.inf)
        probabilities = scores.softmax(-1).flatten(0, -2)
        device = probabilities.device if generator is None else generator.device
        drawn = torch.multinomial(probabilities.to(device), 1, generator=generator)
        return drawn.to(logits.device).view(logits.shape[:-1])

    return choose


def draw_guesses(
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    vocabulary: Vocabulary,
    generator: torch.Generator | None = None,
) -> Tensor:
    """First guesses: text ids of each row's own prompt at random, long (batch, max_new_tokens), on the CPU."""
    pools = [[token for token in prompt if token < vocabulary.llm_vocab_size] for prompt in prompts]
    device = "cpu" if generator is None else generator.device
    picks = [torch.randint(len(pool), (max_new_tokens,), generator=generator, device=device) for pool in pools]
    return torch.stack([torch.tensor(pool)[pick.cpu()] for pool, pick in zip(pools, picks, strict=True)])


class TextDecoder:
    """Continues prompts, block by block. One object serves one batch."""

    def __init__(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        block_length: int = 16,
        choose: Chooser = greedy,
        passes: CachedPasses | None = None,
    ) -> None:
        """Lay out the sequences.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists, one per row, as `PromptBuilder.understanding` builds them; lengths may differ.
            max_new_tokens: longest answer.
            block_length: guesses per pass; 1 is autoregressive decoding.
            choose: how an id follows from its scores.
            passes: those of a decoder whose prompts these begin with, to use what it has kept.

        Raises:
            InputError: when a number is below 1, prompt and answer exceed the model's positions, or a chooser other
                than `greedy` is to fill blocks: a random draw has no fixed point to converge to.
        """
        if max_new_tokens < 1 or block_length < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens} and block_length {block_length}: choose 1 or more")
        if choose is not greedy and block_length > 1:
            raise InputError(
                f"block_length is {block_length}, but only greedy decoding fills blocks: choose 1 to sample"
            )
        self.prompt = left_pad(prompts, vocabulary.pad_id, model.device).ids
        self.prompt_length = self.prompt.shape[1]
        if self.prompt_length + max_new_tokens > model.max_positions:
            raise InputError(
                f"prompt of {self.prompt_length} and max_new_tokens of {max_new_tokens} exceed the model's "
                f"{model.max_positions} positions: choose at most {model.max_positions - self.prompt_length} new tokens"
            )
        self.model, self.vocabulary, self.choose = model, vocabulary, choose
        self.max_new_tokens, self.block_length = max_new_tokens, block_length
        answer = torch.full((len(prompts), max_new_tokens), vocabulary.end_of_text_id, device=model.device)
        mask = understanding_mask(torch.cat([self.prompt, answer], 1), vocabulary)
        self.passes = passes or CachedPasses(model, mask)
        self.passes.make_room(mask)

    def start(self, guesses: Tensor) -> State:
        """The state before the first pass, from guesses long (batch, max_new_tokens)."""
        guesses = guesses.to(self.model.device)
        return State(guesses, torch.zeros_like(guesses, dtype=torch.bool))

    def block(self, state: State) -> tuple[int, int]:
        """What the next pass works on: the first unsettled position of any row, and the end of its block."""
        first = int(state.settled.sum(1).min())
        end = (first // self.block_length + 1) * self.block_length
        return first, min(end, self.max_new_tokens)

    @torch.no_grad()
    def logits(self, state: State) -> Tensor:
        """Scores of the unsettled part of the block, float32 (batch, end - first, vocabulary). One pass."""
        first, end = self.block(state)
        self.passes.keep(self.prompt_length + first - 1)
        hidden = self.passes.run(torch.cat([self.prompt, state.ids[:, : end - 1]], dim=1))
        return self.model.logits(hidden[:, first - end :])

    def advance(self, state: State) -> State:
        """One pass: every unsettled guess of the block gives way to the choice that follows from the ids before it."""
        first, end = self.block(state)
        chosen = self.choose(self.logits(state))
        guesses, settled = state.ids[:, first:end], state.settled[:, first:end]
        chosen = torch.where(settled, guesses, chosen)
        unchanged = settled | (chosen == guesses)
        read_final_ids = torch.cat([torch.ones_like(settled[:, :1]), unchanged[:, :-1]], dim=1).cumprod(1).bool()

        ids, all_settled = state.ids.clone(), state.settled.clone()
        ids[:, first:end], all_settled[:, first:end] = chosen, settled | read_final_ids
        is_end = (ids == self.vocabulary.end_of_text_id) & all_settled
        ended = is_end.cumsum(1) > 0
        ids = torch.where(ended, self.vocabulary.end_of_text_id, ids)
        return State(ids, all_settled | ended, state.forward_passes + 1)

    def run(self, guesses: Tensor) -> Iterator[State]:
        """The trajectory from first guesses, long (batch, max_new_tokens), to answers."""
        return trajectory(self.start(guesses), self.advance)
