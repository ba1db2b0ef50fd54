"""Regular expressions of text tokenizers: those in use pass, those that may take hours are refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace

from showo_turbo.errors import InputError
from showo_turbo.processing.prompts import PromptBuilder, load_text_tokenizer
from showo_turbo.processing.tokenizer_patterns import check_pattern
from showo_turbo.vocabulary import Vocabulary

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
IN_USE = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "GPT-4": _WORDS + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lo}]+(?i:'s|'t)?| ?[^\s\p{L}]+[\r\n/]*|\s+",
    "digits": r"\d{1,3}(?=(?:\d{3})*\b)",
    "spaces": r" {2,}",
    "named group": r"(?<word>[[:alpha:]]+)\h",
    "looks behind": r"(?<=(?:^|[.?!] ))What\b",
    "flags": r"(?i)[A-Z&&[^Q]]+\z",
}


@pytest.mark.parametrize("name", IN_USE)
def test_patterns_in_use_pass(name: str) -> None:
    check_pattern(IN_USE[name])


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "([a-z0-9_.]+)+X",
        "(ab|a)*b",
        "(a|ab|b)+?c",
        "(?:a?a?)+b",
        "((ab){1,9}){1,90}c",
        "(?=(a*)*b)a",
        "(?>(a*)*)b",
        r"(?<name>\p{L}+)+b",
        ".*.*.*x",
        "a+b*a+a*c",
    ],
)
def test_patterns_that_may_take_hours_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="may take hours"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["((", "(" * 5_000, "a{99999999999999}", "a" * 100_000])
def test_patterns_without_structure_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="pattern") as raised:
        check_pattern(pattern)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer", "decoder"])
def test_a_tokenizer_with_such_a_pattern_is_refused(random_checkpoint: Path, tmp_path: Path, place: str) -> None:
    folder = Path(shutil.copytree(random_checkpoint / "phi", tmp_path / "phi"))
    values = json.loads((folder / "tokenizer.json").read_text())
    step = {"type": "Split" if place == "pre_tokenizer" else "Replace", "pattern": {"Regex": "(a+)+b"}}
    step |= {"behavior": "Isolated", "invert": False} if place == "pre_tokenizer" else {"content": "a"}
    (folder / "tokenizer.json").write_text(json.dumps(values | {place: step}))
    with pytest.raises(InputError, match=r"tokenizer\.json': pattern '\(a\+\)\+b' may take hours"):
        load_text_tokenizer(folder)


def test_a_text_that_the_library_gives_up_on_is_refused() -> None:
    """A pattern that is tried too often is an exception of a type of its own, which is no `Exception`."""
    backend = Tokenizer(BPE())
    backend.normalizer = Replace(Regex("(a+)+b"), "a")
    builder = PromptBuilder(SimpleNamespace(backend_tokenizer=backend), Vocabulary(100, 16, 0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'a.*a' cannot be tokenized"):
        builder.encode("a" * 40)
