"""Scores as a table to read and as a JSON file that says everything about how they came about."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from rich.table import Table

from showo_turbo import __version__
from showo_turbo.checkpoints.loading import locate
from showo_turbo.evaluation.reconstruction import ReconstructionResult
from showo_turbo.evaluation.scene_benchmark import LONG, TextToImageResult, UnderstandingResult
from showo_turbo.evaluation.statistics import Estimate
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt


def text_to_image_table(title: str, result: TextToImageResult) -> Table:
    """One row per GenEval category, with 95 % intervals."""
    rows = result.scores.by_tag | {"overall": result.scores.overall}
    return _table(title, rows, f"{result.seconds_per_image:.3f} s per image")


def understanding_table(title: str, result: UnderstandingResult) -> Table:
    """One row per kind of question, then all questions and the descriptions."""
    scores = result.scores
    rows = {f"question: {kind}": estimate for kind, estimate in scores.by_kind.items()}
    rows |= {"questions": scores.questions, "facts true": scores.facts, "objects described": scores.recall}
    speed = f"{result.tokens_per_pass:.2f} tokens per pass on descriptions"
    if result.tokens_per_pass_long is not None:
        speed += f" ({result.tokens_per_pass_long:.2f} on those of {LONG} and more)"
    return _table(title, rows, f"{speed}, {result.tokens_per_second:.0f} tokens/s, POPE F1 {scores.pope.f1:.3f}")


def reconstruction_table(title: str, result: ReconstructionResult) -> Table:
    """The detector on true pictures and on the image tokenizer's reconstructions of them."""
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
    """What was evaluated: the checkpoint and its hash, versions, where it ran, and the prompts' hash."""
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
    """Hexadecimal SHA-256 of prompts as a JSONL file."""
    return hashlib.sha256("".join(prompt.to_json() + "\n" for prompt in prompts).encode()).hexdigest()


def as_json(stamp: dict, results: dict[str, TextToImageResult | UnderstandingResult | ReconstructionResult]) -> str:
    """A stamp, see `stamp`, and results by name, as indented JSON."""
    return json.dumps({"stamp": stamp} | {name: asdict(result) for name, result in results.items()}, indent=2) + "\n"
