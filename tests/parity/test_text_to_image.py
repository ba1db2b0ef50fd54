"""With the same generator, the image denoiser makes every choice of the published samplers: 143 runs, step by step."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state, partly_known_state
from showo_turbo.generation.scheduler import UnmaskingScheduler, UnmaskingStep
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder

NUM_CODES = 64
PROMPTS = {1: ["a red car"], 2: ["two dogs in the snow", "a red car"]}


@dataclass(frozen=True)
class Run:
    """Hold the options of a golden run, parsed from its name, and its recorded arrays."""

    name: str
    steps: int
    seed: int
    batch: int
    guidance: float = 1.75
    top_k: int | None = None
    temperature: float = 1.0
    schedule: str = "cosine"
    recorded: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)


def option(name: str, letter: str, default: str) -> str:
    """Return the value after `letter` in a name like "g1.75_k20_seed0"."""
    return next((part.removeprefix(letter) for part in name.split("_") if part.startswith(letter)), default)


def turbo_run(name: str, steps: int) -> dict:
    top_k = option(name, "k", "None")
    seed = int(option(name, "seed", ""))
    return {
        "steps": steps,
        "seed": seed,
        "batch": seed + 1,
        "guidance": float(option(name, "g", "")),
        "top_k": None if top_k == "None" else int(top_k),
    }


def extra_run(name: str) -> dict:
    kind, top_k = name.split("_k")
    options = {"steps": 6, "seed": 3, "batch": 2, "top_k": None if top_k == "None" else int(top_k)}
    if kind.startswith("temp"):
        return options | {"temperature": float(kind.removeprefix("temp"))}
    return options | {"schedule": kind.replace("pow05", "pow0.5")}


def showo_run(name: str) -> dict:
    if name.startswith("inpaint"):
        return {"steps": int(name.removeprefix("inpaint_s")), "seed": 7, "batch": 2}
    seed = int(option(name, "seed", ""))
    schedule = name.split("_")[0]
    if schedule in ("linear", "pow2", "sigmoid"):
        return {"steps": 6, "seed": seed, "batch": 2, "schedule": schedule}
    return {"steps": int(schedule[1:]), "seed": seed, "batch": seed + 1, "guidance": float(option(name, "g", ""))}


def golden_runs() -> list[Run]:
    folder = Path(__file__).parents[1] / "golden"
    runs = []
    for stem, read_name in {
        **{f"t2i_turbo_s{steps}": lambda name, steps=steps: turbo_run(name, steps) for steps in (1, 2, 4, 8, 16)},
        "t2i_turbo_extra": extra_run,
        "t2i_showo": showo_run,
    }.items():
        recorded: dict[str, dict[str, np.ndarray]] = {}
        for key, value in np.load(folder / f"{stem}.npz").items():
            name, entry = key.split("/")
            recorded.setdefault(name, {})[entry] = value
        runs += [Run(f"{stem}/{name}", **read_name(name), recorded=entries) for name, entries in recorded.items()]
    return runs


class RecordingScheduler(UnmaskingScheduler):
    """Record the result of every step."""

    def step(self, *args: object, **options: object) -> UnmaskingStep:
        result = super().step(*args, **options)
        self.record = [*getattr(self, "record", []), result]
        return result


def start_state(run: Run, prompts: PromptBuilder) -> State:
    vocabulary = prompts.vocabulary
    if "start_image_ids" not in run.recorded:
        return masked_state(run.batch, NUM_CODES, vocabulary)
    ids = torch.from_numpy(run.recorded["start_image_ids"]).long()
    return partly_known_state(vocabulary.ids_to_codes(ids), ids != vocabulary.mask_id, vocabulary)


def image_ids(recorded: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(recorded["input_ids"][:, :, -NUM_CODES - 1 : -1]).long()


def test_all_golden_runs_are_present() -> None:
    assert len(golden_runs()) == 143


@pytest.mark.parametrize("run", golden_runs(), ids=lambda run: run.name)
def test_run(run: Run, tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    vocabulary = tiny_prompts.vocabulary
    scheduler = RecordingScheduler(vocabulary.codebook_size, run.temperature, run.top_k, run.schedule)
    scheduler.set_timesteps(run.steps, NUM_CODES)
    denoiser = ImageDenoiser(
        tiny_model,
        vocabulary,
        scheduler,
        [tiny_prompts.text_to_image(prompt) for prompt in PROMPTS[run.batch]],
        NUM_CODES,
        tiny_prompts.unconditional(),
        run.guidance,
        torch.Generator().manual_seed(run.seed),
    )
    states = list(denoiser.run(start_state(run, tiny_prompts)))
    recorded = run.recorded

    assert [state.forward_passes for state in states] == list(range(run.steps + 1))
    assert states[-1].done
    np.testing.assert_array_equal(vocabulary.ids_to_codes(states[-1].ids), recorded["final_ids"])

    unknown = torch.stack([~state.settled for state in states[:-1]])
    candidates = torch.stack([step.candidates for step in scheduler.record])
    masked = torch.stack([step.masked for step in scheduler.record])
    np.testing.assert_array_equal(masked, recorded["masking"])
    np.testing.assert_array_equal(masked.sum(-1), recorded["mask_len"])
    np.testing.assert_array_equal(candidates[unknown], recorded["drawn_ids"][unknown])
    np.testing.assert_array_equal(
        torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(candidates)), image_ids(recorded)
    )
    np.testing.assert_allclose([step.temperature for step in scheduler.record], recorded["temperature"], rtol=1e-6)
    for state, seen in zip(states[1:-1], image_ids(recorded), strict=False):
        np.testing.assert_array_equal(state.mask_unsettled(vocabulary.mask_id), seen)

    chosen, noise = torch.from_numpy(recorded["selected_probs"]), torch.from_numpy(recorded["uniform"])
    gumbel = -(-noise.clamp(min=1e-20).log()).clamp(min=1e-20).log()
    confidence = chosen.clamp(min=1e-20).log() + torch.tensor(scheduler.temperatures)[:, None, None] * gumbel
    ours = torch.stack([step.confidence for step in scheduler.record])
    torch.testing.assert_close(ours[unknown], confidence[unknown], rtol=0, atol=2e-4)
