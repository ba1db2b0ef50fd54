"""lmms-eval finds the model by its entry point, and scores a task of three images with it."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="make test-plugins has lmms-eval")

YAML = """
task: circles
dataset_path: parquet
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_visual: !function circles.images
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_new_tokens: 4096, temperature: 0, do_sample: false, num_beams: {num_beams}, top_p: 1.0}}
process_results: !function circles.score
metric_list:
  - {{metric: right, aggregation: mean, higher_is_better: true}}
metadata: [{{version: 0.0}}]
"""
FUNCTIONS = """
def images(doc):
    return [doc["image"].convert("RGB")] * doc["count"]


def score(doc, results):
    return {"right": float(results[0].strip(". ").lower() == doc["answer"])}
"""


def write_task(folder: Path, circles: dict[str, bytes], count: int = 1, num_beams: int = 1, question: str = "") -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageColumn

    folder.mkdir()
    rows = [
        {
            "image": {"bytes": content, "path": None},
            "question": question or "What color is the circle?",
            "answer": color,
            "count": count,
        }
        for color, content in circles.items()
    ]
    text = Value("string")
    columns = Features({"image": ImageColumn(), "question": text, "answer": text, "count": Value("int64")})
    Dataset.from_list(rows, features=columns).to_parquet(folder / "test.parquet")
    (folder / "circles.yaml").write_text(YAML.format(data=folder / "test.parquet", num_beams=num_beams))
    (folder / "circles.py").write_text(FUNCTIONS)


COMMAND = ("-m", "lmms_eval", "eval", "--tasks", "circles", "--include_path", "task", "--output_path", "out")


def test_a_task_of_three_images_is_scored(tmp_path: Path, circles: dict[str, bytes], run_framework) -> None:
    write_task(tmp_path / "task", circles)
    arguments = ("--model", "showo_turbo", "--model_args", "pretrained=tiny-turbo", "--batch_size", "2")
    run_framework(*COMMAND, *arguments, "--log_samples")
    (results,) = (tmp_path / "out").rglob("*_results.json")
    content = json.loads(results.read_text())
    assert content["results"]["circles"]["right,none"] == 1.0
    assert content["config"]["model_backend"] == "showo_turbo.plugins.lmms_eval_model.ShowoTurboModel (simple)"
    (samples,) = (tmp_path / "out").rglob("*_samples_circles.jsonl")
    answers = [json.loads(line)["filtered_resps"][0] for line in samples.read_text().splitlines()]
    assert len(answers) == 3


def test_the_alias_and_a_batch_of_one_give_the_same_and_the_first_image_is_read(
    tmp_path: Path, circles: dict[str, bytes], run_framework
) -> None:
    write_task(tmp_path / "task", circles, count=2)
    said = run_framework(*COMMAND, "--model", "showo-turbo", "--model_args", "pretrained=tiny-turbo")
    (results,) = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(results.read_text())["results"]["circles"]["right,none"] == 1.0
    assert "3 of 3 questions read the first of several images" in said


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"num_beams": 5}, "task 'circles', document 0: num_beams is 5: choose 1"),
        ({"count": 0}, "task 'circles', document 0: question has no image"),
        ({"question": "why? " * 400}, "task 'circles', document 0: question has 1999 characters, at most 1024"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(
    tmp_path: Path, circles: dict[str, bytes], run_framework, task: dict, expected: str
) -> None:
    write_task(tmp_path / "task", circles, **task)
    said = run_framework(*COMMAND, "--model", "showo_turbo")  # lmms-eval exits with 0 after an error
    assert expected in said


def test_an_unknown_model_is_one_line(tmp_path: Path, circles: dict[str, bytes], run_framework) -> None:
    write_task(tmp_path / "task", circles)
    said = run_framework(*COMMAND, "--model", "showo_turbo", "--model_args", "pretrained=tiny-trubo")
    assert "model 'tiny-trubo' is unknown" in said
