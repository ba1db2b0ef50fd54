"""The model card of a checkpoint: what it is, how to use it, what lies in its folder."""

from math import isqrt

from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo

_CARD = """---
library_name: showo-turbo
pipeline_tag: any-to-any
tags: [show-o, text-to-image, image-to-text]
---

# {name}

A Show-o checkpoint (arXiv 2408.12528): one transformer that draws images from text and answers questions about images.

```python
from showo_turbo import ShowoPipeline

pipe = ShowoPipeline.from_pretrained("{name}")
```

| | |
| --- | --- |
| transformer | {parameters:,} parameters, {dtype} |
| vocabulary | {vocab_size:,} ids: {llm_vocab_size:,} of the text tokenizer, {codebook_size:,} image codes |
| image | {image} |
| recommended | {steps} steps, guidance {guidance:g}, top-k {top_k} |

`config.json` and `model.safetensors` are the transformer, `phi/` its Phi config and text tokenizer, `magvitv2/` the
image tokenizer, `generation.json` the recommended sampling settings.
"""


def model_card(name: str, model: Showo, image_tokenizer: MagvitV2 | None, options: SamplingOptions) -> str:
    """The card of a checkpoint, in Markdown."""
    config = model.config
    side = isqrt(config.num_vq_tokens)
    image = f"{side} x {side} codes"
    if image_tokenizer is not None:
        pixels = side * image_tokenizer.config.downsampling_factor
        image += f", {pixels} x {pixels} pixels"
    return _CARD.format(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        vocab_size=config.vocab_size,
        llm_vocab_size=config.llm_vocab_size,
        codebook_size=config.codebook_size,
        image=image,
        steps=options.num_inference_steps,
        guidance=options.guidance_scale,
        top_k=options.top_k or "off",
    )
