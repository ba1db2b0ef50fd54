"""Shards of samples whose images are encoded once: one safetensors file for some thousand samples of one kind.

    captions-00000.safetensors      codes      int16 (samples, images of a sample, codes of an image)
                                    records    uint8, JSON of each sample without its images, one after the other
                                    ends       int64 (samples,), the byte after the last of each record
                                    checksums  int64 (samples,), CRC-32 of record and codes
                                    metadata   one key with the fields of `ShardHeader` as JSON

Decisions:
- Every shard has the fingerprint of the image tokenizer, and which of how many shards it is: codes of another
  tokenizer are refused, and so is a folder in which a shard is missing.
- Samples that could not be read are in no shard; `bad` has their keys and reasons.
- The metadata is one JSON text, since safetensors writes several keys in any order: equal shards are equal files.
- A checksum for each sample finds a damaged one when it is read, and the others stay usable.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from showo_turbo.checkpoints import weight_files
from showo_turbo.data.samples import CaptionSample, DialogueSample, ImageOrCodes, Sample, Turn
from showo_turbo.errors import InputError, one_line
from showo_turbo.files import atomic_files, check_plain_file, parse_json

_METADATA = "showo_turbo_encoded_samples"

ENCODED_KINDS: dict[type[Sample], str] = {CaptionSample: "captions", DialogueSample: "dialogues"}
"""Kind of the shards of each class of samples."""


def images_of(sample: Sample) -> list[ImageOrCodes]:
    """Return the images of a sample.

    Raises:
        InputError: if it has none.
    """
    image = sample.image if isinstance(sample, CaptionSample | DialogueSample) else None
    if image is None:
        raise InputError("it has no image to encode")
    return [image]


def record_of(sample: Sample) -> dict[str, Any]:
    """Return everything of a sample but its images, as JSON values."""
    if isinstance(sample, DialogueSample):
        return {"key": sample.key, "turns": [[turn.question, turn.answer] for turn in sample.turns]}
    assert isinstance(sample, CaptionSample)
    return {"key": sample.key, "text": sample.text}


def sample_of(kind: str, record: Mapping[str, Any], codes: Tensor) -> Sample:
    """Return the sample of a record and its codes, long (images, tokens).

    Raises:
        InputError: if the record is not one of this kind.
    """
    try:
        if kind == ENCODED_KINDS[DialogueSample]:
            turns = tuple(Turn(str(question), str(answer)) for question, answer in record["turns"])
            return DialogueSample(str(record["key"]), codes[0], turns)
        return CaptionSample(str(record["key"]), str(record["text"]), codes[0])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"record is not one of {kind} ({one_line(error)})") from error


@dataclass(frozen=True)
class ShardHeader:
    """Hold what a shard says of itself.

    Attributes:
        kind: of its samples, a value of `ENCODED_KINDS`.
        shard: its number, from 0.
        shards: number of all shards of the folder and kind.
        image_tokenizer: fingerprint of the image tokenizer.
        resolution: side of the encoded squares in pixels.
        bad: key and reason of every sample that could not be read.
    """

    kind: str
    shard: int
    shards: int
    image_tokenizer: str
    resolution: int
    bad: tuple[tuple[str, str], ...] = ()


def write_shard(file: Path, header: ShardHeader, records: Sequence[Mapping[str, Any]], codes: Tensor) -> None:
    """Write a shard atomically.

    Args:
        file: the file.
        header: what it says of itself.
        records: one for each sample.
        codes: long (samples, images, tokens).

    Raises:
        OSError: if the disk is full or the like.
    """
    lines = [json.dumps(record, ensure_ascii=False).encode(errors="surrogatepass") for record in records]
    small = codes.to(torch.int16 if codes.numel() == 0 or int(codes.max()) < 2**15 else torch.int32).contiguous()
    tensors = {
        "codes": small,
        "records": torch.frombuffer(bytearray(b"".join(lines) or b"\0"), dtype=torch.uint8),
        "ends": torch.tensor(np.cumsum([len(line) for line in lines], dtype=np.int64)),
        "checksums": torch.tensor([_checksum(line, row) for line, row in zip(lines, small, strict=True)]).long(),
    }
    weight_files.write(file, tensors, {_METADATA: json.dumps(asdict(header))})


class Shard:
    """Read the samples of one shard by number."""

    def __init__(self, file: Path) -> None:
        """Read header and index.

        Raises:
            InputError: if the file is truncated or is no shard.
        """
        self.file = file
        try:
            check_plain_file(file)
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                if _METADATA not in metadata:
                    raise InputError(f"{str(file)!r} holds no encoded samples: make it with showo-turbo data encode")
                self.ends = opened.get_tensor("ends").numpy()
                self.checksums = opened.get_tensor("checksums").numpy()
                self.tokens = opened.get_slice("codes").get_shape()[-1]
            header = parse_json(metadata[_METADATA])
            bad = tuple((str(key), str(reason)) for key, reason in header.pop("bad"))
            self.header = ShardHeader(**header, bad=bad)
        except InputError:
            raise
        except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"shard {str(file)!r} is truncated or damaged ({one_line(error)}): delete it and run data encode again"
            ) from error

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> tuple[dict[str, Any], Tensor]:
        """Return record and codes, long (images, tokens), of a sample.

        Raises:
            InputError: if it is damaged.
        """
        start, end = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        try:
            with safe_open(self.file, framework="pt") as opened:
                codes = opened.get_slice("codes")[row].clone()
                line = bytes(opened.get_slice("records")[start:end].numpy())
            if _checksum(line, codes) != int(self.checksums[row]):
                raise ValueError("its content does not match its checksum")
            return parse_json(line), codes.long()
        except (OSError, SafetensorError, ValueError, IndexError, TypeError) as error:
            raise InputError(f"sample is damaged ({one_line(error)}): delete the shard and encode again") from error


def write_bad_samples(file: Path, bad: Sequence[tuple[str, str]]) -> None:
    """Write key and reason of bad samples, one JSON object a line, atomically.

    Raises:
        OSError: if the disk is full or the like.
    """
    lines = [json.dumps({"key": key, "reason": reason}) + "\n" for key, reason in bad]
    atomic_files({file: "".join(lines).encode()})


def _checksum(line: bytes, codes: Tensor) -> int:
    return crc32(codes.contiguous().numpy().tobytes(), crc32(line))
