"""Small data in the official file format of every benchmark, with images of one color each."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
from PIL import Image

from showo_turbo.evaluation.benchmarks.mme import COGNITION, PERCEPTION

COLORS = ("red", "green", "blue", "yellow")


def write_json(path: Path, values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_image(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), COLORS[number % 4]).save(path)
    return path


def geneval(folder: Path) -> dict[str, Path]:
    one = {"class": "circle", "count": 1}
    records = [
        {"tag": "single_object", "include": [one], "prompt": "a red circle"},
        {"tag": "two_object", "include": [one, {"class": "star", "count": 1}], "prompt": "a circle and a star"},
        {
            "tag": "counting",
            "include": [{"class": "star", "count": 2}],
            "exclude": [{"class": "star", "count": 3}],
            "prompt": "two stars",
        },
        {"tag": "colors", "include": [one | {"color": "blue"}], "prompt": "a blue circle"},
        {
            "tag": "position",
            "include": [one, {"class": "star", "count": 1, "position": ["left of", 0]}],
            "prompt": "a star left of a circle",
        },
        {"tag": "color_attr", "include": [one | {"color": "red"}], "prompt": "a red circle and a blue star"},
    ]
    return {"data": write_jsonl(folder / "evaluation_metadata.jsonl", records)}


def geneval2(folder: Path) -> dict[str, Path]:
    """One prompt of each number of atoms, from 3 to 10."""
    skills = ["count", "attribute", "object", "position", "verb"]
    records = [
        {
            "prompt": f"{number} stars",
            "atom_count": number,
            "vqa_list": [[f"Is there part {part} in the image?", "Yes"] for part in range(number)],
            "skills": [skills[part % 5] for part in range(number)],
        }
        for number in range(3, 11)
    ]
    return {"data": write_jsonl(folder / "geneval2_data.jsonl", records)}


def dpg_bench(folder: Path) -> dict[str, Path]:
    (folder / "prompts").mkdir(parents=True)
    for name, prompt in (
        ("0", "a red circle"),
        ("midjourney12", "a green star"),
        ("partiprompts7", "two blue squares"),
    ):
        (folder / "prompts" / f"{name}.txt").write_text(prompt + "\n")
    return {"data": folder / "prompts"}


def hpsv2(folder: Path) -> dict[str, Path]:
    for style in ("anime", "concept-art", "paintings", "photo"):
        write_json(folder / "benchmark" / f"{style}.json", [f"a red circle in {style}", "a star"])
    return {"data": folder / "benchmark"}


def image_reward(folder: Path) -> dict[str, Path]:
    prompts = [{"id": "005695-0057", "prompt": "a red circle"}, {"id": "005784-0093", "prompt": "a star"}]
    return {"data": write_json(folder / "benchmark-prompts.json", prompts)}


def prompts(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("a red circle\n\na star\ntwo blue squares\n")
    return {"data": folder / "prompts.txt"}


def pope(folder: Path) -> dict[str, Path]:
    for name in ("coco_pope_adversarial", "coco_pope_random"):
        records = [
            {
                "question_id": number + 1,
                "image": f"COCO_val2014_{number // 3:012}.jpg",
                "text": f"Is there a {COLORS[number % 4]} circle in the image?",
                "label": ("yes", "no")[number % 2],
            }
            for number in range(12)
        ]
        write_jsonl(folder / "pope" / f"{name}.json", records)
    for number in range(4):
        write_image(folder / "val2014" / f"COCO_val2014_{number:012}.jpg", number)
    return {"data": folder / "pope", "images": folder / "val2014"}


def mme(folder: Path) -> dict[str, Path]:
    release = folder / "MME_Benchmark_release_version"
    for task in (*PERCEPTION, *COGNITION):
        is_nested = task in ("posters", "celebrity", "scene", "landmark", "artwork")
        for number in range(3):
            name = f"{number:04}"
            write_image(release / task / ("images" if is_nested else "") / f"{name}.jpg", number)
            texts = release / task / ("questions_answers_YN" if is_nested else "")
            texts.mkdir(parents=True, exist_ok=True)
            ask = f"Is this {COLORS[number]}? Please answer yes or no."
            (texts / f"{name}.txt").write_text(f"{ask}\tYes\n{ask.replace('this', 'it')}\tNo\n")
    return {"data": release}


def mmmu(folder: Path) -> dict[str, Path]:
    buffer = BytesIO()
    Image.new("RGB", (40, 32), "red").save(buffer, format="PNG")
    for subject, kinds in (
        ("Accounting", ["multiple-choice"] * 5),
        ("Electronics", ["multiple-choice", "open", "open"]),
    ):
        rows = []
        for number, kind in enumerate(kinds, 1):
            choices = kind == "multiple-choice"
            options = ["a current asset", "a long-term debt", "equity of owners"]
            rows.append(
                {
                    "id": f"validation_{subject}_{number}",
                    "question": f"What is number {number} in <image 1>?",
                    "options": str(options if choices else []),
                    "answer": "ABC"[number % 3] if choices else ("['36', '36 W']" if number == 2 else "551"),
                    "question_type": kind,
                    "image_1": {"bytes": buffer.getvalue(), "path": "1.png"},
                }
            )
        path = folder / "MMMU" / subject / "validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return {"data": folder / "MMMU"}


def scienceqa(folder: Path) -> dict[str, Path]:
    problems = {
        str(number): {
            "question": f"Which color is square {number}?",
            "choices": ["red", "green", "blue"][: 2 + number % 2],
            "answer": number % 2,
            "hint": "Look at it." if number % 3 == 0 else "",
            "image": None if number == 4 else "image.png",
        }
        for number in range(1, 11)
    }
    write_json(folder / "scienceqa" / "problems.json", problems)
    write_json(folder / "scienceqa" / "pid_splits.json", {"train": [], "val": [], "test": list(problems)})
    for number in problems:
        write_image(folder / "images" / "test" / number / "image.png", int(number))
    return {"data": folder / "scienceqa", "images": folder / "images"}


def captions(folder: Path) -> dict[str, Path]:
    """Flickr30k in Karpathy's format; another image is in the split train."""
    images = [
        {
            "imgid": number,
            "filename": f"{number}.jpg",
            "split": "train" if number == 4 else "test",
            "sentences": [{"raw": f"A {color} square is on the table."}, {"raw": f"There's one {color} shape, alone."}],
        }
        for number, color in enumerate((*COLORS, "gray"))
    ]
    for number in range(5):
        write_image(folder / "flickr30k-images" / f"{number}.jpg", number)
    data = write_json(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    return {"data": data, "images": folder / "flickr30k-images"}


def nocaps(folder: Path) -> dict[str, Path]:
    images = [
        {"id": number, "file_name": f"{number}.jpg", "open_images_id": f"{number}", "domain": "near-domain"}
        for number in range(4)
    ]
    annotations = [
        {"id": number, "image_id": number % 4, "caption": f"A {COLORS[number % 4]} square, seen from {number}."}
        for number in range(8)
    ]
    for number in range(4):
        write_image(folder / "validation" / f"{number}.jpg", number)
    data = write_json(folder / "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})
    return {"data": data, "images": folder / "validation"}


def textcaps(folder: Path) -> dict[str, Path]:
    entries = [
        {
            "image_id": f"{number // 2:016x}",
            "caption_str": "x",
            "reference_strs": [f"A {COLORS[number // 2]} sign.", "Stop."],
        }
        for number in range(8)
    ]
    for number in range(4):
        write_image(folder / "train_images" / f"{number:016x}.jpg", number)
    return {"data": write_json(folder / "TextCaps_0.1_val.json", {"data": entries}), "images": folder / "train_images"}


ANNOTATED = (
    ["yes"] * 10,
    ["2"] * 4 + ["two"] * 3 + ["3"] * 3,
    ["dont know"] * 2 + ["blue"] * 2 + ["Blue."] * 3 + ["a blue one"] * 3,
    ["10,000"] * 5 + ["10000"] * 3 + ["ten thousand"] * 2,
    ["couldn'tve"] * 5 + ["no"] * 5,
    ["red/blue"] * 4 + ["red blue"] * 2 + ["red"] * 4,
)


def vqa(folder: Path) -> dict[str, Path]:
    questions = [
        {"question_id": 100 + number, "image_id": number // 2, "question": f"What is at {number}?"}
        for number in range(len(ANNOTATED))
    ]
    annotations = [
        {
            "question_id": 100 + number,
            "image_id": number // 2,
            "question_type": "what is",
            "answer_type": ("yes/no", "number", "other")[number % 3],
            "answers": [
                {"answer": text, "answer_id": i, "answer_confidence": "yes"} for i, text in enumerate(answers, 1)
            ],
        }
        for number, answers in enumerate(ANNOTATED)
    ]
    for number in range(3):
        write_image(folder / "val2014" / f"COCO_val2014_{number:012}.jpg", number)
    data = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    references = folder / "v2_mscoco_val2014_annotations.json"
    header = {"info": {}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    write_json(data, header | {"task_type": "Open-Ended", "questions": questions})
    write_json(references, header | {"annotations": annotations})
    return {"data": data, "references": references, "images": folder / "val2014"}


def gqa(folder: Path) -> dict[str, Path]:
    questions = {
        f"{number:09}": {"question": f"What color is {number}?", "imageId": f"n{number // 2}", "answer": COLORS[number]}
        for number in range(4)
    }
    for number in range(2):
        write_image(folder / "gqa" / f"n{number}.jpg", number)
    return {"data": write_json(folder / "testdev_balanced_questions.json", questions), "images": folder / "gqa"}


MAKERS: dict[str, tuple[str, Callable[[Path], dict[str, Path]]]] = {
    "geneval": ("geneval", geneval),
    "geneval2": ("geneval2", geneval2),
    "dpg-bench": ("dpg-bench", dpg_bench),
    "hpsv2": ("hpsv2", hpsv2),
    "image-reward": ("image-reward", image_reward),
    "clip-score": ("clip-score", prompts),
    "fid": ("fid", prompts),
    "pope": ("pope", pope),
    "mme": ("mme", mme),
    "mmmu": ("mmmu", mmmu),
    "scienceqa": ("scienceqa", scienceqa),
    "flickr30k": ("captions", captions),
    "nocaps": ("captions", nocaps),
    "textcaps": ("captions", textcaps),
    "vqav2": ("vqa", vqa),
    "gqa": ("vqa", gqa),
}
"""Benchmark and maker of each kind of data."""
