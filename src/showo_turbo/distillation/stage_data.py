"""Data loaders of a stage, without the samples that its teacher cannot use."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from showo_turbo.checkpoints.image_tokenizer import fingerprint
from showo_turbo.data import CaptionSample, DialogueSample, Sample, SampleLoader, TextSample, open_stream
from showo_turbo.data.digests import Digest, source_digests
from showo_turbo.data.sources.scenes import SceneCaptions, SceneDialogues
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.distillation.rollouts import dialogue_ids
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import check_aspect_ratio
from showo_turbo.training.processes import process_state

S = TypeVar("S", CaptionSample, DialogueSample, TextSample)

SOURCES = (
    ("captions", CaptionSample, "image"),
    ("dialogues", DialogueSample, "text"),
    ("texts", TextSample, "language"),
)
"""Config key of each kind of sources, its class of samples, and the loss term that uses it."""


class StageData:
    """Open the sources of a stage."""

    def __init__(self, config: DistillationConfig, stage: Stage, teacher: ShowoPipeline, output: Path) -> None:
        """Set what to open, and how.

        Args:
            config: the distillation, which defines the sources.
            stage: the stage, whose seed and terms count.
            teacher: the samples that it cannot use are left out, and logged.
            output: the stage's folder, for these logs.
        """
        self.config, self.stage, self.teacher, self.output = config, stage, teacher, output
        self._loaders: list[SampleLoader[Any]] = []

    def open(
        self, samples: type[S], batch_size: int, seed: int | None = None, sharded: bool = True, log: str | None = None
    ) -> SampleLoader[S]:
        """Open the loader of the sources of a class of samples.

        Args:
            samples: the class, one of `SOURCES`.
            batch_size: samples in a batch of this process.
            seed: of mixture and order; the stage's if left out.
            sharded: each process reads every `num_processes`-th batch; otherwise every process reads all.
            log: name in the file name of this process's log of bad samples; the config key if left out.

        Raises:
            InputError: if a source cannot be read, or its codes are those of another image tokenizer.
        """
        state = process_state()
        sources = next(name for name, kind, _ in SOURCES if kind is samples)
        checks: dict[type[Sample], Callable[[Any], Any]] = {
            CaptionSample: lambda sample: self.teacher.prompts.check_prompt(sample.text),
            DialogueSample: self._check_dialogue,
        }
        self.output.mkdir(parents=True, exist_ok=True)
        stream = open_stream(
            getattr(self.config, sources),
            samples,
            self.stage.loop.seed if seed is None else seed,
            log=self.output / f"bad_{log or sources}_{state.process_index}.jsonl",
            check=checks.get(samples),
        )
        with_codes = (SceneDialogues, SceneCaptions) if self.stage.image.known_share else SceneDialogues
        for weighted in stream.sources:
            if isinstance(weighted.source, with_codes):
                self._check_image_tokenizer(weighted.name, weighted.source)
        stride = state.num_processes if sharded else 1
        loader = SampleLoader(stream, batch_size, self.config.num_workers, stride)
        self._loaders.append(loader)
        return loader

    def close(self) -> None:
        """Stop the worker processes of all loaders; a later batch starts new ones."""
        for loader in self._loaders:
            loader.close()

    def source_settings(self, *names: str) -> dict[str, list[dict]]:
        """Return the configuration of sources by config key, for manifests."""
        return {name: [asdict(source) for source in getattr(self.config, name)] for name in names}

    def source_digests(self, *names: str) -> dict[str, Digest]:
        """Return the digests of the data of sources by title, for manifests."""
        return source_digests(source for name in names for source in getattr(self.config, name))

    def _check_image_tokenizer(self, name: str, source: SceneCaptions | SceneDialogues) -> None:
        """Raise InputError if a scene pool was encoded by another image tokenizer than the teacher's."""
        image_tokenizer = self.teacher.image_tokenizer
        if image_tokenizer is not None and fingerprint(image_tokenizer) != source.pool.image_tokenizer_sha256:
            raise InputError(
                f"source {name!r} holds codes of another image tokenizer than the teacher's: choose the teacher that "
                "has it (teacher=..), or encode a pool with the teacher's (pretrain scene-pool image_tokenizer=..)"
            )

    def _check_dialogue(self, sample: DialogueSample) -> None:
        """Raise InputError for extreme aspect ratios, invalid questions, and dialogues without space for an answer."""
        prompts, model = self.teacher.prompts, self.teacher.model
        if isinstance(sample.image, Image.Image):
            check_aspect_ratio(sample.image)
        else:
            self.teacher.check_codes(sample.image)
            if sample.image.numel() != model.config.num_vq_tokens:
                raise InputError(
                    f"image has {sample.image.numel()} codes, those of the model {model.config.num_vq_tokens}"
                )
        for turn in sample.turns:
            prompts.check_question(turn.question)
        ids = dialogue_ids(prompts, [0] * model.config.num_vq_tokens, sample.turns)
        length = len(ids) + self.stage.text.given_ids + self.stage.text.max_new_tokens
        if length > model.max_positions:
            raise InputError(f"dialogue and answer take {length} tokens, the model has {model.max_positions}")
