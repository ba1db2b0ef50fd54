"""The sources of a training, opened without the samples that its model cannot use."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from showo_turbo.checkpoints.image_tokenizer import fingerprint
from showo_turbo.data import (
    CaptionSample,
    DialogueSample,
    EditSample,
    Sample,
    SampleLoader,
    SourceConfig,
    TextSample,
    open_stream,
)
from showo_turbo.data.digests import Digest, source_digests
from showo_turbo.data.held_out import Subset
from showo_turbo.data.sources.encoded import EncodedSource, encoder_of
from showo_turbo.data.sources.source import Source
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import check_aspect_ratio
from showo_turbo.training.processes import process_state
from showo_turbo.validation import check_integer

S = TypeVar("S", CaptionSample, DialogueSample, TextSample, EditSample)

KINDS: dict[type[Sample], str] = {
    CaptionSample: "captions",
    DialogueSample: "dialogues",
    TextSample: "texts",
    EditSample: "edits",
}
"""Config key of the sources of each class of samples."""

_MAX_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class SampleSourcesConfig:
    """Configure the sources of a training.

    Attributes:
        captions, dialogues, texts: sources of each kind, see `data.source_config`.
        num_workers: processes that read samples ahead of time, for each kind of source and each training process; 0
            reads them in the training process. Batches do not depend on it.
    """

    captions: list[SourceConfig] = field(default_factory=list)
    dialogues: list[SourceConfig] = field(default_factory=list)
    texts: list[SourceConfig] = field(default_factory=list)
    num_workers: int = 2

    def __post_init__(self) -> None:
        check_integer("num_workers", self.num_workers, 0, _MAX_WORKERS)


class SampleSources:
    """Open the sources of a training."""

    def __init__(
        self,
        config: SampleSourcesConfig,
        seed: int,
        pipe: ShowoPipeline,
        output: Path,
        dialogue_length: Callable[[DialogueSample], int],
        captions_need_codes: bool = False,
    ) -> None:
        """Set what to open, and how.

        Args:
            config: the sources.
            seed: of mixture and order.
            pipe: the samples that it cannot use are left out, and logged.
            output: folder for these logs.
            dialogue_length: returns the number of tokens that the training takes for a dialogue.
            captions_need_codes: the training uses the images of captions.
        """
        self.config, self.seed, self.pipe, self.output = config, seed, pipe, output
        self.dialogue_length, self.captions_need_codes = dialogue_length, captions_need_codes
        self._loaders: list[SampleLoader[Any]] = []

    def open(
        self,
        samples: type[S],
        batch_size: int,
        seed: int | None = None,
        sharded: bool = True,
        log: str | None = None,
        part: Callable[[Source[S]], Source[S]] | None = None,
        others: Sequence[SourceConfig] = (),
    ) -> SampleLoader[S]:
        """Open the loader of the sources of a class of samples.

        Args:
            samples: the class, one of `KINDS`.
            batch_size: samples in a batch of this process.
            seed: of mixture and order; the training's if left out.
            sharded: each process reads every `num_processes`-th batch; otherwise every process reads all.
            log: name in the file name of this process's log of bad samples; the config key if left out.
            part: returns the part of a source to read; all of it if left out.
            others: sources in place of the configured ones.

        Raises:
            InputError: if a source cannot be read, or its codes are those of another image tokenizer.
        """
        state, kind = process_state(), KINDS[samples]
        checks: dict[type[Sample], Callable[[Any], Any]] = {
            CaptionSample: lambda sample: self.pipe.prompts.check_prompt(sample.text),
            DialogueSample: self._check_dialogue,
            EditSample: self._check_edit,
        }
        self.output.mkdir(parents=True, exist_ok=True)
        stream = open_stream(
            others or getattr(self.config, kind),
            samples,
            self.seed if seed is None else seed,
            log=self.output / f"bad_{log or kind}_{state.process_index}.jsonl",
            check=checks.get(samples),
            part=part,
        )
        if samples is not CaptionSample or self.captions_need_codes:
            for weighted in stream.sources:
                source = weighted.source.source if isinstance(weighted.source, Subset) else weighted.source
                self._check_image_tokenizer(weighted.name, source)
        stride = state.num_processes if sharded else 1
        loader = SampleLoader(stream, batch_size, self.config.num_workers, stride)
        self._loaders.append(loader)
        return loader

    def close(self) -> None:
        """Stop the worker processes of all loaders; a later batch starts new ones."""
        for loader in self._loaders:
            loader.close()

    def settings(self, kinds: Iterable[str]) -> dict[str, list[dict]]:
        """Return the configuration of sources by config key, for manifests."""
        return {kind: [asdict(source) for source in getattr(self.config, kind)] for kind in kinds}

    def digests(self, kinds: Iterable[str]) -> dict[str, Digest]:
        """Return the digests of the data of sources by title, for manifests."""
        return source_digests(source for kind in kinds for source in getattr(self.config, kind))

    def _check_image_tokenizer(self, name: str, source: object) -> None:
        """Raise InputError if a source has codes of another image tokenizer or size than the model's."""
        encoded_by, config = encoder_of(source), self.pipe.model.config
        if isinstance(source, EncodedSource) and source.tokens != config.num_vq_tokens:
            raise InputError(
                f"source {name!r} holds images of {source.tokens} codes, the model reads {config.num_vq_tokens}: "
                "encode them for the model (data encode .. --model ..)"
            )
        image_tokenizer = self.pipe.image_tokenizer
        if image_tokenizer is not None and encoded_by not in (None, fingerprint(image_tokenizer)):
            raise InputError(
                f"source {name!r} holds codes of another image tokenizer than the model's: choose the model that has "
                "it, or encode the images with the model's (data encode .. --model .., pretrain scene-pool "
                "image_tokenizer=..)"
            )

    def _check_edit(self, sample: EditSample) -> None:
        """Raise InputError for extreme aspect ratios, invalid instructions, and pairs that are too long."""
        self._check_image(sample.source)
        self._check_image(sample.target)
        instruction = self.pipe.prompts.check_prompt(sample.instruction)
        num_codes, positions = self.pipe.model.config.num_vq_tokens, self.pipe.model.max_positions
        length = len(self.pipe.prompts.editing([0] * num_codes, instruction)) + num_codes + 2
        if length > positions:
            raise InputError(f"two images and the instruction take {length} tokens, the model has {positions}")

    def _check_image(self, image: Image.Image | Tensor) -> None:
        """Raise InputError for an extreme aspect ratio, or codes that the model does not have."""
        if isinstance(image, Image.Image):
            check_aspect_ratio(image)
            return
        self.pipe.check_codes(image)
        expected = self.pipe.model.config.num_vq_tokens
        if image.numel() != expected:
            raise InputError(f"image has {image.numel()} codes, those of the model {expected}")

    def _check_dialogue(self, sample: DialogueSample) -> None:
        """Raise InputError for extreme aspect ratios, invalid questions, and dialogues that are too long."""
        prompts, model = self.pipe.prompts, self.pipe.model
        self._check_image(sample.image)
        if model.config.w_clip_vit and isinstance(sample.image, Tensor):
            raise InputError("image is given as codes, but the model answers by CLIP features: choose images")
        for turn in sample.turns:
            prompts.check_question(turn.question)
        length = self.dialogue_length(sample)
        if length > model.max_positions:
            raise InputError(f"dialogue and answer take {length} tokens, the model has {model.max_positions}")
