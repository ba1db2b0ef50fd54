"""The student of the golden data, and its recorded losses."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.models.showo import Showo


@pytest.fixture(scope="session")
def tiny_student(golden: Path, tiny_folder: Path, tiny_config: ShowoConfig) -> Showo:
    """The student of the golden teacher; tests do not change it."""
    model = Showo(tiny_config, load_phi_config(tiny_folder / "phi-tiny", tiny_config.vocab_size))
    model.load_state_dict(load_file(golden / "showo-tiny-student" / "pytorch_model.safetensors"))
    return model.eval()


@pytest.fixture(scope="session")
def recorded(golden: Path) -> dict[str, np.ndarray]:
    """The arrays of `losses.npz`."""
    with np.load(golden / "losses.npz") as arrays:
        return dict(arrays)
