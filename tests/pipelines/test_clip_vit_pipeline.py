"""The `w_clip_vit` variant through the pipeline: loading, answering, drawing, and errors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from showo_turbo.checkpoints.vision_tower import load_vision_tower
from showo_turbo.compat import inference_mmu as understanding
from showo_turbo.compat.showo_options import UnderstandingOptions
from showo_turbo.config_reader import read_config
from showo_turbo.data import DialogueSample, SourceConfig, Turn
from showo_turbo.errors import InputError
from showo_turbo.evaluation.scene_benchmark import evaluate_understanding
from showo_turbo.evaluation.scene_questions import make_question_set
from showo_turbo.finetuning.finetune import finetune
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.generation.options import DecodingOptions
from showo_turbo.models.showo import Showo
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.clip_prompts import SYSTEM_PROMPT, ClipPromptBuilder
from showo_turbo.serving.requests import ImageRequest, TextRequest
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_batches import dialogue_batch

FEATURE_SIZE = 12
QUESTIONS = ["What?", "How many stars are there in it?", "Is it red?"]


def load(folder: Path, **options: object) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(folder, device="cpu", **options)


def clip_folder(folder: Path, feature_size: int = FEATURE_SIZE) -> Path:
    """A CLIP model with text and vision tower, as on the hub."""
    sizes = {"intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": feature_size}
    text = CLIPTextConfig(vocab_size=20, max_position_embeddings=8, **sizes)
    vision = CLIPVisionConfig(image_size=12, patch_size=4, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=4))
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state | {"vision_model.embeddings.position_ids": torch.arange(10)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="session")
def published(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published layout: with a projector among its weights and no vision tower."""
    folder = tmp_path_factory.mktemp("models") / "w-clip-vit"
    shutil.copytree(random_checkpoint, folder)
    plain = load(random_checkpoint).model
    config = replace(plain.config, w_clip_vit=True, clip_feature_size=FEATURE_SIZE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = Showo(config, plain.showo.config).mm_projector
        for parameter in projector.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
    weights = plain.state_dict() | {f"mm_projector.{name}": value for name, value in projector.state_dict().items()}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    values = json.loads((folder / "config.json").read_text())
    values |= {"w_clip_vit": True, "clip_feature_size": FEATURE_SIZE}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="session")
def pipe(published: Path, clip: Path) -> ShowoPipeline:
    return load(published, vision_tower=clip)


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8))
    return [noise, Image.radial_gradient("L"), noise.rotate(90)]


def test_the_prompt_is_the_published_one(pipe: ShowoPipeline) -> None:
    prompts, vocabulary = pipe.prompts, pipe.prompts.vocabulary
    assert isinstance(prompts, ClipPromptBuilder)
    assert prompts.understanding([0, 1], "What?") == [
        vocabulary.mmu_id,
        *prompts.encode(SYSTEM_PROMPT),
        vocabulary.soi_id,
        vocabulary.size,
        vocabulary.size + 1,
        vocabulary.eoi_id,
        *prompts.encode("USER: What? ASSISTANT:"),
    ]


def test_the_tower_of_a_whole_clip_model_loads(pipe: ShowoPipeline, clip: Path) -> None:
    pixels = pipe.vision_tower.preprocess([Image.new("RGB", (20, 14), "blue")])
    vision = CLIPModel.from_pretrained(clip).eval().vision_model
    expected = vision(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert pipe.vision_tower(pixels).allclose(expected, atol=1e-6)
    assert pipe.vision_tower.num_features == 9


def test_answers_depend_on_image_and_question_and_both_decodings_agree(
    pipe: ShowoPipeline, images: list[Image.Image]
) -> None:
    options = {"max_new_tokens": 12}
    jacobi = pipe.image_to_text(images, QUESTIONS, seed=0, **options)
    alone = [
        pipe.image_to_text(image, question, decoding="autoregressive", **options)
        for image, question in zip(images, QUESTIONS, strict=True)
    ]
    assert jacobi.token_ids == [one.token_ids[0] for one in alone]
    other = pipe.image_to_text(images, QUESTIONS[0], **options)
    assert len({tuple(ids) for ids in other.token_ids}) > 1


def test_encoded_images_can_be_asked_about_again(pipe: ShowoPipeline, images: list[Image.Image]) -> None:
    sight = pipe.encode_images(images)
    found = [pipe.image_to_text(sight, question, max_new_tokens=6).token_ids for question in QUESTIONS]
    assert found == [pipe.image_to_text(images, question, max_new_tokens=6).token_ids for question in QUESTIONS]


def test_requests_about_different_images_are_batched(pipe: ShowoPipeline, images: list[Image.Image]) -> None:
    requests = [TextRequest(image, QUESTIONS[0], max_new_tokens=12, seed=0) for image in images]
    requests.append(ImageRequest("a red car", seed=1, output_type="latent"))
    done = [update for update in pipe.engine().run(requests) if update.done]
    *answers, drawn = [update.output() for update in sorted(done, key=lambda update: update.ticket)]
    assert answers == [pipe.image_to_text(**vars(request)) for request in requests[:-1]]
    assert len({answer.texts[0] for answer in answers}) > 1
    assert drawn.codes.equal(pipe.text_to_image("a red car", seed=1).codes)


def test_it_can_be_evaluated(pipe: ShowoPipeline) -> None:
    result = evaluate_understanding(pipe, make_question_set(2), DecodingOptions(max_new_tokens=4))
    assert 0 <= result.scores.questions.value <= 1
    assert result.tokens_per_pass > 0


def test_a_chat_reads_the_image_and_earlier_turns(pipe: ShowoPipeline, images: list[Image.Image]) -> None:
    dialogue = pipe.chat(images[0])
    first = dialogue.ask(QUESTIONS[0], max_new_tokens=6)
    assert first.token_ids == pipe.image_to_text(images[0], QUESTIONS[0], max_new_tokens=6).token_ids
    assert dialogue.ask(QUESTIONS[1], max_new_tokens=6, decoding="autoregressive").forward_passes >= 1


def test_drawing_does_not_depend_on_the_vision_tower(
    published: Path, pipe: ShowoPipeline, random_pipe: ShowoPipeline, images: list[Image.Image]
) -> None:
    blind = load(published)
    drawn = [one.text_to_image("a red car", seed=1).codes for one in (pipe, blind, random_pipe)]
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2])
    with pytest.raises(InputError, match=r"has no CLIP vision tower.*openai/clip-vit-large-patch14-336"):
        blind.image_to_text(images[0], "What?")


