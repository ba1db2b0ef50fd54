"""Configuration of the image tokenizer; the defaults are those of the published model."""

from dataclasses import asdict, dataclass, fields
from functools import cached_property

from showo_turbo.errors import InputError
from showo_turbo.validation import shown

_MAX_LATENT_CHANNELS = 20
_MAX_LEVELS = 10
_MAX_SIZES = {
    "in_channels": 16,
    "patch_size": 256,
    "base_channels": 4096,
    "encoder_channel_multipliers": 64,
    "encoder_num_blocks": 64,
    "decoder_channel_multipliers": 64,
    "decoder_num_blocks": 64,
    "norm_num_groups": 4096,
}
"""Largest value of every size."""


@dataclass(frozen=True)
class MagvitV2Config:
    """Configure the sizes of a `MagvitV2` image tokenizer.

    Each entry of a multiplier or block list is one resolution level, from pixels to codes; the decoder applies its
    lists from the last entry to the first.

    Attributes:
        in_channels: colour channels of an image.
        patch_size: side of the pixel squares that are folded into channels before the first convolution and unfolded
            after the last one. The published model has 1: convolutions start at full resolution.
        base_channels: channels of a level with multiplier 1.
        encoder_channel_multipliers: channels of every encoder level, as multiples of `base_channels`.
        encoder_num_blocks: residual blocks of every encoder level.
        decoder_channel_multipliers: channels of every decoder level, as multiples of `base_channels`.
        decoder_num_blocks: residual blocks of every decoder level.
        latent_channels: channels of a latent, each of which is one bit of a code.
        norm_num_groups: groups of every group norm; divides the channels of every level.
        encoder_tile_size: side, in pixels, of the squares that are encoded independently, so that the codes of one do
            not depend on its neighbours; None encodes images as a whole. The decoder always sees the whole image.

    Raises:
        InputError: if a size is not a positive integer, or the sizes contradict each other.
    """

    in_channels: int = 3
    patch_size: int = 1
    base_channels: int = 128
    encoder_channel_multipliers: tuple[int, ...] = (1, 2, 2, 4, 4)
    encoder_num_blocks: tuple[int, ...] = (4, 3, 4, 3, 4)
    decoder_channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_num_blocks: tuple[int, ...] = (4, 4, 3, 4, 3)
    latent_channels: int = 13
    norm_num_groups: int = 32
    encoder_tile_size: int | None = None

    def __post_init__(self) -> None:
        """Check all sizes."""
        for field in fields(self):
            if getattr(self, field.name) is not None or field.default is not None:
                self._check_positive(field.name)
        if self.latent_channels > _MAX_LATENT_CHANNELS:
            raise InputError(f"latent_channels is {self.latent_channels}; at most {_MAX_LATENT_CHANNELS} bits a code")
        self._check_levels()
        if self.encoder_tile_size is not None and self.encoder_tile_size % self.downsampling_factor:
            raise InputError(
                f"encoder_tile_size is {self.encoder_tile_size}: choose a multiple of the {self.downsampling_factor} "
                "pixels of a code"
            )
        for multiplier in (*self.encoder_channel_multipliers, *self.decoder_channel_multipliers):
            if self.base_channels * multiplier % self.norm_num_groups:
                raise InputError(
                    f"norm_num_groups {self.norm_num_groups} does not divide the {self.base_channels * multiplier} "
                    f"channels of a level (base_channels {self.base_channels} x multiplier {multiplier})"
                )

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(getattr(type(self), name), tuple):
            if not isinstance(value, (tuple, list)) or not value:
                raise InputError(f"{name} is {shown(value)}; expected one positive whole number for every level")
            if len(value) > _MAX_LEVELS:
                raise InputError(f"{name} has {len(value):,} levels; at most {_MAX_LEVELS}")
            object.__setattr__(self, name, tuple(value))
            numbers = tuple(value)
        else:
            numbers = (value,)
        if any(type(number) is not int or number < 1 for number in numbers):
            raise InputError(f"{name} is {shown(value)}; expected positive whole numbers only")
        if max(numbers) > _MAX_SIZES.get(name, max(numbers)):
            raise InputError(f"{name} is {shown(value)}; at most {_MAX_SIZES[name]:,}")

    def _check_levels(self) -> None:
        names = (
            "encoder_channel_multipliers",
            "encoder_num_blocks",
            "decoder_channel_multipliers",
            "decoder_num_blocks",
        )
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InputError(f"encoder and decoder need as many levels in every list, but found {found}")

    @cached_property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return 2**self.latent_channels

    @cached_property
    def downsampling_factor(self) -> int:
        """Side, in pixels, of the square that one code represents."""
        return self.patch_size * 2 ** (len(self.encoder_num_blocks) - 1)

    def to_dict(self) -> dict:
        """Return the fields as numbers and lists, ready for a JSON file."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "MagvitV2Config":
        """Build a config from the result of `to_dict`; missing keys take their defaults.

        Raises:
            InputError: if a key is not a field, or a value is invalid.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"image tokenizer config: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)
