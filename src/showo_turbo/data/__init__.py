"""Data for distillation: any mix of sources as one stream that resumes to the sample.

samples       captions, dialogues, texts
records       JSON objects of a file by number
sources/      COCO, LLaVA, picture folders, WebDataset, Parquet, rendered scenes
mixture       position -> source and draw
stream        position -> sample; bad ones replaced
loader        batches of a stream by number, read ahead of time in worker processes
bad_samples   the log of bad samples, and the memory of them
opening       configuration -> stream
"""

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.loader import SampleLoader
from showo_turbo.data.opening import SourceConfig, check_sources, open_stream
from showo_turbo.data.samples import (
    BadSampleError,
    CaptionSample,
    DialogueSample,
    Picture,
    Sample,
    TextSample,
    Turn,
)
from showo_turbo.data.stream import MixedStream, WeightedSource

__all__ = [
    "BadSampleError",
    "BadSamples",
    "CaptionSample",
    "DialogueSample",
    "MixedStream",
    "Picture",
    "Sample",
    "SampleLoader",
    "SourceConfig",
    "TextSample",
    "Turn",
    "WeightedSource",
    "check_sources",
    "open_stream",
]
