"""Our scores of small files are those that the official scripts print for them.

`official/NAME.json` holds the answers, what the official script made of the files that we write for them, and where the
script is from.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from official_data import MAKERS

from showo_turbo.evaluation.benchmarks.answer_rules import option_letter
from showo_turbo.evaluation.benchmarks.definition import DataPaths, Judging, Score
from showo_turbo.evaluation.benchmarks.mmmu_answers import is_open_answer_right, letter_of
from showo_turbo.evaluation.benchmarks.registry import BENCHMARKS
from showo_turbo.evaluation.benchmarks.vqa_accuracy import normalize
from showo_turbo.evaluation.items import Item


def official(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "official" / f"{name}.json").read_text())


def read(name: str, folder: Path) -> list[Item]:
    benchmark, make = MAKERS[name]
    data = BENCHMARKS[benchmark].read(DataPaths(**make(folder)))
    data.check()
    return list(data.items)


def score_answers(name: str, answers: list[str], folder: Path) -> dict[str, Score]:
    return BENCHMARKS[MAKERS[name][0]].score(read(name, folder), answers)


def test_pope(tmp_path: Path) -> None:
    expected = official("pope")
    scores = score_answers("pope", expected["answers"], tmp_path)
    for file, values in expected["output"].items():
        assert scores[f"accuracy, {file}"].value == pytest.approx(100 * values["Accuracy"])
        assert scores[f"f1, {file}"].value == pytest.approx(100 * values["F1 score"])
    files = expected["output"].values()
    for name, key in (("precision", "Precision"), ("recall", "Recall"), ("yes_ratio", "Yes ratio")):
        assert scores[name].value == pytest.approx(100 * sum(values[key] for values in files) / len(files))


def test_mme(tmp_path: Path) -> None:
    expected = official("mme")
    scores = score_answers("mme", expected["answers"], tmp_path)
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected["output"])


@pytest.mark.parametrize("case", range(3))
def test_vqav2(case: int, tmp_path: Path) -> None:
    expected = official("vqav2")
    accuracy, by_question = expected["output"][case]
    scores = score_answers("vqav2", expected["answers"][case], tmp_path)
    assert scores["accuracy"].value == pytest.approx(accuracy["overall"], abs=1e-5)
    for kind, value in accuracy["perAnswerType"].items():
        assert scores[f"accuracy, {kind}"].value == pytest.approx(value, abs=1e-5)
    assert len(by_question) == len(expected["answers"][case])


def test_texts_are_normalized_as_by_vqa() -> None:
    for text, expected in official("vqa_normalize")["output"].items():
        assert normalize(text) == expected, text


def test_mmmu(tmp_path: Path) -> None:
    expected = official("mmmu")
    scores = score_answers("mmmu", expected["answers"], tmp_path)
    assert scores["accuracy"].value / 100 == pytest.approx(expected["output"]["Overall"]["acc"], abs=5e-4)
    for subject in ("Accounting", "Electronics"):
        assert scores[subject].value / 100 == pytest.approx(expected["output"][subject]["acc"], abs=5e-4)


@pytest.mark.parametrize(("answer", "letter"), official("mmmu")["letters"])
def test_letters_are_found_as_by_mmmu(answer: str, letter: str) -> None:
    assert letter_of(answer, official("mmmu")["options"]) == letter


@pytest.mark.parametrize(("answer", "expected", "right"), official("mmmu")["open"])
def test_open_answers_are_read_as_by_mmmu(answer: str, expected: str | list[str], right: bool) -> None:
    assert is_open_answer_right(answer, expected) is right


def test_scienceqa(tmp_path: Path) -> None:
    expected = official("scienceqa")
    scores = score_answers("scienceqa", expected["answers"], tmp_path)
    assert scores["accuracy"].value == pytest.approx(expected["output"]["IMG-Accuracy"], abs=0.005)
    for item, answer in zip(read("scienceqa", tmp_path / "again"), expected["answers"], strict=True):
        parsed, count = expected["output"]["parsed"][item.id], item.record["choices"]
        assert option_letter(answer, count) == (parsed if parsed in "ABCDE"[:count] else None)


def judge(name: str, result: str, folder: Path, images_per_prompt: int) -> dict[str, Score]:
    items = read(name, folder / "data")
    path = folder / "result"
    path.write_text(result)
    return BENCHMARKS[name].score(Judging(folder, items, path, images_per_prompt))


def test_geneval(tmp_path: Path) -> None:
    expected = official("geneval")
    lines = "".join(json.dumps(row) + "\n" for row in expected["results"])
    scores = judge("geneval", lines, tmp_path, 4)
    assert scores["overall"].value == pytest.approx(expected["output"]["overall"])
    assert {name: 100 * scores[name].value for name in expected["output"]["tags"]} == expected["output"]["tags"]


def test_geneval2(tmp_path: Path) -> None:
    expected = official("geneval2")
    scores = judge("geneval2", json.dumps(expected["lists"]), tmp_path, 1)
    for skill, value in expected["output"]["skills"].items():
        assert scores[skill].value == pytest.approx(value, abs=0.005)
    for atoms, value in expected["output"]["atoms"].items():
        assert scores[f"GM, {atoms} atoms"].value == pytest.approx(value, abs=0.005)
    means = [sum(values) / len(values) for values in expected["lists"]]
    assert scores["Soft-TIFA AM"].value == pytest.approx(100 * sum(means) / len(means))
    by_atoms = expected["output"]["atoms"].values()  # one prompt each
    assert scores["Soft-TIFA GM"].value == pytest.approx(sum(by_atoms) / len(by_atoms), abs=0.005)


def test_dpg_bench(tmp_path: Path) -> None:
    expected = official("dpg-bench")
    scores = judge("dpg-bench", expected["results"], tmp_path, 4)
    assert scores["overall"].value == pytest.approx(expected["output"]["DPG-Bench score"])
    assert {"L1 entity", "L1 attribute", "L2 attribute - color"} <= set(scores)


def test_image_reward(tmp_path: Path) -> None:
    expected = official("image-reward")
    scores = judge("image-reward", json.dumps(expected["results"]), tmp_path, 3)
    assert scores["ImageReward"].value == pytest.approx(expected["output"]["model"])
