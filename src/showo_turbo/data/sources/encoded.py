"""Samples whose images were encoded by `showo-turbo data encode`: a sample is its text and its codes.

A sample is read from its shard by one seek, so the files may be of any size; 16 bytes a sample stay in memory.
"""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

from showo_turbo.data.encoded_shards import Shard, sample_of
from showo_turbo.data.samples import bad_sample_errors
from showo_turbo.data.source_files import matching_files
from showo_turbo.data.sources.scenes import SceneCaptions, SceneDialogues, SceneEdits
from showo_turbo.errors import InputError
from showo_turbo.validation import shown


def encoded_files(path: str | Path, kind: str) -> tuple[Path, ...]:
    """Return the shards of a kind in a folder, or the files of a pattern.

    Raises:
        InputError: if there are none.
    """
    if not Path(path).is_dir():
        return matching_files(path)
    found = tuple(sorted(Path(path).glob(f"{kind}-*.safetensors")))
    if not found:
        raise InputError(f"folder {str(path)!r} has no shards of {kind}: make them with showo-turbo data encode")
    return found


def encoder_of(source: object) -> str | None:
    """Return the fingerprint of the image tokenizer whose codes a source holds; None if it holds images."""
    if isinstance(source, SceneCaptions | SceneDialogues | SceneEdits):
        return source.pool.image_tokenizer_sha256
    return source.image_tokenizer_sha256 if isinstance(source, EncodedSource) else None


class EncodedSource:
    """Read the samples of all shards of one kind.

    Attributes:
        image_tokenizer_sha256: fingerprint of the image tokenizer that encoded the images.
        tokens: codes of an image.
    """

    def __init__(self, kind: str, path: str | Path) -> None:
        """Open all shards.

        Args:
            kind: "captions" or "dialogues".
            path: folder of the shards, or a pattern of files.

        Raises:
            InputError: if a shard is missing or damaged, or shards do not belong together.
        """
        self.kind = kind
        self.shards = [Shard(file) for file in encoded_files(path, kind)]
        first = self.shards[0]
        for shard in self.shards:
            for name in ("kind", "shards", "image_tokenizer", "resolution"):
                one, other = getattr(first.header, name), getattr(shard.header, name)
                if one != other:
                    raise InputError(
                        f"shards {first.file.name!r} and {shard.file.name!r} have {name} {shown(one)} and "
                        f"{shown(other)}: give shards of one encoding"
                    )
        if first.header.kind != kind:
            raise InputError(f"shard {first.file.name!r} holds {first.header.kind} where {kind} are read")
        missing = set(range(first.header.shards)) - {shard.header.shard for shard in self.shards}
        if missing:
            raise InputError(
                f"{len(missing)} of {first.header.shards} shards are missing, number {min(missing)} first: "
                "run showo-turbo data encode again to complete them"
            )
        self.image_tokenizer_sha256, self.tokens = first.header.image_tokenizer, first.tokens
        self._ends = list(accumulate(len(shard) for shard in self.shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        number = bisect_right(self._ends, index)
        row = index - (self._ends[number - 1] if number else 0)
        shard = self.shards[number]
        with bad_sample_errors(f"{shard.file.name}: sample {row}"):
            return sample_of(self.kind, *shard[row])
