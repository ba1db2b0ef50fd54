"""Sizes of the image tokenizers that tests build."""

from showo_turbo.models.magvit_v2_config import MagvitV2Config

SMALL_IMAGE_TOKENIZER = MagvitV2Config(
    patch_size=4,
    base_channels=8,
    encoder_channel_multipliers=(1, 1),
    encoder_num_blocks=(1, 1),
    decoder_channel_multipliers=(1, 1),
    decoder_num_blocks=(1, 1),
    latent_channels=6,
    norm_num_groups=4,
)
"""One code of 6 bits for 8 x 8 pixels."""
