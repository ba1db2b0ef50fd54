"""Checkpoint folders: both layouts load, round trips change nothing, invalid files are named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.names import SHIPPED_MODELS
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline


@pytest.fixture
def copy(random_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint that a test may damage."""
    return Path(shutil.copytree(random_checkpoint, tmp_path / "copy"))


def load(folder: Path, **options: object) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(folder, device="cpu", **options)


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rows() -> torch.Tensor:
    return torch.arange(40).reshape(2, 20)


@torch.no_grad()
def test_the_published_layout_loads(tiny_folder: Path, tiny_model: Showo) -> None:
    model = load(tiny_folder).model
    assert model.logits(model(rows())).equal(tiny_model.logits(tiny_model(rows())))


@torch.no_grad()
def test_a_bin_file_loads_the_same_model(tiny_folder: Path, tiny_model: Showo, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.safetensors")
    model = load(Path(shutil.copytree(tiny_folder, tmp_path / "bin", ignore=ignored))).model
    assert model.logits(model(rows())).equal(tiny_model.logits(tiny_model(rows())))


def test_a_round_trip_changes_nothing(random_pipe: ShowoPipeline, tmp_path: Path) -> None:
    random_pipe.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.recommended == random_pipe.recommended
    for component in ("model", "image_tokenizer"):
        saved, state = getattr(again, component).state_dict(), getattr(random_pipe, component).state_dict()
        assert saved.keys() == state.keys()
        assert all(saved[key].equal(state[key]) for key in state)
    assert again.prompts.text_to_image("a red car") == random_pipe.prompts.text_to_image("a red car")


def test_a_published_layout_is_saved_in_our_layout(tiny_folder: Path, tmp_path: Path) -> None:
    load(tiny_folder).save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").model.config.llm_model_path == "phi"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.float32])
def test_half_precision_weights_take_the_requested_dtype(copy: Path, dtype: str | torch.dtype) -> None:
    file = copy / "model.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file)
    pipe = load(copy, dtype=dtype)
    assert str(pipe.model.dtype).endswith(str(dtype))
    assert next(pipe.image_tokenizer.parameters()).dtype == torch.float32
    codes = pipe.text_to_image("a red car", seed=0).codes
    assert ((codes >= 0) & (codes < 16)).all()


def test_other_tokenizers_replace_missing_ones(copy: Path, tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    image_tokenizer = shutil.move(copy / "magvitv2", tmp_path / "images")
    text_tokenizer = shutil.move(copy / "phi", tmp_path / "texts")
    pipe = load(copy, image_tokenizer=image_tokenizer, text_tokenizer=text_tokenizer)
    assert pipe.text_to_image("a red car", seed=0).codes.equal(random_pipe.text_to_image("a red car", seed=0).codes)


def test_without_image_tokenizer_a_pipeline_works_on_codes(copy: Path, random_pipe: ShowoPipeline) -> None:
    shutil.rmtree(copy / "magvitv2")
    pipe = load(copy)
    output = pipe.text_to_image("a red car", seed=0, output_type="latent")
    assert output.images.equal(output.codes)
    assert output.codes.equal(random_pipe.text_to_image("a red car", seed=0).codes)
    assert pipe.image_to_text(codes=output.codes, prompt="What?", max_new_tokens=4).texts
    for call in (
        lambda: pipe.text_to_image("a red car"),
        lambda: pipe.decode_codes(output.codes),
        lambda: pipe.encode_image("image.png"),
        lambda: pipe.resolution,
    ):
        with pytest.raises(InputError, match=r"no image tokenizer: name one.*image_tokenizer=FOLDER"):
            call()


def test_another_codebook_is_refused(copy: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="image tokenizer has 16 codes, the transformer 512"):
        load(tiny_folder, image_tokenizer=copy / "magvitv2")


def test_an_image_tokenizer_without_sizes_has_the_published_ones(copy: Path) -> None:
    (copy / "magvitv2" / "config.json").write_text('{"_class_name": "MAGVITv2"}')
    with pytest.raises(InputError, match=r"does not fit.*where the config says \(128,\)|does not fit.*missing"):
        load_image_tokenizer(copy / "magvitv2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config\.json' cannot be read \(No such file"),
        ("config.json", "{", r"config\.json' cannot be read \(.*expected a JSON file"),
        ("config.json", "[]", "holds a list; expected a JSON object"),
        ("config.json", "{}", "lacks vocab_size"),
        ("generation.json", '{"steps": 4}', "unknown steps; known are num_inference_steps"),
        ("generation.json", '{"num_inference_steps": "4"}', "num_inference_steps is '4'"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", "noise", "truncated or damaged"),
        ("phi/config.json", None, r"phi/config\.json' cannot be read \(No such file"),
        ("phi/config.json", "{", r"phi/config\.json' cannot be read \(.*expected a JSON file"),
        ("phi/config.json", '{"hidden_size": "wide"}', r"phi/config\.json': hidden_size is 'wide': choose"),
        ("phi/config.json", '{"model_type": "phi", "hidden_size": 0}', "hidden_size is 0: choose"),
        ("phi/config.json", '{"num_hidden_layers": 2, "hidden_act": "nope"}', "Phi config: none that fits.*nope"),
        ("phi/tokenizer.json", None, "text tokenizer"),
        ("phi/tokenizer.json", '{"x": 1}', "text tokenizer: none could be loaded"),
        ("phi/tokenizer.json", "[]", "text tokenizer: none could be loaded"),
        ("magvitv2/config.json", '{"latent_channels": 4, "colour": 1}', "unknown colour"),
        ("magvitv2/model.safetensors", None, "magvitv2' holds no weights"),
    ],
)
def test_an_invalid_file_is_named(copy: Path, name: str, content: str | None, message: str) -> None:
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load(copy)


def test_weights_of_another_size_are_named(copy: Path) -> None:
    edit_json(copy / "phi" / "config.json", intermediate_size=48)
    with pytest.raises(
        InputError, match=r"mlp\.fc1\.weight is \(64, 32\) where the config says \(48, 32\).*and \d more"
    ):
        load(copy)


def test_a_missing_phi_config_is_looked_up_on_the_hub(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    edit_json(copy / "config.json", llm_model_path="nobody/phi")
    assert load(copy).model.config.llm_model_path == "nobody/phi"
    (copy / "phi").rename(copy / "texts")
    with pytest.raises(InputError, match=r"text tokenizer 'nobody/phi' .*could not be fetched"):
        load(copy)


@pytest.mark.parametrize(
    ("option", "value"), [("device", "cuda:99"), ("device", "abacus"), ("device", "meta"), ("dtype", "float12")]
)
def test_unknown_devices_and_dtypes_are_refused(random_checkpoint: Path, option: str, value: str) -> None:
    with pytest.raises(InputError, match=value):
        ShowoPipeline.from_pretrained(random_checkpoint, **{option: value})


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_shipped_models_draw_and_answer(name: str) -> None:
    pipe = ShowoPipeline.from_pretrained(name, device="cpu")
    assert pipe.known_world is not None
    output = pipe.text_to_image(pipe.known_world.prompts[0], seed=0)
    assert output.images[0].size == (pipe.resolution, pipe.resolution)
    assert output.forward_passes == pipe.recommended.num_inference_steps
    assert pipe.image_to_text(output.images[0], pipe.known_world.questions[0]).texts[0]
