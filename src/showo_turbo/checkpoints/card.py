"""The model card of a checkpoint."""

from showo_turbo.components import Components

_TEMPLATE = """---
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


def model_card(name: str, components: Components) -> str:
    """Return the model card of a checkpoint in Markdown."""
    config, recommended = components.model.config, components.recommended
    image = f"{components.grid_size} x {components.grid_size} codes"
    if components.image_tokenizer is not None:
        image += f", {components.resolution} x {components.resolution} pixels"
    return _TEMPLATE.format(
        name=name,
        parameters=sum(parameter.numel() for parameter in components.model.parameters()),
        dtype=str(components.model.dtype).removeprefix("torch."),
        vocab_size=config.vocab_size,
        llm_vocab_size=config.llm_vocab_size,
        codebook_size=config.codebook_size,
        image=image,
        steps=recommended.num_inference_steps,
        guidance=recommended.guidance_scale,
        top_k=recommended.top_k or "off",
    )
