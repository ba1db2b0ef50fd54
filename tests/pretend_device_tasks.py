"""Compare the CPU with a simulated device and print whether the results are equal; see test_devices.py."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from pretend_device import DEVICE, DeviceTensor, PretendDevice

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.loading import locate
from showo_turbo.data import SourceConfig
from showo_turbo.distillation import trajectory_sources
from showo_turbo.distillation.config import DistillationConfig, Stage, TrajectoryFiles
from showo_turbo.distillation.loss_terms import ImageTerm, LanguageTerm, OnPolicy, TextTerm
from showo_turbo.distillation.stages import distill
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTraining, ImageTokenizerTrainingConfig
from showo_turbo.pretraining.showo_pretraining import ShowoPretraining, ShowoPretrainingConfig
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.optimizers import OptimizerConfig

PROMPTS = ["a red circle above a blue square", "a star"]
PICTURE = Image.new("RGB", (64, 64), "white")

TASKS: dict[str, Callable[[ShowoPipeline], list]] = {
    "draw": lambda pipe: pipe.text_to_image(PROMPTS, 4, num_images_per_prompt=2, seed=0).codes.tolist(),
    "draw with guidance": lambda pipe: pipe.text_to_image(
        PROMPTS, 3, 2.0, order="confidence", temperature=1.0, seed=0, early_exit=0.9
    ).codes.tolist(),
    "inpaint": lambda pipe: pipe.inpaint(PICTURE, Image.new("L", (64, 64), 255), PROMPTS[1], seed=0).codes.tolist(),
    "inpaint where a mask on the device says": lambda pipe: pipe.inpaint(
        PICTURE, torch.ones(1, 8, 8, dtype=torch.bool).to(pipe.device), PROMPTS[1], seed=0
    ).codes.tolist(),
    "answer": lambda pipe: pipe.image_to_text([PICTURE] * 2, ["how many objects are there?", "what is it?"]).token_ids,
    "answer one by one": lambda pipe: pipe.image_to_text(PICTURE, "what is it?", decoding="autoregressive").token_ids,
}


def sources(folder: Path) -> dict[str, list[SourceConfig]]:
    """Write captions, and dialogues about an image."""
    annotations = [{"id": number, "image_id": number, "caption": text} for number, text in enumerate(PROMPTS)]
    (folder / "captions.json").write_text(json.dumps({"annotations": annotations}))
    PICTURE.save(folder / "picture.png")
    said = [{"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "nothing"}]
    (folder / "dialogues.json").write_text(
        json.dumps([{"id": str(number), "image": "picture.png", "conversations": said} for number in range(4)])
    )
    return {
        "captions": [SourceConfig("coco", str(folder / "captions.json"))],
        "dialogues": [SourceConfig("llava", str(folder / "dialogues.json"), images=str(folder))],
    }


def distilled(folder: Path) -> list[float]:
    """Return the losses of two stages: from stored trajectories, and partly on-policy."""
    folder.mkdir()
    image = ImageTerm(batch_size=2, num_inference_steps=4, segments=2, order="halton", label_size=8)
    own = replace(image, stride=2, on_policy=OnPolicy(prompts=2, batches=1, top_k=4, share=0.5))
    rest = {
        "loop": LoopConfig(steps=2, log_steps=1, threads=1, warmup_steps=0),
        "optimizer": OptimizerConfig("muon", lr=1e-3),
        "text": TextTerm(batch_size=2, max_new_tokens=16),
        "language": LanguageTerm(weight=0.0),
        "trajectories": TrajectoryFiles(count=4, batch_size=2, folder=str(folder / "trajectories")),
    }
    stages = [Stage("first", "original", image=image, **rest), Stage("second", "original", image=own, **rest)]
    distill(DistillationConfig(str(folder), stages, "tiny", **sources(folder), num_workers=0))
    lines = [line for stage in stages for line in (folder / stage.name / "log.jsonl").read_text().splitlines()]
    return [round(json.loads(line)["loss"], 2) for line in lines]


def pretrained(folder: Path) -> list[float]:
    """Return the losses of an image tokenizer and of a transformer trained from nothing."""
    loop = LoopConfig(steps=2, log_steps=1, threads=1, warmup_steps=0)
    tokenizer = str(locate("tiny").text_tokenizer)
    pool = folder / "pool.safetensors"
    folder.mkdir()
    save_file({"codes": torch.zeros(8, 64, dtype=torch.int16)}, pool, {"seed": "0", "image_tokenizer": ""})
    tasks = {
        "image tokenizer": ImageTokenizerTraining(ImageTokenizerTrainingConfig(loop=loop, batch_size=2)),
        "showo": ShowoPretraining(
            ShowoPretrainingConfig(loop, tokenizer, str(pool), text_to_image_batch_size=2, understanding_batch_size=2)
        ),
    }
    for name, task in tasks.items():
        train(task, replace(loop, output=str(folder / name)))
    lines = [line for name in tasks for line in (folder / name / "log.jsonl").read_text().splitlines()]
    return [round(json.loads(line)["loss"], 2) for line in lines]


def save_file(state: dict, *args: object, **kwargs: object) -> None:
    """Write tensors on a device with safetensors."""
    real_save_file({name: getattr(one, "on_cpu", one) for name, one in state.items()}, *args, **kwargs)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    trajectory_sources.BATCHES_PER_FILE = 2
    real_save_file, weight_files.save_file = weight_files.save_file, save_file
    expected = {name: task(ShowoPipeline.from_pretrained("tiny", device="cpu")) for name, task in TASKS.items()}
    expected["distil"] = distilled(folder / "cpu")
    expected["pretrain"] = pretrained(folder / "cpu pretraining")
    PartialState._shared_state["device"] = DEVICE
    with PretendDevice():
        pipe = ShowoPipeline.from_pretrained("tiny", device="pretend")
        assert isinstance(next(pipe.model.parameters()), DeviceTensor)
        found = {name: task(pipe) for name, task in TASKS.items()} | {"distil": distilled(folder / "pretend")}
        found["pretrain"] = pretrained(folder / "pretend pretraining")
    print(json.dumps({name: found[name] == expected[name] for name in expected}))
