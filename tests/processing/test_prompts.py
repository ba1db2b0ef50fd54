"""Prompts: checks, truncation, and decoding."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from showo_turbo.cli.terminal import TextPrinter
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.processing.prompts import PromptBuilder, left_pad, load_text_tokenizer
from showo_turbo.vocabulary import SPECIAL_TOKENS


def test_left_pad_aligns_the_ends_of_rows() -> None:
    batch = left_pad([[1, 2, 3], [9], [9, 0]], pad_id=0)
    assert batch.ids.tolist() == [[1, 2, 3], [0, 0, 9], [0, 9, 0]]
    assert batch.is_pad.tolist() == [[False] * 3, [True, True, False], [True, False, False]]


def test_decode_stops_at_end_of_text_and_skips_other_ids(tiny_prompts: PromptBuilder) -> None:
    vocabulary = tiny_prompts.vocabulary
    car, rest = tiny_prompts.encode("a red car"), tiny_prompts.encode(" and more")
    ids = [vocabulary.mmu_id, *car, vocabulary.mask_id, vocabulary.image_offset, vocabulary.end_of_text_id, *rest]
    assert tiny_prompts.decode(ids) == "a red car"
    assert tiny_prompts.decode(torch.tensor(ids)) == "a red car"
    assert tiny_prompts.decode([]) == ""


def test_truncated_end_completes_the_prompt(tiny_prompts: PromptBuilder) -> None:
    prompt = "two dogs are playing in the snow near the house"
    ids = tiny_prompts.text_to_image(prompt)
    assert len(ids) == 1 + tiny_prompts.max_text_length
    assert ids[-1] == tiny_prompts.vocabulary.end_of_text_id
    assert tiny_prompts.decode(ids[2:-1]) + tiny_prompts.truncated_end(prompt) == prompt
    assert tiny_prompts.truncated_end("a red car") == ""


def test_unconditional_prompt_has_no_text(tiny_prompts: PromptBuilder) -> None:
    vocabulary = tiny_prompts.vocabulary
    end = vocabulary.end_of_text_id
    assert tiny_prompts.unconditional() == [vocabulary.t2i_id, end, end]


def test_valid_texts_pass(tiny_prompts: PromptBuilder) -> None:
    tiny_prompts.check_prompt("a red car")
    assert tiny_prompts.check_question("<image>\nWhat is\nthis?") == "What is this?"
    assert len(tiny_prompts.check_question("x" * 1024)) == 1024


@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, "<|endoftext|>"])
def test_reserved_tokens_are_refused(token: str, tiny_prompts: PromptBuilder) -> None:
    with pytest.raises(InputError, match="reserved token"):
        tiny_prompts.check_prompt(f"a {token} car")
    with pytest.raises(InputError, match="reserved token"):
        tiny_prompts.check_question(f"a {token} car?")


def test_empty_and_overlong_texts_are_refused(tiny_prompts: PromptBuilder) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        tiny_prompts.check_prompt(" \n")
    with pytest.raises(InputError, match="question is empty"):
        tiny_prompts.check_question("<image>\n")
    with pytest.raises(InputError, match=r"1025 characters, at most 1024"):
        tiny_prompts.check_question("x" * 1025)


def test_a_tokenizer_of_another_size_is_refused(tiny_folder: Path, tiny_config: ShowoConfig) -> None:
    other = dataclasses.replace(tiny_config, llm_vocab_size=290, vocab_size=813)
    with pytest.raises(InputError, match=r"310 ids .* 290 \+ 10 special tokens = 300"):
        PromptBuilder.from_pretrained(tiny_folder / "phi-tiny", other)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="text tokenizer: none could be loaded"):
        load_text_tokenizer(tmp_path)


def test_a_tokenizer_saved_with_its_special_tokens_loads(
    tmp_path: Path, tiny_prompts: PromptBuilder, tiny_config: ShowoConfig
) -> None:
    tiny_prompts.tokenizer.save_pretrained(tmp_path)
    again = PromptBuilder.from_pretrained(tmp_path, tiny_config)
    assert again.vocabulary == tiny_prompts.vocabulary
    assert again.text_to_image("a <|soi|> car") == tiny_prompts.text_to_image("a <|soi|> car")


def test_a_text_of_any_length_is_bounded_before_it_is_tokenized(
    tiny_prompts: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"its end, '.{60,70}', would be cut: shorten it \(it has [0-9]+ tokens\)$"):
        tiny_prompts.check_prompt("a red car " * 6000)
    lengths: list[int] = []
    encode = tiny_prompts.encode
    monkeypatch.setattr(tiny_prompts, "encode", lambda text: lengths.append(len(text)) or encode(text[:100]))
    for check in (tiny_prompts.check_prompt, tiny_prompts.check_question):
        with pytest.raises(InputError, match=r"has 10,?000,?000 characters"):
            check("x" * 10_000_000)
    tiny_prompts.language_modelling("x" * 10_000_000)
    assert lengths == [1 << 20]


def test_a_long_text_is_shortened_in_messages(tiny_prompts: PromptBuilder) -> None:
    with pytest.raises(InputError, match=r"^prompt 'a{29} \.\.\. a{23}.udce9' is in another encoding"):
        tiny_prompts.check_prompt("a" * 5000 + "\udce9")


@pytest.mark.parametrize("damaged", ["\ufeff{}", "{}\r", "\ufeff{}\r", "{}\r\r"])
def test_byte_order_marks_and_carriage_returns_change_nothing(damaged: str, tiny_prompts: PromptBuilder) -> None:
    assert tiny_prompts.check_prompt(damaged.format("a red car")) == "a red car"
    assert tiny_prompts.check_question(damaged.format("What is this?")) == "What is this?"


def test_line_ends_are_newlines(tiny_prompts: PromptBuilder) -> None:
    assert tiny_prompts.check_prompt(" a\r\nred\rcar ") == " a\nred\ncar "
    assert tiny_prompts.check_question("What\r\nis\rthis?\r\n") == "What is this?"
    for check in (tiny_prompts.check_prompt, tiny_prompts.check_question):
        with pytest.raises(InputError, match="is empty"):
            check("\ufeff\r\n")


def test_answers_follow_the_spacing_of_the_tokenizers_config(
    tmp_path: Path, tiny_folder: Path, tiny_config: ShowoConfig, tiny_prompts: PromptBuilder
) -> None:
    shutil.copytree(tiny_folder / "phi-tiny", tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"clean_up_tokenization_spaces": True}))
    cleaning = PromptBuilder.from_pretrained(tmp_path, tiny_config)
    text = "a dog , it is n't 's . Why ?"
    assert tiny_prompts.decode(tiny_prompts.encode(text)) == text
    assert cleaning.decode(cleaning.encode(text)) == "a dog, it isn't's. Why?"
    printed = io.StringIO()
    printer = TextPrinter(cleaning, printed)
    printer.put(torch.tensor([cleaning.next_turn("Why?")]))
    for token in cleaning.encode(text):
        printer.put(torch.tensor([token]))
    printer.end()
    assert printed.getvalue() == "a dog, it isn't's. Why?\n"
