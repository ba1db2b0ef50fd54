"""The tokenizer that is read without transformers gives transformers' ids and texts."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PhiConfig, PreTrainedTokenizerBase

from showo_turbo.checkpoints.names import SHIPPED_MODELS, resolve
from showo_turbo.processing.plain_tokenizer import PlainTokenizer
from showo_turbo.processing.prompts import load_text_tokenizer
from showo_turbo.vocabulary import SPECIAL_TOKENS


@pytest.fixture(scope="module", params=SHIPPED_MODELS)
def both(request: pytest.FixtureRequest) -> tuple[PlainTokenizer, PreTrainedTokenizerBase]:
    folder = resolve(request.param) / "phi"
    plain = load_text_tokenizer(folder)
    assert isinstance(plain, PlainTokenizer)
    return plain, AutoTokenizer.from_pretrained(folder, config=PhiConfig())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from(["a red star", " ", *SPECIAL_TOKENS])).map("".join))
def test_ids_and_texts_equal_those_of_transformers(both, text: str) -> None:
    plain, theirs = both
    ids = plain.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == theirs.encode(text, add_special_tokens=False, verbose=False)
    decoded = plain.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded == theirs.decode(ids, clean_up_tokenization_spaces=False)


def test_other_attributes_and_options_are_those_of_transformers(both, tmp_path: Path) -> None:
    plain, theirs = both
    assert len(plain) == len(theirs)
    assert (plain.eos_token, plain.eos_token_id) == (theirs.eos_token, theirs.eos_token_id)
    assert plain.get_vocab() == theirs.get_vocab()
    assert plain("a red star")["input_ids"] == theirs("a red star")["input_ids"]
    assert plain.encode("a star", return_tensors="pt").equal(theirs.encode("a star", return_tensors="pt"))
    ids = theirs.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert plain.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == ids
    assert plain.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    assert len(deepcopy(plain)) == len(plain)
    plain.save_pretrained(tmp_path)
    assert isinstance(load_text_tokenizer(tmp_path), PlainTokenizer)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "CodeGenTokenizer"},
        {"add_prefix_space": True},
        {"pad_token": "<|endoftext|>"},
    ],
)
def test_tokenizers_with_rules_of_their_own_are_left_to_transformers(tmp_path: Path, changes: dict) -> None:
    folder = Path(shutil.copytree(resolve("tiny-turbo") / "phi", tmp_path / "phi"))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert not isinstance(load_text_tokenizer(folder), PlainTokenizer)
