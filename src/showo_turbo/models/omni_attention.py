"""Omni-attention: causal over text, bidirectional over an image (Show-o, arXiv 2408.12528, section 3.2).

All masks are boolean, True where a row attends to a column, so they are safe in any precision.

    text to image                                  understanding
             pad t2i sot a  eot soi c  c  eoi               mmu soi c  c  eoi sot q  a
    pad       x                                      mmu     x   x  x  x  x
    t2i           x                                  soi     x   x  x  x  x
    sot           x   x                              c       x   x  x  x  x
    a             x   x  x                           c       x   x  x  x  x
    eot           x   x  x  x                        eoi     x   x  x  x  x
    soi           x   x  x  x   x  x  x  x           sot     x   x  x  x  x   x
    c             x   x  x  x   x  x  x  x           q       x   x  x  x  x   x   x
    c             x   x  x  x   x  x  x  x           a       x   x  x  x  x   x   x  x
    eoi           x   x  x  x   x  x  x  x

editing: the prefix with the source is seen by all rows, as in understanding; the target is an image as in text to image

          t2i soi s  eoi sot a  eot soi c  eoi
    t2i    x   x  x   x
    soi    x   x  x   x
    s      x   x  x   x
    eoi    x   x  x   x
    sot    x   x  x   x   x
    a      x   x  x   x   x  x
    eot    x   x  x   x   x  x   x
    soi    x   x  x   x   x  x   x   x  x  x
    c      x   x  x   x   x  x   x   x  x  x
    eoi    x   x  x   x   x  x   x   x  x  x

With CLIP features instead of codes (`w_clip_vit`) every row attends to the features, and the rest is causal:

          mmu sys soi f  f  eoi q  a
    mmu    x           x  x
    sys    x   x       x  x
    soi    x   x   x   x  x
    f      x   x   x   x  x
    f      x   x   x   x  x
    eoi    x   x   x   x  x   x
    q      x   x   x   x  x   x   x
    a      x   x   x   x  x   x   x  x

The KV caches of `showo_turbo.generation` rely on two consequences: no row before the image that is drawn depends on
it, and in understanding no row depends on a later text token.
"""

import torch
from torch import Tensor

from showo_turbo.vocabulary import Vocabulary


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """Return a lower-triangular mask, bool (1, 1, length, length)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


def text_to_image_mask(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return the mask of `pads [t2i] [sot] text [eot] [soi] codes [eoi]`.

    Args:
        ids: long (batch, length).
        vocabulary: defines the ids of padding and image borders.

    Returns:
        bool (batch, 1, length, length). Image rows (both borders included) attend to everything but padding; text rows
            are causal and attend to no padding; padding rows attend to the padding before them, so no row is empty.
    """
    opened = (ids == vocabulary.soi_id).cumsum(1) > 0
    closed_before = (ids == vocabulary.eoi_id).cumsum(1) - (ids == vocabulary.eoi_id).long() > 0
    image_rows = (opened & ~closed_before)[:, None, :, None]
    return _hide_left_padding(causal_mask(ids.shape[1], ids.device) | image_rows, ids, vocabulary)


def understanding_mask(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return the mask of `[mmu] [soi] codes [eoi] [sot] text ...` or `[mmu] text [soi] features [eoi] text ...`.

    Args:
        ids: long (batch, length), left padding allowed; ids from the vocabulary's size on are features.
        vocabulary: defines the ids of padding and of the end of the image.

    Returns:
        bool (batch, 1, length, length). Every row attends to the prefix up to the first `<|eoi|>`, or to the features
            only if there are any; the rest is causal.
    """
    is_eoi, is_feature = ids == vocabulary.eoi_id, ids >= vocabulary.size
    prefix_columns = (is_eoi.cumsum(1) - is_eoi.long() == 0) & is_eoi.any(1, keepdim=True)
    always_visible = torch.where(is_feature.any(1, keepdim=True), is_feature, prefix_columns)
    return _hide_left_padding(causal_mask(ids.shape[1], ids.device) | always_visible[:, None, None, :], ids, vocabulary)


def editing_mask(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return the mask of `pads [t2i] [soi] source [eoi] [sot] text [eot] [soi] target [eoi]`.

    Args:
        ids: long (batch, length); rows without a source are those of `text_to_image_mask`.
        vocabulary: defines the ids of padding and image borders.

    Returns:
        bool (batch, 1, length, length). Rows of the target (both borders included) attend to everything but padding.
            All others do not attend to the target: they attend to the prefix up to the end of the source, and to what
            is before them.
    """
    is_soi, is_eoi = ids == vocabulary.soi_id, ids == vocabulary.eoi_id
    target_rows = is_soi.cumsum(1) == is_soi.sum(1, keepdim=True)  # the last image, which ends the row
    closed_before = is_eoi.cumsum(1) - is_eoi.long()
    source_columns = (closed_before == 0) & (is_eoi.sum(1, keepdim=True) > 1)
    visible = causal_mask(ids.shape[1], ids.device) | source_columns[:, None, None] | target_rows[:, None, :, None]
    return _hide_left_padding(visible, ids, vocabulary)


def _hide_left_padding(visible: Tensor, ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Hide padding columns from all rows after the padding, and make the padding rows causal."""
    is_pad = ids == vocabulary.pad_id
    columns = torch.arange(ids.shape[1], device=ids.device)
    padded_length = torch.where(is_pad, columns + 1, 0).amax(1, keepdim=True)
    in_padding = columns < padded_length
    rows, cols = in_padding[:, None, :, None], in_padding[:, None, None, :]
    causal = causal_mask(ids.shape[1], ids.device)
    return torch.where(rows, causal, visible & ~cols)
