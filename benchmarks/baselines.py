"""Baselines of the speed benchmark: the published loops, and transformers' `generate`.

Decisions:
- The published loops (Show-o, arXiv 2408.12528; Show-o Turbo, arXiv 2502.05415) are reimplemented plainly: whole
  sequences in every forward pass, no KV cache, logits of all ids at all positions. Prompts of text to image are padded
  to 129.
- Codes and ids are chosen by the library's own scheduler, or by argmax: less work than in the published samplers, which
  draw at known positions as well and compute the softmax of all logits.
- Autoregressive decoding is transformers' own `generate`. It supports causal masks only, so all but the last token of
  the prompt (image and question) is prefilled with the mask of the model.
- All use torch's own linear layers, not the library's (`backends/linear.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import DynamicCache, PhiConfig, PhiForCausalLM

from showo_turbo.generation.image_denoiser import masked_state
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.text_decoder import draw_guesses
from showo_turbo.generation.trajectory import State
from showo_turbo.models.omni_attention import text_to_image_mask, understanding_mask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.sequences import image_sequences
from showo_turbo.vocabulary import Vocabulary


@contextmanager
def plain_linear_layers() -> Iterator[None]:
    """Disable oneDNN, so that linear layers are torch's own."""
    before, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before)


@torch.no_grad()
@plain_linear_layers()
def published_text_to_image(
    pipe: ShowoPipeline, prompt: str, options: SamplingOptions, num_images: int, generator: torch.Generator
) -> Tensor:
    """Run the published image loop; codes, long (num_images, codes)."""
    builder, vocabulary, num_codes = pipe.prompts, pipe.prompts.vocabulary, pipe.model.config.num_vq_tokens
    texts = [builder.text_to_image(prompt)] * num_images
    if options.guidance_scale > 0:
        texts += [builder.unconditional()] * num_images
    length = builder.max_text_length + 1
    padded = torch.tensor([[vocabulary.pad_id] * (length - len(text)) + text for text in texts], device=pipe.device)
    scheduler = UnmaskingScheduler.from_options(options, vocabulary.codebook_size, num_codes)
    state = masked_state(num_images, num_codes, vocabulary, pipe.device)
    for index in range(options.num_inference_steps):
        image = state.mask_unsettled(vocabulary.mask_id).repeat(len(texts) // num_images, 1)
        ids = image_sequences(padded, image, vocabulary)
        logits = pipe.model.logits(pipe.model(ids, text_to_image_mask(ids, vocabulary)))
        if options.guidance_scale > 0:
            conditional, unconditional = logits.chunk(2)
            logits = (1 + options.guidance_scale) * conditional - options.guidance_scale * unconditional
        code_logits = logits[:, -num_codes - 1 : -1, vocabulary.image_offset : vocabulary.mask_id]
        codes, masked = vocabulary.ids_to_codes(state.ids), ~state.settled
        step = scheduler.step(code_logits[masked], index, codes, masked, generator)
        state = State(vocabulary.codes_to_ids(step.candidates), ~step.masked, index + 1)
    return step.candidates


@torch.no_grad()
@plain_linear_layers()
def published_jacobi(
    pipe: ShowoPipeline, prompt: list[int], max_new_tokens: int, block_length: int, seed: int
) -> tuple[list[int], int]:
    """Run the published text loop: ids of the greedy answer, and the number of passes; one confirms each block."""
    vocabulary = pipe.prompts.vocabulary
    guesses = draw_guesses([prompt], max_new_tokens, vocabulary, torch.Generator().manual_seed(seed)).to(pipe.device)
    answer, passes = [], 0
    for block in guesses.split(block_length, dim=1):
        before, after = block, None
        while after is None or not torch.equal(before, after):
            before = block if after is None else after
            ids = torch.cat([torch.tensor([[*prompt, *answer]], device=pipe.device), before], 1)
            logits = pipe.model.logits(pipe.model(ids, understanding_mask(ids, vocabulary)))
            after = logits.argmax(-1)[:, -before.shape[1] - 1 : -1]
            passes += 1
        answer += after[0].tolist()
        if vocabulary.end_of_text_id in answer:
            return answer[: answer.index(vocabulary.end_of_text_id)], passes
    return answer, passes


def transformers_model(pipe: ShowoPipeline) -> PhiForCausalLM:
    """Return transformers' own language model with the weights of a pipeline."""
    model = PhiForCausalLM(PhiConfig(**pipe.model.showo.config.to_dict()))
    model.load_state_dict(pipe.model.showo.state_dict())
    return model.to(pipe.device).eval()


@torch.no_grad()
def transformers_generate(
    model: PhiForCausalLM, prompt: list[int], vocabulary: Vocabulary, max_new_tokens: int
) -> list[int]:
    """Return the ids of the greedy answer by transformers' `generate`, after a prefill with Show-o's mask."""
    end_id = vocabulary.end_of_text_id
    ids, cache = torch.tensor([prompt], device=model.device), DynamicCache(config=model.config)
    prefix = ids[:, :-1]
    model.model(prefix, attention_mask=understanding_mask(prefix, vocabulary), cache=cache)
    generated = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        cache=cache,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    answer = generated[0, len(prompt) :].tolist()
    return answer[: answer.index(end_id)] if end_id in answer else answer
