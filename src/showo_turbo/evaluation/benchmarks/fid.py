"""FID: distance of the distributions of generated and real images (arXiv 1706.08500), by clean-fid's conventions.

FOLDER/images/000000-0.png ..    read by clean-fid
FOLDER/fid.json                  {"fid": 12.3}
"""

from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import read_prompts, write_plain
from showo_turbo.files import read_json
from showo_turbo.validation import check_number


def _score(judging: Judging) -> dict[str, Score]:
    path = judging.result_file("fid.json", "fid")
    value: Any = read_json(path).get("fid")
    try:
        check_number("fid", value, 0)
    except InputError as error:
        raise InputError(f"the judge's result {str(path)!r}: {error}") from error
    return {"FID": Score(float(value))}


FID = DrawingBenchmark(
    name="fid",
    title="FID",
    measures="Distance between the distributions of generated and real images; lower is better.",
    data="captions of the real images, such as those of COCO val2014: a text file with one on each line, or a JSONL "
    "file with `prompt`",
    licence="that of your captions",
    judge="external: clean-fid, see judges/fid",
    cost="usually 30,000 prompts x 1 image",
    read=read_prompts,
    images_per_prompt=1,
    write=write_plain,
    result_name="fid.json",
    score=_score,
)
