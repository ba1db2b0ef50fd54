"""Loaders of a fine-tuning: samples to train on, and held-out samples to validate on."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from showo_turbo.data import CaptionSample, Sample, SampleLoader
from showo_turbo.data.held_out import split_source
from showo_turbo.data.sources.source import Source
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.training.sample_sources import KINDS, SampleSources


@dataclass(frozen=True)
class Loaders:
    """Hold the loaders of one kind of samples.

    Attributes:
        training: samples to train on.
        held_out: samples to validate on; None if nothing is validated.
        num_held_out: number of held-out batches.
    """

    training: SampleLoader[Any]
    held_out: SampleLoader[Any] | None = None
    num_held_out: int = 0

    def first(self, count: int) -> list[Any]:
        """Return the first samples, held-out ones if there are some."""
        if self.held_out is None:
            return [self.training.stream.sample_at(position) for position in range(count)]
        count = min(count, self.num_held_out * self.held_out.batch_size)
        return [self.held_out.stream.sample_at(position) for position in range(count)]


def open_loaders(config: FinetuningConfig, sources: SampleSources) -> dict[str, Loaders]:
    """Open the loaders of all kinds that the loss uses, by kind.

    Raises:
        InputError: as `SampleSources.open`, or if a source is too small to hold out samples.
    """
    return {kind: _open(config, sources, samples) for samples, kind in KINDS.items() if kind in config.kinds}


def _open(config: FinetuningConfig, sources: SampleSources, samples: type[Any]) -> Loaders:
    kind = KINDS[samples]
    batch_size = getattr(config, f"{kind}_batch_size")
    if not config.loop.validation_steps:
        return Loaders(sources.open(samples, batch_size))
    own = getattr(config.validation, kind)
    part = None if own else partial(_part, config)
    training = sources.open(samples, batch_size, part=part and partial(part, 0))
    log = f"held_out_{kind}"
    stream = sources.open(samples, batch_size, log=log, part=part and partial(part, 1), others=own).stream
    count = config.validation.samples
    if kind not in ("captions", "edits"):  # which are masked in another way when they are repeated
        count = min(count, sum(len(one.source) for one in stream.sources))
    held_out = SampleLoader(stream, min(batch_size, count))
    return Loaders(training, held_out, count // held_out.batch_size)


def _part(config: FinetuningConfig, number: int, source: Source[Sample]) -> Source[Sample]:
    """Return the samples of a source to train on (0), or those that are held out (1)."""
    return split_source(source, config.validation.held_out, config.loop.seed)[number]


def sheet_prompts(config: FinetuningConfig, loaders: dict[str, Loaders], count: int) -> list[str]:
    """Return the prompts of the sample sheet: the configured ones, or the first captions without repetitions."""
    if config.sheet_prompts or "captions" not in loaders:
        return config.sheet_prompts
    captions: list[CaptionSample] = loaders["captions"].first(count)
    return list(dict.fromkeys(sample.text for sample in captions))
