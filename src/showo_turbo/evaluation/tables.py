"""Present the scores of one model: tables, and the stamp of everything that the scores depend on."""

import hashlib
import time
from collections.abc import Sequence

import torch
from rich.table import Table

from showo_turbo import __version__
from showo_turbo.checkpoints.loading import locate
from showo_turbo.evaluation.reconstruction import ReconstructionResult
from showo_turbo.evaluation.scene_benchmark import LONG_DESCRIPTION, TextToImageResult, UnderstandingResult
from showo_turbo.evaluation.statistics import Estimate
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt


def text_to_image_table(title: str, result: TextToImageResult) -> Table:
    """Return a table with one row per GenEval category, with 95 % intervals."""
    rows = result.scores.by_tag | {"overall": result.scores.overall}
    unrecognised = f"{result.scores.unrecognised.value:.1%} of the images show something that is not an object"
    return _table(title, rows, f"{result.seconds_per_image:.3f} s per image, {unrecognised}")


def understanding_table(title: str, result: UnderstandingResult) -> Table:
    """Return a table with one row per kind of question, then all questions and the descriptions."""
    scores = result.scores
    rows = {f"question: {kind}": estimate for kind, estimate in scores.by_kind.items()}
    rows |= {"questions": scores.questions, "facts true": scores.facts, "objects described": scores.recall}
    speed = f"{result.tokens_per_pass:.2f} tokens per pass on descriptions"
    if result.tokens_per_pass_long is not None:
        speed += f" ({result.tokens_per_pass_long:.2f} on those of {LONG_DESCRIPTION} and more)"
    return _table(title, rows, f"{speed}, {result.tokens_per_second:.0f} tokens/s, POPE F1 {scores.pope.f1:.3f}")


def reconstruction_table(title: str, result: ReconstructionResult) -> Table:
    """Return a table of the detector's accuracy on renders and on their reconstructions."""
    rows = {"renders": result.renders, "reconstructions": result.reconstructions}
    return _table(title, rows, f"{result.psnr:.1f} dB")


def _table(title: str, rows: dict[str, Estimate], caption: str) -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("category")
    table.add_column("score", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, estimate in rows.items():
        low, high = estimate.interval
        table.add_row(name, f"{estimate.value:.3f}", f"{low:.3f} - {high:.3f}", end_section=name == list(rows)[-2])
    return table


def stamp(model: str, pipe: ShowoPipeline, prompts: Sequence[ScenePrompt]) -> dict:
    """Return what scores depend on: checkpoint, versions, device and prompts, with hashes of weights and prompts."""
    return {
        "model": model,
        "weights_sha256": locate(model).weights_sha256(),
        "showo_turbo": __version__,
        "torch": torch.__version__,
        "device": str(pipe.device),
        "dtype": str(pipe.model.dtype).removeprefix("torch."),
        "quantization": pipe.model.quantization,
        "prompts": len(prompts),
        "prompts_sha256": prompts_sha256(prompts),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def prompts_sha256(prompts: Sequence[ScenePrompt]) -> str:
    """Return the hexadecimal SHA-256 of prompts as a JSONL file."""
    return hashlib.sha256("".join(prompt.to_json() + "\n" for prompt in prompts).encode()).hexdigest()