def test_a_round_trip_keeps_the_tower(pipe: ShowoPipeline, images: list[Image.Image], tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.image_to_text(images[0], "What?").token_ids == pipe.image_to_text(images[0], "What?").token_ids


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_answers(published: Path, clip: Path, images: list[Image.Image], dtype: str) -> None:
    half = load(published, vision_tower=clip, dtype=dtype)
    assert half.vision_tower.tower.dtype == half.model.dtype == getattr(torch, dtype)
    half.image_to_text(images, QUESTIONS, max_new_tokens=4)


def test_components_that_do_not_fit_raise(
    published: Path, clip: Path, random_checkpoint: Path, pipe: ShowoPipeline, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="answers by CLIP features and cannot be asked about codes"):
        pipe.image_to_text(codes=torch.zeros(16, dtype=torch.long), prompt="What?")
    with pytest.raises(InputError, match="takes image codes: leave it out"):
        load(random_checkpoint, vision_tower=clip)
    with pytest.raises(InputError, match="features of size 8, the transformer takes 12"):
        load(published, vision_tower=clip_folder(tmp_path / "other", feature_size=8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"config.json' cannot be read"):
        load_vision_tower(tmp_path / "empty")
    copy = Path(shutil.copytree(published, tmp_path / "copy"))
    (copy / "pytorch_model.bin").unlink()
    shutil.copy(random_checkpoint / "model.safetensors", copy)
    with pytest.raises(InputError, match=r"missing: mm_projector.0.bias"):
        load(copy)


def test_the_documented_command_answers(
    published: Path, clip: Path, pipe: ShowoPipeline, images: list[Image.Image], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    images[0].save(tmp_path / "images" / "a.png")
    words = [
        f"model.showo.pretrained_model_path={published}",
        "model.showo.w_clip_vit=true",
        f"model.clip_model_name={clip}",
        f"mmu_image_root={tmp_path / 'images'}",
        "question=What?",
        "max_new_tokens=8",
        "device=cpu",
        f"output_dir={tmp_path / 'out'}",
    ]
    understanding.run(read_config(UnderstandingOptions, words))
    result = json.loads((tmp_path / "out" / "answers.jsonl").read_text())
    assert result["answer"] == pipe.image_to_text(images[0], "What?", max_new_tokens=8).texts[0]


def test_dialogues_are_trained_as_they_are_answered(pipe: ShowoPipeline, images: list[Image.Image]) -> None:
    """Check that the greedy answer has the highest logit at every position of the training sequence."""
    answers = [pipe.image_to_text(image, QUESTIONS[0], max_new_tokens=6).token_ids[0] for image in images]
    prompts, tower = pipe.prompts, pipe.vision_tower
    features = tower(tower.preprocess(images))
    indices = torch.arange(features.shape[:2].numel()).reshape(features.shape[:2]).tolist()
    dialogues = [DialogueSample(str(number), image, (Turn(QUESTIONS[0], "a"),)) for number, image in enumerate(images)]
    batch = dialogue_batch(prompts, dialogues, indices, features)
    with torch.no_grad():
        reader = FeatureShowo(pipe.model, batch.features)
        hidden = reader(batch.ids, batch.attention_mask, batch.position_ids)
    first = reader.logits(hidden[batch.ids == prompts.encode("ASSISTANT:")[-1]]).argmax(-1)
    assert {int(token) for token in first} >= {answer[0] for answer in answers}


def test_dialogues_about_clip_features_are_learned(
    published: Path, clip: Path, images: list[Image.Image], tmp_path: Path
) -> None:
    for number, image in enumerate(images):
        image.convert("RGB").save(tmp_path / f"{number}.png")
    turns = [[{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}] for answer in ("a", "no", "yes")]
    entries = [{"id": str(n), "image": f"{n}.png", "conversations": turn} for n, turn in enumerate(turns)]
    (tmp_path / "dialogues.json").write_text(json.dumps(entries))
    config = FinetuningConfig(
        str(published),
        str(tmp_path / "run"),
        vision_tower=str(clip),
        dialogues=[SourceConfig("llava", str(tmp_path / "dialogues.json"), images=str(tmp_path))],
        dialogues_batch_size=3,
        dialogues_weight=1.0,
        loop=LoopConfig(steps=60, warmup_steps=1, log_steps=20, ema_decay=0.0, decay_share=0.0, threads=1),
        optimizer=OptimizerConfig(lr=1e-2),
        num_workers=0,
    )
    with pytest.raises(InputError, match="holds no vision tower: give vision_tower, or leave dialogues out"):
        finetune(replace(config, vision_tower=None))
    trained = load(finetune(config))
    assert [trained.image_to_text(image, "What?", max_new_tokens=4).texts[0] for image in images] == ["a", "no", "yes"]
    before = load(published, vision_tower=clip).model.mm_projector.state_dict()
    after = trained.model.mm_projector.state_dict()
    assert not all(after[name].allclose(before[name], atol=1e-2) for name in before)
