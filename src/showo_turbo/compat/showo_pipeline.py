"""The pipeline that a YAML file of Show-o names, checked against the sizes in the file."""

import warnings
from typing import TYPE_CHECKING

from showo_turbo.cli.terminal import quiet_transformers
from showo_turbo.compat.showo_options import CommonOptions
from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline


def load_pipeline(options: CommonOptions) -> "ShowoPipeline":
    """Load the pipeline, with the longest prompt that the file sets; longer ones are truncated.

    Raises:
        InputError: if a component cannot be loaded, or differs from a size in the file.
    """
    quiet_transformers()
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.processing.known_world import UnknownWordsWarning

    warnings.simplefilter("ignore", UnknownWordsWarning)  # commands report unknown words themselves
    model = options.model
    pipe = ShowoPipeline.from_pretrained(
        model.showo.pretrained_model_path,
        device=options.device,
        dtype=options.dtype,
        image_tokenizer=model.vq_model.vq_model_name,
        text_tokenizer=model.showo.llm_model_path,
        vision_tower=model.clip_model_name,
    )
    _check_sizes(pipe, options)
    pipe.prompts.truncates_prompts = True
    longest = options.dataset.preprocessing.max_seq_length
    if longest is not None:
        pipe.prompts.max_text_length = longest
    return pipe


def _check_sizes(pipe: "ShowoPipeline", options: CommonOptions) -> None:
    """Raise `InputError` if a size in the file is not the checkpoint's."""
    from showo_turbo.vocabulary import SPECIAL_TOKENS

    stated, config = options.model.showo, pipe.model.config
    sizes = ("w_clip_vit", "vocab_size", "llm_vocab_size", "codebook_size", "num_vq_tokens")
    found = {f"model.showo.{name}": (getattr(stated, name), getattr(config, name)) for name in sizes}
    found["model.showo.num_new_special_tokens"] = (stated.num_new_special_tokens, len(SPECIAL_TOKENS))
    if pipe.image_tokenizer is not None:
        found["dataset.params.resolution"] = (options.dataset.params.resolution, pipe.resolution)
    for name, (given, real) in found.items():
        if given is not None and given != real:
            raise InputError(
                f"{name} is {given}, but {stated.pretrained_model_path!r} has {real}: leave it out or fix it"
            )
