"""Loss curves as an image."""

import json
from pathlib import Path

from PIL import Image

from showo_turbo.training.curves import plot_curve


def test_a_curve_is_plotted_once_the_log_has_a_line(tmp_path: Path) -> None:
    log, image = tmp_path / "log.jsonl", tmp_path / "curve.png"
    plot_curve(log, image)
    log.touch()
    plot_curve(log, image)
    assert not image.exists()
    line = {"step": 1, "seconds": 2.0, "loss": 0.5, "gradient_norm": 1.0, "samples_per_second": 3.0}
    other = {"step": 2, "seconds": 4.0, "loss": 0.4, "image": 0.4}  # a resumed run with another term
    log.write_text("".join(json.dumps(one) + "\n" for one in (line, other, line | {"step": 3})))
    plot_curve(log, image)
    with Image.open(image) as plot:
        assert plot.width > plot.height > 100


def test_the_curve_of_a_single_line_is_visible(tmp_path: Path) -> None:
    """A run of one step has one point of each loss, in the color of its curve."""
    log, image = tmp_path / "log.jsonl", tmp_path / "curve.png"
    log.write_text(json.dumps({"step": 1, "seconds": 2.0, "loss": 0.5}) + "\n")
    plot_curve(log, image)
    with Image.open(image) as plot:
        axes = plot.convert("RGB").crop((100, 60, 600, 380))  # without the legend
    colors = axes.getcolors(1 << 20)
    assert colors is not None
    assert any(blue > red + 80 for _, (red, _, blue) in colors)
