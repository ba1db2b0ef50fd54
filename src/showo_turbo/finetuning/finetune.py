"""The entry point of a fine-tuning: checks of the whole configuration first, then the training."""

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from showo_turbo.checkpoints.loading import locate
from showo_turbo.data import CaptionSample, DialogueSample, TextSample, check_sources
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.finetuning.supervised_task import SupervisedTask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import prepare_model, require_peft
from showo_turbo.training.loop import check_environment, check_or_write_run_manifest, set_num_threads, train
from showo_turbo.training.processes import errors_of_lost_processes, lock_output, process_state
from showo_turbo.training.sample_sources import KINDS, SampleSources
from showo_turbo.training.supervised_batches import dialogue_row


def check_finetuning(config: FinetuningConfig) -> None:
    """Check names, sources and the environment of a fine-tuning before any computation.

    Raises:
        InputError: if a source or the model is missing, the model answers by CLIP features and there are dialogues, or
            the `train` extra is not installed.
    """
    require_module("matplotlib.figure", "the loss curve of a training")
    if config.lora.rank:
        require_peft()
    model = locate(config.model, config.image_tokenizer, config.text_tokenizer).config
    if model.w_clip_vit and "dialogues" in config.kinds:
        raise InputError(
            f"{config.model!r} answers by CLIP features (w_clip_vit), for which there is no term of dialogues: "
            "leave dialogues out, or choose a model that reads images as codes"
        )
    for samples, kind in KINDS.items():
        if kind in config.kinds:
            check_sources(getattr(config, kind), samples)
    check_environment(config.loop)  # initializes accelerate, which `process_state` needs


def finetune(config: FinetuningConfig) -> Path:
    """Fine-tune a model, from the newest checkpoint if the output folder holds one; return the folder of the model.

    Raises:
        InputError: as `check_finetuning`, if the folder holds a run of other settings, or another process writes it.
        TrainingStopped: if a signal stops it, after a checkpoint is written.
    """
    check_finetuning(config)
    output = Path(config.output)
    seed = config.loop.seed if config.seed is None else config.seed
    config = replace(config, loop=replace(config.loop, output=config.output, seed=seed))
    with errors_of_lost_processes(), lock_output(output):
        _run(config, output)
    process_state().destroy_process_group()
    return output / "model"


def _run(config: FinetuningConfig, output: Path) -> None:
    set_num_threads(config.loop)
    tokenizers = {"image_tokenizer": config.image_tokenizer, "text_tokenizer": config.text_tokenizer}
    pipe = ShowoPipeline.from_pretrained(config.model, device=process_state().device, dtype="float32", **tokenizers)

    def dialogue_length(sample: DialogueSample) -> int:
        return len(dialogue_row(pipe.prompts, [0] * pipe.model.config.num_vq_tokens, sample)[0])

    sources = SampleSources(config, config.loop.seed, pipe, output, dialogue_length, captions_need_codes=True)
    with closing(sources):
        settings = _settings(config) | {"model": locate(config.model, **tokenizers).weights_sha256()}
        check_or_write_run_manifest(
            config.loop, settings | sources.settings(config.kinds), "a model", sources.digests(config.kinds)
        )
        used = config.kinds
        captions = sources.open(CaptionSample, config.captions_batch_size) if "captions" in used else None
        dialogues = sources.open(DialogueSample, config.dialogues_batch_size) if "dialogues" in used else None
        texts = sources.open(TextSample, config.texts_batch_size) if "texts" in used else None
        prepare_model(pipe.model, config.lora, config.gradient_checkpointing, config.loop.seed)
        train(SupervisedTask(config, pipe, captions, dialogues, texts), config.loop)


def _settings(config: FinetuningConfig) -> dict[str, Any]:
    """Return the settings that determine the weights, besides model, sources and loop."""
    settings = asdict(config)
    others = (
        "model",
        "output",
        "captions",
        "dialogues",
        "texts",
        "loop",
        "gradient_checkpointing",
        "num_workers",
        "seed",
    )
    return {name: value for name, value in settings.items() if name not in others}
