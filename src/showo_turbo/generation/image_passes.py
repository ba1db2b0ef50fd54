"""Passes over images under their prompts: each prompt is read once, each image row once a pass, and no padding ever.

    part 1 (first pass only)        part 2
    prompt a   [t2i] a a [eot]      image 1 of a   [soi] codes [eoi]  looks at  prompt a, itself
    prompt b   [t2i] b [eot]        image 2 of a   [soi] codes [eoi]            prompt a, itself
                                    image 1 of b   [soi] codes [eoi]            prompt b, itself

No prompt row ever sees an image, so keys and values of a prompt serve all its images in all passes. Those of an image
are needed within their layer only, so all layers share the room for them: `ImageKeyValues.room`.

    prompts    (layers, prompts, longest prompt)            image rows   (1, images, longest prompt + codes + 2)
    . a a a a  kept                                         . a a a a | soi c c c c eoi
    . . b b b                                               . . b b b | soi c c c c eoi

Positions are counted from `<|soi|>`, prompts having negative ones, so what is kept of a prompt does not depend on the
prompts beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.backends.cuda_graphs import rounded_up
from showo_turbo.generation.kv_cache import KeptKeyValues, room_for_key_values
from showo_turbo.generation.scoring import Scoring, Work
from showo_turbo.models.packed_forward import Grid, Part
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary


class ImagePasses:
    """Runs images under a few prompts, again and again."""

    def __init__(
        self, model: Showo, vocabulary: Vocabulary, prompts: Sequence[Sequence[int]], read: Sequence[Tensor] = ()
    ) -> None:
        """Make room.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists, different ones; lengths may differ.
            read: of the last prompts, what `key_values_of` gave for them before; they are not read again.
        """
        self.model, self.vocabulary, self.prompts = model, vocabulary, prompts
        self.longest = rounded_up(max(map(len, prompts)), model.runner)
        self.pads = torch.tensor([self.longest - len(prompt) for prompt in prompts])
        self.kept = room_for_key_values(self, model, len(prompts), self.longest)
        self.room = self.kept[0, :, :0]
        self.unread = len(prompts) - len(read)
        for number, key_values in enumerate(read, start=self.unread):
            self.kept[:, :, number, int(self.pads[number]) :] = key_values

    def key_values_of(self, number: int) -> Tensor:
        """What is kept of a prompt, (layers, 2, length, heads, head size); it is read if it was not yet."""
        if self.unread:
            ids, part = self._unread_prompts()
            self.model.run_pass(self._embed(ids), [part])
            self.unread = 0
        return self.kept[:, :, number, int(self.pads[number]) :].clone()

    def score(self, owners: Tensor, image_ids: Tensor, asked: Tensor) -> Scoring[Tensor]:
        """Scores of every code, float32 (asked places, codebook_size), image after image.

        Args:
            owners: long (images,), the number of each image's prompt.
            image_ids: long (images, n), codes and masks as token ids.
            asked: bool (images, n), the places that are looked at.
        """
        borders = torch.full_like(image_ids[:, :1], self.vocabulary.soi_id)
        ids = torch.cat([borders, image_ids, torch.full_like(borders, self.vocabulary.eoi_id)], 1).flatten()
        parts = [self._images(owners, asked)]
        if self.unread:
            prompt_ids, prompt_part = self._unread_prompts()
            ids, parts = torch.cat([prompt_ids, ids]), [prompt_part, *parts]
        scores = yield Work(self._embed(ids), parts, (self.vocabulary.image_offset, self.vocabulary.mask_id))
        self.unread = 0
        return scores

    def _embed(self, ids: Tensor) -> Tensor:
        return self.model.embed(ids.to(self.model.device)[None])[0]

    def _unread_prompts(self) -> tuple[Tensor, Part]:
        """Ids, long (rows,), and the part that reads what is unread; nothing is asked of it."""
        device, lengths = self.model.device, [len(prompt) for prompt in self.prompts[: self.unread]]
        pads, columns = self.pads[: self.unread, None, None], torch.arange(self.longest)
        rows = torch.arange(max(lengths))[:, None] + pads
        mask = (columns >= pads) & (columns <= rows)
        places = torch.cat([torch.arange(self.longest - length, self.longest) for length in lengths])
        number = torch.arange(self.unread).repeat_interleave(torch.tensor(lengths))
        kept_at = (number * self.longest + places).to(device)
        part = Part(
            Grid(lengths, device),
            (places - self.longest).to(device),
            KeptKeyValues(self.kept, kept_at, self.unread, self.longest),
            mask[:, None].to(device),
            torch.zeros(0, dtype=torch.long, device=device),
            Grid([0] * self.unread),
        )
        return torch.tensor([token for prompt in self.prompts[: self.unread] for token in prompt]), part

    def _images(self, owners: Tensor, asked: Tensor) -> Part:
        """The part of all images."""
        device, (images, num_codes) = self.model.device, asked.shape
        length = num_codes + 2
        columns = self.longest + length
        if self.room.shape[1] < images or self.room.shape[2] != columns:
            self.room = room_for_key_values(self, self.model, images, columns, layers=1)[0]
        pads = self.pads[owners]
        mask = (torch.arange(columns) >= pads[:, None])[:, None, None].to(device) if pads.any() else None
        bordered = F.pad(asked, (1, 1))
        return Part(
            Grid([length] * images),
            torch.arange(length, device=device).repeat(images),
            ImageKeyValues(self.kept, self.room[:, :images], owners.to(device)),
            mask,
            bordered.flatten().nonzero()[:, 0].to(device),
            Grid(asked.sum(1).tolist(), device),
        )


@dataclass(frozen=True)
class ImageKeyValues:
    """Image rows look at their prompt and the whole image.

    Attributes:
        kept: (layers, 2, prompts, longest, heads, head size), of the prompts.
        room: (2, images, longest + length, heads, head size), filled anew in every layer.
        owners: long (images,), each image's prompt.
    """

    kept: Tensor
    room: Tensor
    owners: Tensor

    @property
    def lasting(self) -> tuple[Tensor, ...]:
        """See `models.passes.KeyValues`."""
        return self.kept, self.room

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.passes.KeyValues`."""
        longest = self.kept.shape[3]
        self.room[:, :, :longest] = self.kept[layer].index_select(1, self.owners)
        for room, own in zip(self.room, (keys, values), strict=True):
            room[:, longest:] = own.view(len(self.owners), -1, *own.shape[1:])
        return self.room[0], self.room[1]
