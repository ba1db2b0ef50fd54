"""The curve of a training as a picture."""

import json
from pathlib import Path

from PIL import Image

from showo_turbo.training.curves import plot_curve


def test_a_curve_is_drawn_as_soon_as_there_is_a_line(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.jsonl", tmp_path / "curve.png"
    plot_curve(log, picture)
    log.touch()
    plot_curve(log, picture)
    assert not picture.exists()
    line = {"step": 1, "seconds": 2.0, "loss": 0.5, "gradient_norm": 1.0, "samples_per_second": 3.0}
    other = {"step": 2, "seconds": 4.0, "loss": 0.4, "image": 0.4}  # another term was added meanwhile
    log.write_text("".join(json.dumps(one) + "\n" for one in (line, other, line | {"step": 3})))
    plot_curve(log, picture)
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height > 100
