"""Requests of every kind: one row and many, prompts and images batched, with and without guidance."""

import torch

from showo_turbo import ImageRequest, ShowoPipeline, TextRequest

REQUESTS = [
    ImageRequest("a red circle", seed=0, output_type="latent"),
    ImageRequest("a dog", seed=6, output_type="latent"),
    ImageRequest(["a dog", "two cats"], 5, 1.75, num_images_per_prompt=3, seed=1, output_type="latent"),
    ImageRequest("a cow", 9, early_exit=0.3, seed=2, output_type="latent"),
    TextRequest(codes=torch.arange(16), prompt="What?", max_new_tokens=9, seed=3),
    TextRequest(codes=torch.arange(16), prompt=["Where is it?", "What?"], max_new_tokens=9, block_length=3, seed=4),
    TextRequest(codes=torch.arange(16), prompt="Why?", decoding="autoregressive", max_new_tokens=9, seed=5),
]


def answers(pipe: ShowoPipeline) -> list:
    """Return the results of the requests one by one and batched."""
    outputs = [
        (pipe.text_to_image if isinstance(one, ImageRequest) else pipe.image_to_text)(**vars(one)) for one in REQUESTS
    ]
    outputs += [update.output() for update in pipe.engine(max_sequences=12).run(REQUESTS) if update.done]
    return [one.codes.tolist() if hasattr(one, "codes") else one.token_ids for one in outputs]
