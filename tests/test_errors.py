"""Errors about values from a file name the file."""

import json
import shutil
from pathlib import Path

import pytest

from showo_turbo import ShowoPipeline
from showo_turbo.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config.json", {"num_vq_tokens": -1}),
        ("generation.json", {"guidance_scale": "5"}),
        ("magvitv2/config.json", {"patch_size": 10**9}),
        ("phi/config.json", {"num_hidden_layers": 10**4}),
    ],
)
def test_a_value_out_of_range_is_named_with_its_file(
    random_checkpoint: Path, tmp_path: Path, name: str, value: dict
) -> None:
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "model"))
    values = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(values | value))
    with pytest.raises(InputError) as raised:
        ShowoPipeline.from_pretrained(folder)
    assert str(folder / name) in str(raised.value)
    assert next(iter(value)) in str(raised.value)
