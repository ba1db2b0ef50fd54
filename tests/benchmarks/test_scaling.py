"""The scaling formulas agree with counted operations, and the script plots them."""

import json
from pathlib import Path

import pytest

import flops
import scaling


@pytest.mark.parametrize(("resolution", "steps", "images"), [(256, 2, 4), (512, 4, 1)])
def test_formulas_equal_the_counted_operations(resolution: int, steps: int, images: int) -> None:
    counted = flops.count(resolution, steps, False, images)
    assert scaling.drawing(resolution, steps, images) == pytest.approx((counted.least, counted.published))


def test_faster_settling_and_shorter_answers_need_fewer_operations() -> None:
    slow, fast, short = scaling.answering(256, 64, 1), scaling.answering(256, 64, 4), scaling.answering(256, 16, 1)
    assert fast[0] < slow[0]
    assert fast[1] < slow[1]
    assert short[0] < slow[0]
    assert slow[1] / slow[0] > 20


def test_the_script_writes_every_point_and_a_plot(tmp_path: Path) -> None:
    scaling.main(tmp_path / "scaling.json", tmp_path / "scaling.png")
    written = json.loads((tmp_path / "scaling.json").read_text())
    assert [len(points) for points in written.values()] == [10, 10, 20]
    assert all(point["here"] < point["published"] for points in written.values() for point in points)
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
