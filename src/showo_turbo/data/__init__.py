"""Training data: a weighted mixture of sources as one stream that resumes at the exact sample.

samples           captions, dialogues, texts, editing pairs
sources/          COCO, LLaVA, image folders, WebDataset, Parquet, Hugging Face, editing pairs, encoded images,
                  rendered scenes
encoded_shards    files of samples whose images are encoded
source_files      paths and patterns of a source's files
source_config     configuration -> stream
held_out          parts of a source for training and validation
source_arguments  sources on the command line
threaded_reads    samples in order, read by threads
digests           digests of data, by which edits are noticed
records           JSON objects of a file by number
mixture           position -> source and draw
stream            position -> sample; bad samples are replaced
loader            batches of a stream by number
sample_workers    worker processes that prefetch them
bad_samples       log and set of the bad samples
"""

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.loader import SampleLoader
from showo_turbo.data.samples import (
    BadSampleError,
    CaptionSample,
    DialogueSample,
    EditSample,
    ImageOrCodes,
    Sample,
    TextSample,
    Turn,
)
from showo_turbo.data.source_config import SourceConfig, check_sources, open_stream
from showo_turbo.data.stream import MixedStream, WeightedSource

__all__ = [
    "BadSampleError",
    "BadSamples",
    "CaptionSample",
    "DialogueSample",
    "EditSample",
    "ImageOrCodes",
    "MixedStream",
    "Sample",
    "SampleLoader",
    "SourceConfig",
    "TextSample",
    "Turn",
    "WeightedSource",
    "check_sources",
    "open_stream",
]
