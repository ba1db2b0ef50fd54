"""Normalization by the shipped text tokenizers: spelling changes nothing, and trained texts keep their ids."""

import json
import random

import pytest
from tokenizers import Tokenizer

from showo_turbo.checkpoints.loading import CheckpointFiles, locate
from showo_turbo.processing.prompts import FIRST_TURN, TURN, PromptBuilder
from showo_turbo.scenes.shapes.shape_world import SHAPES


@pytest.fixture(scope="module", params=("tiny", "tiny-turbo"))
def shipped(request: pytest.FixtureRequest) -> CheckpointFiles:
    return locate(request.param)


@pytest.fixture(scope="module")
def prompts(shipped: CheckpointFiles) -> PromptBuilder:
    return PromptBuilder.from_pretrained(shipped.text_tokenizer, shipped.config)


@pytest.fixture(scope="module")
def scene_texts() -> tuple[list[str], list[str], list[str]]:
    """Captions, questions and answers of 1,500 scenes."""
    rng, captions, asked, answers = random.Random(11), set(), set(), set()
    for _ in range(1500):
        scene = SHAPES.training_scene(rng)
        captions.add(SHAPES.language.caption(scene, rng))
        for turn in [SHAPES.language.description_question(scene, rng), *SHAPES.language.questions(scene, rng)]:
            asked.add(turn.question)
            answers.add(f" {turn.answer}")
    return sorted(captions), sorted(asked), sorted(answers)


def test_trained_texts_keep_their_ids(shipped: CheckpointFiles, prompts: PromptBuilder, scene_texts: tuple) -> None:
    file = json.loads((shipped.text_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    plain = Tokenizer.from_str(json.dumps(file | {"normalizer": None}))
    captions, asked, answers = scene_texts
    texts = [*captions, *answers, *(turn.format(question) for turn in (FIRST_TURN, TURN) for question in asked)]
    assert len(texts) > 2000
    assert [text for text in texts if prompts.encode(text) != plain.encode(text, add_special_tokens=False).ids] == []


def test_spelling_of_prompts_changes_nothing(prompts: PromptBuilder, scene_texts: tuple) -> None:
    for text in scene_texts[0]:
        spaced = text.replace(" ", "  ")
        variants = [text.upper(), text.title(), text.capitalize() + ".", f"{text} !\n", f"\t{spaced}  ", f"{text}..."]
        assert [variant for variant in variants if prompts.encode(variant) != prompts.encode(text)] == []


@pytest.mark.parametrize("invisible", ["\u200b", "\u2060", "\u00ad", "\u200e", "\ufeff"])
def test_invisible_characters_change_nothing(invisible: str, prompts: PromptBuilder) -> None:
    text, question = "a red circle and a blue star", "How many stars are there?"
    for place in (0, 4, len(text)):
        assert prompts.encode(text[:place] + invisible + text[place:]) == prompts.encode(text)
        asked = question[:place] + invisible + question[place:]
        assert prompts.encode(FIRST_TURN.format(asked)) == prompts.encode(FIRST_TURN.format(question))


@pytest.mark.parametrize("template", [FIRST_TURN, TURN])
def test_spelling_of_questions_changes_nothing(template: str, prompts: PromptBuilder, scene_texts: tuple) -> None:
    for text in scene_texts[1]:
        ids, bare = prompts.encode(template.format(text)), text[:-1]
        variants = [text.upper(), text.title(), text.lower(), bare, f"{bare} ?", f"{bare}?!", f"  {bare.upper()} .  "]
        variants += [text.replace(" ", "   "), bare.replace(" ", "\t")]
        assert [variant for variant in variants if prompts.encode(template.format(variant)) != ids] == []


@pytest.mark.parametrize("text", ["<|SOI|>", "a <|T2I|> b", "\uff1c|mmu|\uff1e", "[Pad]", "<|ENDOFTEXT|>"])
def test_other_spellings_of_reserved_tokens_are_plain_text(text: str, prompts: PromptBuilder) -> None:
    vocabulary = prompts.vocabulary
    ids = prompts.encode(text)
    assert vocabulary.end_of_text_id not in ids
    assert max(ids) < vocabulary.llm_vocab_size
