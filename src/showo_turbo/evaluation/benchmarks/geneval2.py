"""GenEval 2: prompts of growing compositionality, judged by a VQA model (arXiv 2512.16853).

FOLDER/images/000000-0.png ..    FOLDER/image_paths.json    read by the official evaluation.py
FOLDER/score_lists.json                                     written by it: probabilities of the right answers
"""

from collections.abc import Sequence
from math import inf
from pathlib import Path

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import check_covered, image_path, mean_score, write_plain
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_choice, read_json_data, read_records
from showo_turbo.files import write_json
from showo_turbo.validation import shown

SKILLS = ("object", "attribute", "count", "position", "verb")


def _read(paths: DataPaths) -> BenchmarkData:
    items: list[Item] = []
    seen: dict[str, str] = {}
    for number, (where, record) in enumerate(read_records(paths.data)):
        prompt, skills = get(record, "prompt", str, where), get(record, "skills", list, where)
        if prompt in seen:  # the official file of paths has prompts as keys
            raise InputError(f"{where}: the prompt is there twice, first in {seen[prompt]}")
        seen[prompt] = where
        for skill in skills:
            get_choice({"skill": skill}, "skill", SKILLS, where)
        if len(skills) != len(get(record, "vqa_list", list, where)):
            raise InputError(f"{where}: skills and vqa_list differ in length")
        atoms = get(record, "atom_count", int, where)
        items.append(Item(f"{number:06}", prompt, where, {"skills": skills, "atoms": atoms}))
    return BenchmarkData(items, [paths.data])


def _finish(folder: Path, items: Sequence[Item]) -> None:
    write_json(folder / "image_paths.json", {item.text: str(image_path(folder, item, 0).resolve()) for item in items})


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; 0 if a value is 0."""
    product = 1.0
    for value in values:
        product *= value ** (1 / len(values))
    return product


def _score(judging: Judging) -> dict[str, Score]:
    """Read the probabilities: per prompt their geometric or arithmetic mean (Soft-TIFA), and per skill their mean."""
    path = judging.result_file("score_lists.json", "geneval2")
    lists = read_json_data(path)
    if not isinstance(lists, list):
        raise InputError(f"the judge's result {str(path)!r} is {shown(lists)}: expected an array of arrays")
    check_covered(len(lists), len(judging.items), path, "prompts")
    skills: dict[str, list[list[float]]] = {}
    atoms: dict[int, list[list[float]]] = {}
    for number, (item, values) in enumerate(zip(judging.items, lists, strict=True)):
        length = len(item.record["skills"])
        if not isinstance(values, list) or len(values) != length or not all(map(_is_weight, values)):
            raise InputError(f"{str(path)!r}, [{number}] is {shown(values)}: expected {length} numbers, 0 or more")
        atoms.setdefault(item.record["atoms"], []).append([geometric_mean(values)])
        for skill in dict.fromkeys(item.record["skills"]):
            pairs = zip(values, item.record["skills"], strict=True)
            skills.setdefault(skill, []).append([value for value, of in pairs if of == skill])
    scores = {
        "Soft-TIFA GM": mean_score(
            [[geometric_mean(values)] for values in lists], 100, [item.id for item in judging.items]
        ),
        "Soft-TIFA AM": mean_score(lists, 100),
    }
    scores |= {skill: _mean_of_atoms(skills[skill]) for skill in SKILLS if skill in skills}
    return scores | {f"GM, {count} atoms": mean_score(atoms[count], 100) for count in sorted(atoms)}


def _is_weight(value: object) -> bool:
    """Return whether a value may be the summed probability of the spellings of an answer."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def _mean_of_atoms(groups: Sequence[Sequence[float]]) -> Score:
    """Return the mean over atoms in percent, whatever prompt they are of."""
    values = [value for group in groups for value in group]
    return Score(100 * sum(values) / len(values))


GENEVAL2 = DrawingBenchmark(
    name="geneval2",
    title="GenEval 2",
    measures="Whether images show every part of prompts of 3 to 10 atoms: probability of the right answers, x 100.",
    data="geneval2_data.jsonl (github.com/facebookresearch/GenEval2)",
    licence="CC BY-NC 4.0: not for commercial use",
    judge="external: Qwen3-VL-8B by the official script, see judges/geneval2",
    cost="800 prompts x 1 image",
    read=_read,
    images_per_prompt=1,
    write=write_plain,
    finish=_finish,
    result_name="score_lists.json",
    score=_score,
)
