"""Check what a command is given before torch is imported, which takes longer than all checks."""

from collections.abc import Sequence
from pathlib import Path

from showo_turbo.checkpoints.names import resolve
from showo_turbo.configuration import ShowoConfig
from showo_turbo.files import read_json
from showo_turbo.validation import check_dtype, check_quantization


def check_model(model: str, dtype: str, quantization: str | None) -> None:
    """Check the options that name a model and its precision; a hub name is downloaded.

    Raises:
        InputError: if one is unknown.
    """
    check_dtype(dtype)
    check_quantization(quantization)
    resolve(model)


def check_texts(model: str, prompts: Sequence[str] = (), questions: Sequence[str] = ()) -> None:
    """Check prompts and questions with the text tokenizer of a model, if it can be read without transformers.

    Raises:
        InputError: as `PromptBuilder.check_prompt` and `PromptBuilder.check_question`.
    """
    from showo_turbo.processing.plain_tokenizer import open_plain_tokenizer
    from showo_turbo.processing.prompts import PromptBuilder, build_vocabulary, load_text_tokenizer

    folder = resolve(model)
    text_folder: Path = folder / "phi"
    if not (folder / "config.json").is_file() or not text_folder.is_dir():
        return
    tokenizer = open_plain_tokenizer(text_folder, lambda: load_text_tokenizer(text_folder))
    if tokenizer is None:
        return
    config = ShowoConfig.from_dict(read_json(folder / "config.json"))
    builder = PromptBuilder(tokenizer, build_vocabulary(tokenizer, config), config.max_text_length)
    for prompt in prompts:
        builder.check_prompt(prompt)
    for question in questions:
        builder.check_question(question)
