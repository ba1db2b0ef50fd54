"""Reading configs: precedence, parsing of values, and error messages."""

from pathlib import Path

import pytest

from showo_turbo.config_reader import read_config
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTrainingConfig


def test_arguments_override_files_and_files_override_defaults(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("loop: {steps: 5, seed: 1}\nmodel: {encoder_num_blocks: [3, 2]}\n")
    read = read_config(ImageTokenizerTrainingConfig, ["loop.seed=2", f"config={file}"])
    assert (read.loop.steps, read.loop.seed, read.lr) == (5, 2, 2e-3)
    assert read.model.encoder_num_blocks == (3, 2)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("loop.step=5", "unknown setting 'loop.step'.*'loop.steps'"),
        ("loop.steps=many", "loop.steps.*many"),
        ("loop.steps=0", "loop.steps is 0"),
        ("model.latent_channels=99", "latent_channels is 99"),
        ("seed", "'seed' is not of the form key=value"),
        ("config=missing.yaml", "'missing.yaml' cannot be read"),
    ],
)
def test_invalid_settings_are_named(argument: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_config(ImageTokenizerTrainingConfig, [argument])


@pytest.mark.parametrize(
    ("arguments", "hidden_size"),
    [
        ([], None),
        (["architecture=null"], None),
        (["architecture={}"], 128),
        (["architecture.hidden_size=64"], 64),
        (["architecture={hidden_size: 32}", "architecture.hidden_size=16"], 16),
    ],
)
def test_a_section_may_be_left_out_or_given(arguments: list[str], hidden_size: int | None) -> None:
    captions = "captions=[{kind: image_folder, path: captions.jsonl}]"
    architecture = read_config(FinetuningConfig, [captions, *arguments]).architecture
    assert (architecture and architecture.hidden_size) == hidden_size


def test_keys_of_a_section_that_is_left_out_are_known() -> None:
    captions = "captions=[{kind: image_folder, path: captions.jsonl}]"
    with pytest.raises(InputError, match=r"'architecture\.hiden_size'; the nearest known one is 'architecture\.hidden"):
        read_config(FinetuningConfig, [captions, "architecture.hiden_size=64"])
    with pytest.raises(InputError, match=r"setting architecture\.hidden_size: .*'x'"):
        read_config(FinetuningConfig, [captions, "architecture.hidden_size=x"])


@pytest.mark.parametrize("text", ["12:30", "2024_01_02", "010", "no", "${oc.env:HOME}", "2024-13-45", "${ five", "1e3"])
def test_texts_are_not_parsed(text: str) -> None:
    assert read_config(ImageTokenizerTrainingConfig, [f"loop.output={text}"]).loop.output == text
    assert read_config(ImageTokenizerTrainingConfig, [f"loop.tracker={text}"]).loop.tracker == text


def test_null_is_none_for_optional_fields() -> None:
    read = read_config(ImageTokenizerTrainingConfig, ["loop.tracker=null", "loop.threads=null", "loop.output=null"])
    assert (read.loop.tracker, read.loop.threads, read.loop.output) == (None, None, "null")


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "5\n", "~: a\n", "a: \xe9\n"])
def test_files_without_settings_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"wrong\.yaml"):
        read_config(ImageTokenizerTrainingConfig, [f"config={file}"])


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["loop.output='runs'"], "runs"),
        (["loop.output='a", "red", "car'", "loop.seed=3"], "a red car"),
        (["loop.output='a", "b=c", "'"], "a b=c "),
        (["loop.output=''"], ""),
        (["loop.output='tis"], "'tis"),
        (["loop.output='"], "'"),
        (["loop.output=it's"], "it's"),
        (["'loop.output=runs'"], "runs"),
        (["'loop.output=a", "red", "car'", "loop.seed=3"], "a red car"),
        (["'loop.output='"], ""),
    ],
)
def test_single_quotes_of_cmd_exe_are_removed(arguments: list[str], output: str) -> None:
    assert read_config(ImageTokenizerTrainingConfig, arguments).loop.output == output


def test_quoted_numbers_are_parsed() -> None:
    assert read_config(ImageTokenizerTrainingConfig, ["loop.seed='3'"]).loop.seed == 3
