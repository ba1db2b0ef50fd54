"""The `w_clip_vit` variant: masks, features among the embeddings, and text decoding with them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses
from showo_turbo.generation.trajectory import last_state
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.vocabulary import Vocabulary

FEATURES, FEATURE_SIZE = 4, 12
SYSTEM = [5, 6, 7]


@pytest.fixture(scope="module")
def tower() -> ClipVisionTower:
    config = CLIPVisionConfig(
        hidden_size=FEATURE_SIZE,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClipVisionTower(CLIPVisionModel(config))


@pytest.fixture
def model(make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary) -> Showo:
    """Return a random model with a projector that generates text ids only, with an end of text now and then."""
    plain = make_random_model(0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = replace(plain.config, w_clip_vit=True, clip_feature_size=FEATURE_SIZE)
        model = Showo(config, plain.showo.config).eval()
    model.showo = plain.showo
    with torch.no_grad():
        model.showo.lm_head.bias[random_vocabulary.llm_vocab_size :] -= 40
        model.showo.lm_head.bias[random_vocabulary.end_of_text_id] += 1
        for parameter in model.mm_projector.parameters():
            torch.nn.init.normal_(parameter, std=1.0, generator=torch.Generator().manual_seed(2))
    return model


def features(images: int) -> torch.Tensor:
    return torch.randn(images, FEATURES, FEATURE_SIZE, generator=torch.Generator().manual_seed(3))


def prompt_of(numbers: list[int], question: list[int], vocabulary: Vocabulary) -> list[int]:
    image = [vocabulary.size + number for number in numbers]
    return [vocabulary.mmu_id, *SYSTEM, vocabulary.soi_id, *image, vocabulary.eoi_id, *question]


def test_every_row_attends_to_the_features_and_the_rest_is_causal(random_vocabulary: Vocabulary) -> None:
    """The published rule: columns 1 + system + 1 up to + features are visible everywhere."""
    ids = torch.tensor([prompt_of([4, 5, 6, 7], [1, 2], random_vocabulary)])
    expected = torch.ones(ids.shape[1], ids.shape[1]).tril().bool()
    first = 1 + len(SYSTEM) + 1
    expected[:, first : first + FEATURES] = True
    assert understanding_mask(ids, random_vocabulary)[0, 0].equal(expected)

    padded = torch.tensor([[random_vocabulary.pad_id] * 2 + ids[0].tolist()])
    mask = understanding_mask(padded, random_vocabulary)[0, 0]
    assert mask[2:, 2:].equal(expected)
    assert not mask[2:, :2].any()


@torch.no_grad()
def test_features_replace_the_embeddings_of_their_ids(model: Showo, random_vocabulary: Vocabulary) -> None:
    given = features(2)
    feature_model = FeatureShowo(model, given)
    numbers = feature_model.feature_indices([1, 0])
    assert numbers.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    rows = torch.tensor([prompt_of(row, [1, 2], random_vocabulary) for row in numbers.tolist()])
    embeddings = feature_model.embed(rows)
    table, first = model.showo.model.embed_tokens, 1 + len(SYSTEM) + 1
    last = first + FEATURES
    assert embeddings[:, first:last].allclose(model.mm_projector(given[[1, 0]]), atol=1e-6)
    assert embeddings[:, :first].equal(table(rows[:, :first]))
    assert embeddings[:, last:].equal(table(rows[:, last:]))


def greedy_without_cache(
    model: Showo, image: torch.Tensor, question: list[int], count: int, v: Vocabulary
) -> list[int]:
    """Decode with explicit embeddings, computing everything anew for each id."""
    table = model.showo.model.embed_tokens
    head = torch.tensor([[v.mmu_id, *SYSTEM, v.soi_id]])
    answer: list[int] = []
    while len(answer) < count and v.end_of_text_id not in answer:
        tail = torch.tensor([[v.eoi_id, *question, *answer]])
        embeddings = torch.cat([table(head), model.mm_projector(image)[None], table(tail)], dim=1)
        mask = torch.ones(embeddings.shape[1], embeddings.shape[1], dtype=torch.bool).tril()
        mask[:, head.shape[1] : head.shape[1] + FEATURES] = True
        hidden = model.showo.model(inputs_embeds=embeddings, attention_mask=mask[None, None]).last_hidden_state
        answer.append(int(model.logits(hidden[0, -1]).argmax()))
    return answer + [v.end_of_text_id] * (count - len(answer))


@torch.no_grad()
@pytest.mark.parametrize("block_length", [1, 3, 16])
def test_jacobi_is_greedy_over_features(model: Showo, random_vocabulary: Vocabulary, block_length: int) -> None:
    given, questions = features(2), [[1, 2], [3], [4, 5, 6, 7, 8]]
    feature_model = FeatureShowo(model, given)
    images = [0, 1, 0]
    rows = [
        prompt_of(numbers, question, random_vocabulary)
        for numbers, question in zip(feature_model.feature_indices(images).tolist(), questions, strict=True)
    ]
    decoder = TextDecoder(feature_model, random_vocabulary, rows, 12, block_length)
    guesses = draw_guesses(rows, 12, random_vocabulary, torch.Generator().manual_seed(0))
    states = list(decoder.run(guesses))
    expected = [
        greedy_without_cache(model, given[image], question, 12, random_vocabulary)
        for image, question in zip(images, questions, strict=True)
    ]
    assert states[-1].ids.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1
    for before, after in reversed(list(pairwise(states))):  # whatever the KV cache holds
        assert decoder.advance(before).ids.equal(after.ids)


@torch.no_grad()
def test_the_answer_depends_on_the_image(model: Showo, random_vocabulary: Vocabulary) -> None:
    feature_model = FeatureShowo(model, features(6))
    rows = [
        prompt_of(numbers, [1, 2], random_vocabulary)
        for numbers in feature_model.feature_indices(list(range(6))).tolist()
    ]
    decoder = TextDecoder(feature_model, random_vocabulary, rows, 8, 8)
    final = last_state(decoder.run(draw_guesses(rows, 8, random_vocabulary, torch.Generator().manual_seed(0))))
    assert len({tuple(row) for row in final.ids.tolist()}) > 1


def test_the_tower_returns_its_second_to_last_layer(tower: ClipVisionTower) -> None:
    pixels = tower.preprocess([Image.new("RGB", (20, 30), "red"), Image.new("L", (9, 8))])
    assert pixels.shape == (2, 3, 8, 8)
    found = tower(pixels)
    assert found.shape == (2, tower.num_features, tower.feature_size) == (2, FEATURES, FEATURE_SIZE)
    layers = tower.tower.encoder.layers
    shorter = CLIPVisionModel(tower.tower.config).eval()
    shorter.load_state_dict(tower.tower.state_dict())
    shorter.encoder.layers = layers[:-1]
    assert found.equal(shorter(pixels).last_hidden_state[:, 1:])
