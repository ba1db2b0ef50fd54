"""Mask schedules equal the published ones, bit for bit where rounding changes a count."""

from pathlib import Path

import numpy as np
import pytest
import torch

from showo_turbo.errors import InputError
from showo_turbo.generation.scheduler import UnmaskingScheduler, mask_schedule


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, np.ndarray]:
    tables = np.load(golden / "losses.npz")
    return {name.removeprefix("schedule/"): tables[name] for name in tables.files if name.startswith("schedule/")}


@pytest.mark.parametrize("name", ["cosine", "linear", "pow0.5", "pow1.5", "pow2", "pow3", "sigmoid"])
def test_tables(name: str, expected: dict[str, np.ndarray]) -> None:
    fractions = mask_schedule(name)(torch.from_numpy(expected["t"]))
    np.testing.assert_allclose(fractions.numpy(), expected[name], rtol=0, atol=2e-7)


@pytest.mark.parametrize("num_codes", [64, 256, 1024])
def test_mask_counts(num_codes: int, expected: dict[str, np.ndarray]) -> None:
    scheduler = UnmaskingScheduler(codebook_size=512)
    for steps in range(1, 33):
        scheduler.set_timesteps(steps, num_codes)
        assert scheduler.mask_counts == expected[f"cosine_floor_{num_codes}"][steps][:steps].tolist()


@pytest.mark.parametrize("name", ["cosin", "pow", "pow0", "pow-1", "powx", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match="cosine, linear, sigmoid or powX"):
        mask_schedule(name)
