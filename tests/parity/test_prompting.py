"""Prompts equal those of the published prompt builder."""

import json
from pathlib import Path

import pytest

from showo_turbo.processing.prompts import PromptBuilder, left_pad
from showo_turbo.vocabulary import SPECIAL_TOKENS, Vocabulary


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict:
    return json.loads((golden / "prompting.json").read_text())


def test_special_ids(expected: dict, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary) -> None:
    ids = tiny_prompts.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert ids[1:] == [expected["special_ids"][token] for token in SPECIAL_TOKENS[1:]]
    assert tiny_vocabulary.pad_id == expected["pad_token_id"]
    assert tiny_vocabulary.end_of_text_id == expected["bos_token_id"]
    assert tiny_vocabulary.image_offset == expected["tokenizer_len"]


def test_tokenization(expected: dict, tiny_prompts: PromptBuilder) -> None:
    ids = [tiny_prompts.encode(text) for text in expected["texts"]]
    assert ids == expected["raw_tokenization"]
    assert [tiny_prompts.tokenizer.decode(row) for row in ids] == expected["decode_roundtrip"]


def test_text_to_image(expected: dict, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary) -> None:
    prefix = left_pad([tiny_prompts.text_to_image(text) for text in expected["texts"]], tiny_vocabulary.pad_id)
    rows = [
        [*row, tiny_vocabulary.soi_id, *image, tiny_vocabulary.eoi_id]
        for row, image in zip(prefix.ids.tolist(), expected["image_ids"], strict=True)
    ]
    assert rows == expected["turbo"]["t2i_gen"]["input_ids"]
    assert rows == expected["turbo"]["t2i_dropout0"]["input_ids"]


def test_understanding(expected: dict, tiny_prompts: PromptBuilder) -> None:
    for case in expected["mmu_inference_prompt"]:
        assert tiny_prompts.understanding(case["codes"], case["question"]) == case["input_ids"]


@pytest.mark.parametrize("length", [12, 24])
def test_language_modelling(length: int, expected: dict, tiny_prompts: PromptBuilder) -> None:
    """Published rows are truncated at the end and padded on the right."""
    pad = tiny_prompts.vocabulary.pad_id
    rows = [tiny_prompts.language_modelling(text) for text in expected["texts"]]
    assert [(row + [pad] * length)[:length] for row in rows] == expected["turbo"][f"lm_max{length}"]["input_ids"]


def test_understanding_rows_of_training(expected: dict, tiny_prompts: PromptBuilder) -> None:
    """Published rows are the image and a text truncated like a prompt, padded on the right."""
    vocabulary = tiny_prompts.vocabulary
    for text, image, row in zip(
        expected["texts"], expected["image_ids"], expected["turbo"]["mmu"]["input_ids"], strict=True
    ):
        prefix = tiny_prompts.image_prefix(code - vocabulary.image_offset for code in image)
        ids = prefix + tiny_prompts.text_to_image(text)[1:]
        assert ids + [vocabulary.pad_id] * (len(row) - len(ids)) == row
