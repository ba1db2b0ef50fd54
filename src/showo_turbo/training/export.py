"""Write the results of a training of a checkpoint: model, sample sheet and loss curves."""

from collections.abc import Sequence
from pathlib import Path

from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.files import atomic_folder
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.curves import plot_curve
from showo_turbo.training.sample_sheet import write_sample_sheet


def export_pipeline(folder: Path, pipe: ShowoPipeline, sheet_prompts: Sequence[str]) -> None:
    """Write a complete checkpoint with float16 weights, a sample sheet and the loss curves, each atomically.

    Args:
        folder: folder of the run, which holds `log.jsonl`.
        pipe: its transformer is converted to float16 in place.
        sheet_prompts: prompts of the sample sheet; without any, or without an image tokenizer, there is none.
    """
    if pipe.image_tokenizer is not None and sheet_prompts:
        write_sample_sheet(folder / "samples.png", pipe, sheet_prompts)
    pipe.model.half()
    with atomic_folder(folder / "model", replace=True) as model_folder:
        save_checkpoint(model_folder, pipe)
    plot_curve(folder / "log.jsonl", folder / "curve.png")
