"""Formulas against cases computed by hand, and the libraries that compute the others."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import option_letter, yes_or_no_in_prefix
from showo_turbo.evaluation.benchmarks.captions import cider
from showo_turbo.evaluation.benchmarks.definition import Judging
from showo_turbo.evaluation.benchmarks.drawn_images import mean_score, write_plain
from showo_turbo.evaluation.benchmarks.geneval2 import geometric_mean
from showo_turbo.evaluation.benchmarks.mme import task_score
from showo_turbo.evaluation.benchmarks.registry import BENCHMARKS
from showo_turbo.evaluation.benchmarks.vqa_accuracy import vqa_accuracy
from showo_turbo.evaluation.item_store import wall_seconds
from showo_turbo.evaluation.items import Item
from showo_turbo.evaluation.statistics import bootstrap_interval


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [("Yes.", "yes"), ("no", "no"), ("know", "no"), ("eyes no", "yes"), ("I do not", "other"), ("", "other")],
)
def test_mme_reads_the_first_four_characters(answer: str, meaning: str) -> None:
    assert yes_or_no_in_prefix(answer) == meaning


def test_accuracy_plus_counts_images_with_both_answers_right() -> None:
    # Three images: both right, one right, none right; accuracy 3 / 6, accuracy+ 1 / 3.
    assert task_score(np.array([6.0, 3.0, 3.0, 1.0])) == pytest.approx(50 + 100 / 3)


@pytest.mark.parametrize(
    ("annotations", "answer", "accuracy"),
    [
        (["red"] * 10, "red", 1),
        (["red"] * 10, "Red", 0),  # texts are not normalized where all annotators agree
        (["red"] * 3 + ["blue"] * 7, "Red.", 0.9),  # 3 annotators see 2 others, 7 see 3: (3 * 2/3 + 7) / 10
        (["red"] + ["blue"] * 9, "red", 0.3),  # 9 * 1/3 / 10
        (["2"] * 5 + ["two"] * 5, "two", 1),
        (["red"] + ["blue"] * 9, "green", 0),
    ],
)
def test_vqa_accuracy(annotations: Sequence[str], answer: str, accuracy: float) -> None:
    assert vqa_accuracy(answer, annotations) == pytest.approx(accuracy)


def test_an_option_beyond_the_choices_is_no_letter() -> None:
    assert option_letter("C", 3) == "C"
    assert option_letter("C", 2) is None
    assert option_letter("AB", 3) is None


def test_geometric_mean() -> None:
    assert geometric_mean([0.25, 1.0]) == pytest.approx(0.5)
    assert geometric_mean([0.0, 1.0]) == 0


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(400)
    counts = np.stack([values, np.ones_like(values)], axis=1)
    low, high = bootstrap_interval([counts], lambda sums: float(sums[0][0] / sums[0][1]), resamples=4000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)


def test_bootstrap_of_equal_groups_is_a_point_and_of_strata_is_within_each() -> None:
    equal = np.tile([1.0, 2.0], (5, 1))
    assert bootstrap_interval([equal], lambda sums: float(sums[0][0] / sums[0][1])) == (0.5, 0.5)
    # Every stratum keeps its number of groups: the sum of counts never varies.
    strata = [np.ones((3, 1)), np.ones((7, 1))]
    assert bootstrap_interval(strata, lambda sums: float(sums[0][0] + 10 * sums[1][0])) == (73.0, 73.0)


def test_groups_of_two_equal_cases_have_the_interval_of_half_as_many() -> None:
    single = np.array([[float(i % 2), 1.0] for i in range(50)])
    pairs = np.array([[2.0 * (i % 2), 2.0] for i in range(50)])
    mean = lambda sums: float(sums[0][0] / sums[0][1])  # noqa: E731
    assert bootstrap_interval([single], mean) == bootstrap_interval([pairs], mean)


def test_mean_over_prompts_does_not_weight_by_images() -> None:
    assert mean_score([[1.0, 1.0, 1.0], [0.0]]).value == 0.5


def test_wall_time_is_the_union_of_the_runs() -> None:
    runs = [
        {"start": 0, "seconds": 10},
        {"start": 5, "seconds": 10},
        {"start": 100, "seconds": 1},
        {"start": 7, "seconds": 1},
    ]
    assert wall_seconds(runs) == 16


def test_cider_of_hand_computed_captions() -> None:
    """Two images; each caption has one reference, so that every n-gram of one image has the document frequency 1.

    Equal texts have the cosine 1 for each n up to their length, times 10, averaged over n of 1 to 4. "a b c d" against
    "a b c e": cosines 3/4, 2/3, 1/2, 0 with equal weights of all n-grams.
    """
    scores = cider([["red blue green white"], ["one two three four"]], ["red blue green white", "one two three six"])
    assert scores[0] == pytest.approx(1000, rel=1e-6)
    # "six" is in no reference: its frequency is taken as 1, the weight of the others.
    assert scores[1] == pytest.approx(1000 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4, rel=1e-6)


def test_captions_are_tokenized_without_punctuation_and_case() -> None:
    plain, marked = cider([["a red dog runs"], ["two cats sleep here"]], ["a red dog runs", "Two cats, sleep here."])
    assert plain == pytest.approx(marked)


def test_clip_score_is_100_times_the_cosine(tmp_path: Path, tiny_clip: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    items = [Item(f"{number:06}", text, "here") for number, text in enumerate(("a red circle", "a blue star"))]
    images = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    for item, image in zip(items, images, strict=True):
        write_plain(tmp_path, item, [image])
    scores = BENCHMARKS["clip-score"].score(Judging(tmp_path, items, tiny_clip))
    model, processor = CLIPModel.from_pretrained(tiny_clip).eval(), CLIPProcessor.from_pretrained(tiny_clip)
    with torch.no_grad():
        output = model(
            **processor(text=[item.text for item in items], images=images, return_tensors="pt", padding=True)
        )
    cosines = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
    (score,) = scores.values()
    assert score.value == pytest.approx(float(100 * cosines.clamp(min=0).mean()), abs=1e-3)
    assert list(scores) == ["CLIP score, tiny-clip"]


def test_clip_score_needs_a_clip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judge is missing"):
        BENCHMARKS["clip-score"].score(Judging(tmp_path, [Item("0", "a", "here")]))
    with pytest.raises(InputError, match="is no CLIP model"):
        BENCHMARKS["clip-score"].score(Judging(tmp_path, [Item("0", "a", "here")], tmp_path))
