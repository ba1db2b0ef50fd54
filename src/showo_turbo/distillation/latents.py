"""Latents of a student: what the codes of an image have in common before any is known (Di4C, arXiv 2410.08709).

    prompt  <|soi|>  ? ? ? ?  <|eoi|>        latent 0
    prompt  <|sov|>  ? ? ? ?  <|eoi|>        latent 1
    prompt  <|eov|>  ? ? ? ?  <|eoi|>        latent 2

Codes that are decided in one forward pass do not see each other: each follows its own distribution, so half of an image
may show one arrangement and half another. A latent tells all of them which one to show, and the model is then a mixture
of as many products as there are latents. It is the token that opens the image, one of `Vocabulary.opening_ids`, so a
model with latents has the weights of one without, and the first latent is the published model.

All latents are equally probable when an image is drawn. In training, the codes of a rollout choose one, see
`objectives.posterior_openings`.
"""

from dataclasses import replace

import torch

from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

_NOISE = 0.3
"""Distance of a new latent from the first one, in lengths of its embedding."""


@torch.no_grad()
def add_latents(model: Showo, num_latents: int, vocabulary: Vocabulary, seed: int) -> None:
    """Give a model more latents, in place; their embeddings are that of the first one and noise.

    Args:
        model: with fewer latents; one with as many or more stays as it is.
        num_latents: number of latents in all.
        vocabulary: the id layout.
        seed: of the noise.
    """
    table, generator = model.showo.model.embed_tokens.weight, torch.Generator().manual_seed(seed)
    for opening in vocabulary.opening_ids[model.config.num_latents : num_latents]:
        first = table[vocabulary.soi_id]
        noise = torch.randn(first.shape, generator=generator).to(first)
        table[opening] = first + _NOISE * first.square().mean().sqrt() * noise
    model.config = replace(model.config, num_latents=max(num_latents, model.config.num_latents))
