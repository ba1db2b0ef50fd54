"""`showo-turbo evaluate BENCHMARK`: every benchmark on small data in its official format, and bad input in one line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from official_data import MAKERS

EXTERNAL = {"geneval", "geneval2", "dpg-bench", "hpsv2", "image-reward", "fid"}
FILES = {
    "geneval": ["00000/metadata.jsonl", "00005/samples/0001.png"],
    "geneval2": ["image_paths.json", "images/000007-0.png"],
    "dpg-bench": ["grids/midjourney12.png"],
    "hpsv2": ["images/anime/00000.jpg", "images/photo/00001.jpg"],
    "image-reward": ["generations/model/005784-0093_1.png"],
    "clip-score": ["images/000002-1.png"],
    "fid": ["images/000000-0.png"],
    "pope": ["coco_pope_random_answers.jsonl"],
    "mme": ["OCR.txt", "code_reasoning.txt"],
    "mmmu": ["total_val_output.json"],
    "scienceqa": ["answers.jsonl"],
    "flickr30k": ["captions.json"],
    "nocaps": ["captions.json"],
    "textcaps": ["captions.json"],
    "vqav2": ["vqa_results.json"],
    "gqa": ["testdev_balanced_predictions.json"],
}
"""Some of the official files of each kind of data."""


def arguments(kind: str, folder: Path, model: Path) -> list[str]:
    name, make = MAKERS[kind]
    paths = [str(word) for key, path in make(folder).items() for word in (f"--{key}", path)]
    return ["evaluate", name, *paths, "--model", str(model), "--device", "cpu", "-o", str(folder / "out")]


@pytest.mark.parametrize("kind", MAKERS)
def test_every_benchmark_runs(
    kind: str, cli: Callable, tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = arguments(kind, tmp_path, random_checkpoint)
    options = ["--num-images", "2"] if kind in EXTERNAL | {"clip-score"} else ["--max-new-tokens", "4"]
    if kind == "clip-score":
        options += ["--only", "generate"]
    result = cli(*command, *options)
    assert result.status == 0, result.err
    for file in FILES[kind]:
        assert (tmp_path / "out" / file).stat().st_size > 0
    stamp = json.loads((tmp_path / "out" / "stamp.json").read_text())
    assert stamp["benchmark"] == MAKERS[kind][0]
    assert stamp["wall_seconds"] > 0
    assert len(stamp["data_sha256"]) == len(stamp["weights_sha256"]["transformer"]) == 64
    if kind in EXTERNAL:
        assert f"judges/{kind}/README.md" in result.err
        assert cli(*command, "--only", "score").status == 2
    elif kind != "clip-score":
        assert "95 % interval" in result.out
        written = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert written["stamp"] == stamp
        for score in written["scores"].values():
            low, high = score["interval"]
            assert low - 1e-9 <= score["value"] <= high + 1e-9


def test_the_published_value_is_beside_ours(cli: Callable, tmp_path: Path, random_checkpoint: Path) -> None:
    command = arguments("geneval", tmp_path, random_checkpoint)
    assert cli(*command, "--num-images", "1").status == 0
    rows = [
        {"filename": f"x/{number:05}/samples/0000.png", "tag": tag, "correct": number % 2 == 0}
        for number, tag in enumerate(("single_object", "two_object", "counting", "colors", "position", "color_attr"))
    ]
    results = tmp_path / "out" / "results.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cli(*command, "--only", "score", "--preset", "paper-256-4", "--judge-version", "mmdet 2.28")
    assert result.status == 0, result.err
    assert "paper-256-4" in result.out
    (overall,) = [line for line in result.out.splitlines() if "overall" in line]
    assert "0.500" in overall
    assert "0.523" in overall
    assert "yes" in overall
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["judge"]["version"] == "mmdet 2.28"
    assert written["published"] == {"preset": "paper-256-4", "overall": 0.523}

    results.write_text(json.dumps(rows[0]) + "\n")
    incomplete = cli(*command, "--only", "score")
    assert incomplete.status == 2
    assert "has 1 images, 6 were drawn" in incomplete.err


def test_the_list_names_data_licence_judge_and_cost(cli: Callable) -> None:
    result = cli("evaluate", "--list")
    assert result.status == 0
    for name in {benchmark for benchmark, _ in MAKERS.values()} | {"scenes"}:
        assert f"\n{name} (" in f"\n{result.out}"
    assert result.out.count("  licence ") == result.out.count("  judge ") == 14


def break_line(file: str, line: int, text: str) -> Callable[[Path], None]:
    """Return a function that replaces a line, counted from 1, of a file in a folder."""

    def damage(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines()
        lines[line - 1] = text
        (folder / file).write_text("\n".join(lines) + "\n")

    return damage


def change(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a function that replaces a text in a file in a folder."""

    def damage(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return damage


@pytest.mark.parametrize(
    ("kind", "damage", "options", "words"),
    [
        (
            "geneval",
            break_line("evaluation_metadata.jsonl", 2, "{"),
            [],
            ["evaluation_metadata.jsonl', line 2", "not JSON"],
        ),
        ("geneval", break_line("evaluation_metadata.jsonl", 3, "[]"), [], ["line 3", "expected an object"]),
        ("geneval", change("evaluation_metadata.jsonl", "counting", "sums"), [], ["line 3: tag is 'sums'"]),
        (
            "geneval",
            change("evaluation_metadata.jsonl", '"prompt": "two stars"', '"prompt": ""'),
            [],
            ["line 3: prompt is ''"],
        ),
        (
            "geneval2",
            change("geneval2_data.jsonl", '"4 stars"', '"3 stars"'),
            [],
            ["line 2: the prompt is there twice"],
        ),
        ("geneval2", change("geneval2_data.jsonl", '"attribute"', '"humour"'), [], ["line 1: skill is 'humour'"]),
        (
            "pope",
            change("pope/coco_pope_random.json", '"yes"', '"perhaps"'),
            [],
            ["random.json', line 1: label is 'perhaps'"],
        ),
        (
            "pope",
            change("pope/coco_pope_random.json", '"question_id": 2', '"question_id": 1'),
            [],
            ["line 2: ", "twice"],
        ),
        (
            "pope",
            lambda folder: (folder / "val2014/COCO_val2014_000000000002.jpg").unlink(),
            [],
            ["line 7: image", "--images"],
        ),
        (
            "pope",
            change("pope/coco_pope_random.json", '"COCO', '"../COCO'),
            [],
            ["line 1: image is '../COCO", "within --images"],
        ),
        (
            "mme",
            break_line("MME_Benchmark_release_version/OCR/0001.txt", 2, "Is it?"),
            [],
            ["OCR/0001.txt', line 2", "a tab"],
        ),
        (
            "mme",
            lambda folder: (folder / "MME_Benchmark_release_version/OCR").rename(folder / "x"),
            [],
            ["no folder 'OCR'"],
        ),
        ("mmmu", lambda folder: None, ["--split", "dev"], ["no file dev-*.parquet"]),
        (
            "scienceqa",
            change("scienceqa/problems.json", '"answer": 1', '"answer": 7'),
            [],
            ["problem '1': answer is 7"],
        ),
        ("scienceqa", lambda folder: None, ["--split", "exam"], ["split is 'exam'", "['train', 'val', 'test']"]),
        ("flickr30k", lambda folder: None, ["--split", "exam"], ["split is 'exam'", "has ['test', 'train']"]),
        ("flickr30k", change("dataset_flickr30k.json", '"imgid": 1', '"imgid": "1"'), [], ["images[1]: imgid is '1'"]),
        ("nocaps", change("nocaps_val_4500_captions.json", '"image_id": 3', '"image_id": 9'), [], []),
        (
            "vqav2",
            change("v2_mscoco_val2014_annotations.json", '"question_id": 103', '"question_id": 99'),
            [],
            ["questions[3]"],
        ),
        (
            "vqav2",
            change("v2_OpenEnded_mscoco_val2014_questions.json", "[{", "[["),
            [],
            ["questions.json' is not JSON", "line 1"],
        ),
        (
            "gqa",
            change("testdev_balanced_questions.json", '"imageId"', '"image"'),
            [],
            ["question '000000000': imageId is missing"],
        ),
        ("fid", lambda folder: (folder / "prompts.txt").write_text("\n"), [], ["holds nothing to evaluate"]),
        ("fid", lambda folder: (folder / "prompts.txt").write_bytes(b"a\n\xff\n"), [], ["line 2 is not UTF-8"]),
        (
            "hpsv2",
            lambda folder: (folder / "benchmark/photo.json").write_text('["a", 3]'),
            [],
            ["photo.json', [1] is 3"],
        ),
        ("dpg-bench", lambda folder: (folder / "prompts/0.txt").write_text(" "), [], ["prompts/0.txt' is empty"]),
        (
            "image-reward",
            change("benchmark-prompts.json", '"id": "005784-0093"', '"id": 7'),
            [],
            ["prompts[1]: id is 7"],
        ),
        ("fid", lambda folder: None, ["--preset", "paper-1024-4"], ["preset 'paper-1024-4' is unknown", "paper-256-4"]),
        ("fid", lambda folder: None, ["--preset", "paper-256-4"], ["is for images of 256 pixels, the model's have 32"]),
        ("fid", lambda folder: None, ["--only", "draw"], ["only is 'draw': choose generate or score"]),
        ("fid", lambda folder: None, ["--only", "score"], ["has no complete outputs"]),
        ("fid", lambda folder: None, ["--limit", "0"], ["limit is 0"]),
        ("fid", lambda folder: None, ["--scenes", "3"], ["scenes are for the built-in world"]),
        ("fid", lambda folder: None, ["--steps", "17"], ["num_inference_steps is 17"]),
        ("fid", lambda folder: None, ["--model", "tinny"], ["model 'tinny' is unknown"]),
        ("fid", lambda folder: (folder / "out").write_text(""), [], ["out' is a file"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    kind: str,
    damage: Callable[[Path], None],
    options: list[str],
    words: list[str],
    cli: Callable,
    tmp_path: Path,
    random_checkpoint: Path,
) -> None:
    command = arguments(kind, tmp_path, random_checkpoint)
    damage(tmp_path)
    result = cli(*command, *options)
    if not words:
        assert result.status == 0, result.err
        return
    assert result.status == 2
    (line,) = result.err.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["genevall"], "did you mean geneval?"),
        (["geneval"], "data is missing: give evaluation_metadata.jsonl"),
        (["geneval", "--data", "missing.jsonl", "-o", "out"], "'missing.jsonl' cannot be read (No such file"),
        (["geneval", "--data", "missing.jsonl"], "output is missing"),
        (["--data", "x"], "data is for published benchmarks: name one first"),
        (["pope", "--data", "missing", "-o", "out"], "'missing' cannot be read"),
    ],
)
def test_missing_options_are_named(options: list[str], words: str, cli: Callable, here: Path) -> None:
    result = cli("evaluate", *options)
    assert result.status == 2
    (line,) = result.err.strip().splitlines()
    assert words in line
