"""The commands draw and answer as the library does, and an image can be drawn again from its sidecar."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from showo_turbo import ShowoPipeline, __version__
from showo_turbo.checkpoints.published import PUBLISHED, PublishedCheckpoint
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.processing.image_files import load_image
from showo_turbo.scenes.shapes.shape_world import SHAPES


@pytest.fixture
def image(here: Path, random_pipe: ShowoPipeline) -> Path:
    path = here / "image.png"
    random_pipe.text_to_image("a red car", seed=0).images[0].save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_version_and_help(cli: Callable) -> None:
    assert cli("--version").out == f"showo-turbo {__version__}\n"
    overview = cli("--help")
    assert overview.status == 0
    for command in ("generate", "inpaint", "extrapolate", "vary", "ask", "describe", "chat", "demo"):
        assert command in overview.out
        assert cli(command, "--help").status == 0


def test_generate_draws_what_the_library_draws(
    cli: Callable, here: Path, random_checkpoint: Path, random_pipe: ShowoPipeline
) -> None:
    result = cli("generate", "a red car", "--model", random_checkpoint, "--seed", 3, "--device", "cpu")
    assert (result.status, result.out, result.err) == (0, "out.png\n", "")
    assert names(here) == ["out.json", "out.png"]
    assert load_image("out.png").tobytes() == random_pipe.text_to_image("a red car", seed=3).images[0].tobytes()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--seed", 7, "--steps", 6, "--guidance-scale", 1.5, "--top-k", 5, "--temperature", 0.5, "--schedule", "pow2"],
        ["--num-images", 3, "--dtype", "bfloat16"],
    ],
)
def test_a_sidecar_draws_the_image_again(
    cli: Callable, here: Path, random_checkpoint: Path, options: list[object]
) -> None:
    assert cli("generate", "a red car", "--model", random_checkpoint, *options).status == 0
    assert cli("generate", "--from-sidecar", "out.json", "-o", "again.png").status == 0
    assert (here / "again.png").read_bytes() == (here / "out.png").read_bytes()
    assert (here / "again.json").read_bytes() == (here / "out.json").read_bytes()


def test_a_sidecar_holds_every_setting(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    cli("generate", "ein grünes Auto", "--model", random_checkpoint, "--seed", 3, "--device", "cpu")
    settings = json.loads((here / "out.json").read_text(encoding="utf-8"))
    digests = settings.pop("weights_sha256")
    assert digests.keys() == {"transformer", "image_tokenizer"}
    assert settings.pop("torch")
    assert settings == {
        "task": "text_to_image",
        "arguments": {},
        "inputs_sha256": {},
        "prompt": "ein grünes Auto",
        "seed": 3,
        "num_images": 1,
        "num_inference_steps": 4,
        "guidance_scale": 0.0,
        "top_k": None,
        "temperature": 1.0,
        "schedule": "cosine",
        "order": "confidence",
        "sampled_steps": None,
        "sampled_codes": None,
        "early_exit": None,
        "model": str(random_checkpoint),
        "device": "cpu",
        "dtype": "float32",
        "quantization": None,
        "showo_turbo": __version__,
    }


def test_a_sidecar_without_later_sampling_options_is_read(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    """Versions before `order` and the options after it wrote no such keys."""
    cli("generate", "a red car", "--model", random_checkpoint, "-o", "first.png")
    settings = json.loads((here / "first.json").read_text())
    for name in ("order", "sampled_steps", "sampled_codes", "early_exit"):
        del settings[name]
    (here / "old.json").write_text(json.dumps(settings))
    assert cli("generate", "--from-sidecar", "old.json", "-o", "second.png").err == ""
    assert (here / "second.png").read_bytes() == (here / "first.png").read_bytes()
    assert (here / "second.json").read_bytes() == (here / "first.json").read_bytes()


def test_invalid_sampling_options_of_a_sidecar_are_refused(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    cli("generate", "a red car", "--model", random_checkpoint)
    settings = json.loads((here / "out.json").read_text())
    (here / "other.json").write_text(json.dumps(settings | {"temperature": "hot"}))
    assert "temperature is 'hot'" in cli("generate", "--from-sidecar", "other.json", "-o", "other.png").err
    (here / "other.json").write_text(json.dumps(settings | {"heat": 1}))
    assert "is not one that showo-turbo wrote" in cli("generate", "--from-sidecar", "other.json", "-o", "other.png").err


def test_top_k_0_samples_among_all_codes(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    shutil.copytree(random_checkpoint, here / "model")
    recommended = json.loads((here / "model" / "generation.json").read_text())
    (here / "model" / "generation.json").write_text(json.dumps(recommended | {"top_k": 3}))
    for options, top_k in (((), 3), (("--top-k", 0), None)):
        assert cli("generate", "a red car", "--model", "model", "--overwrite", *options).status == 0
        assert json.loads((here / "out.json").read_text())["top_k"] == top_k


def test_a_sidecar_of_other_weights_is_refused(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    shutil.copytree(random_checkpoint, here / "model")
    cli("generate", "a red car", "--model", "model", "-o", "first.png")
    file = here / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    result = cli("generate", "--from-sidecar", "first.json", "-o", "second.png")
    assert result.status == 2
    assert "has other weights than those that made 'first.json'" in result.err
    assert names(here) == ["first.json", "first.png", "model"]


def test_several_prompts_give_the_files_of_single_prompts(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "prompts.txt").write_text("two dogs\n\n***\n")
    common = ("--model", random_checkpoint, "--seed", 3)
    result = cli("generate", "A Red Car!", "--prompts-file", "prompts.txt", *common)
    files = ["001-a-red-car.png", "002-two-dogs.png", "003-picture.png"]
    assert result.out.split() == files
    for prompt, name in zip(["A Red Car!", "two dogs", "***"], files, strict=True):
        assert cli("generate", prompt, *common, "--overwrite").status == 0
        assert (here / "out.png").read_bytes() == (here / name).read_bytes()
        assert Path(name).with_suffix(".json").exists()


def test_output_may_be_a_folder_for_one_image(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "images").mkdir()
    cli("generate", "a red car", "-o", "images", "--model", random_checkpoint)
    assert names(here / "images") == ["a-red-car.json", "a-red-car.png"]


def test_several_images_are_written_as_a_grid(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    cli("generate", "a red car", "--num-images", 5, "--model", random_checkpoint)
    assert load_image("out.png").size == (3 * 32, 2 * 32)


def test_overwrite_replaces(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "out.png").write_text("old")
    assert cli("generate", "a red car", "--model", random_checkpoint, "--overwrite").status == 0
    assert load_image("out.png").size == (32, 32)
    assert names(here) == ["out.json", "out.png"]


@pytest.mark.parametrize("decoding", ["jacobi", "autoregressive"])
def test_ask_prints_the_librarys_answer(
    cli: Callable, image: Path, random_checkpoint: Path, random_pipe: ShowoPipeline, decoding: str
) -> None:
    common = ("--model", random_checkpoint, "--max-new-tokens", 9, "--decoding", decoding)
    expected = random_pipe.image_to_text(str(image), "What?", max_new_tokens=9).texts[0]
    result = cli("ask", image, "What?", *common)
    assert (result.status, result.err) == (0, "")
    assert result.out.strip() == expected
    several = cli("ask", image, "What?", "Where?", *common).out
    assert several.startswith(f"What?\n{expected}")
    assert "\nWhere?\n" in several


def test_sampling_takes_the_seed(
    cli: Callable, image: Path, random_checkpoint: Path, random_pipe: ShowoPipeline
) -> None:
    common = ("ask", image, "What?", "--model", random_checkpoint, "--max-new-tokens", 9)
    options = ("--do-sample", "--decoding", "autoregressive", "--temperature", 2, "--top-k", 50, "--seed", 4)
    result = cli(*common, *options)
    assert (result.status, result.err) == (0, "")
    expected = random_pipe.image_to_text(
        str(image), "What?", 9, "autoregressive", do_sample=True, temperature=2.0, top_k=50, seed=4
    )
    assert result.out.strip() == expected.texts[0]
    assert cli(*common, "--no-sliding-window", "--no-drafts").out == cli(*common, "--top-k", 0).out


def test_stats_count_forward_passes(cli: Callable, image: Path, random_checkpoint: Path) -> None:
    common = ("--model", random_checkpoint, "--max-new-tokens", 9, "--stats")
    plain = cli("ask", image, "What?", *common, "--decoding", "autoregressive").out.splitlines()[-1]
    assert plain.endswith("1.00 tokens per pass")
    assert "tokens in" in cli("describe", image, *common, "--block-length", 4).out.splitlines()[-1]


def test_demo_draws_and_answers(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    for _ in range(2):
        result = cli("demo", "--model", random_checkpoint)
        assert (result.status, result.err) == (0, "")
    assert load_image("outputs/demo.png").width > 4 * 150
    for prompt, question in SHAPES.demo.items():
        assert f"drawn:  {prompt}\nasked:  {question}\nanswer: " in result.out


def test_demo_replaces_a_named_file_only_with_overwrite(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "mine.png").touch()
    result = cli("demo", "--output", "mine.png", "--model", random_checkpoint)
    assert result.status == 2
    assert "'mine.png' exists" in result.err
    assert cli("demo", "--output", "mine.png", "--model", random_checkpoint, "--overwrite").status == 0


def test_a_sidecar_stores_a_published_name_even_if_a_folder_has_it(
    cli: Callable, here: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name implies an image tokenizer, a path does not."""
    folder = shutil.copytree(random_checkpoint, here / "own" / "model")
    (folder / "magvitv2").rename(here / "own" / "images")
    num_vq_tokens = json.loads((folder / "config.json").read_text())["num_vq_tokens"]
    published = PublishedCheckpoint(
        "own/model", 32, num_vq_tokens, SamplingOptions(3, 0.0), image_tokenizer="own/images"
    )
    monkeypatch.setitem(PUBLISHED, "own/model", published)
    assert cli("generate", "a red car", "--model", "own/model", "-o", "first.png", "--seed", 1).err == ""
    assert json.loads((here / "first.json").read_text())["model"] == "own/model"
    assert cli("generate", "--from-sidecar", "first.json", "-o", "second.png").err == ""
    assert (here / "first.png").read_bytes() == (here / "second.png").read_bytes()
