"""Packages compute the passes of one image; all others, and machines without a compiler, run as without them."""

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from every_request import answers
from torch import Tensor

from showo_turbo import ShowoPipeline
from showo_turbo.backends import compiled_passes
from showo_turbo.backends.compiled_passes import ImagePasses
from showo_turbo.backends.linear import pack_layers
from showo_turbo.backends.traced_passes import FirstPass, LaterPass, LaterStep


class TracedPackage:
    """Call what a package is compiled from."""

    def __init__(self, module: LaterPass) -> None:
        self.module, self.calls = module, 0
        self.num_weights = len(module.of[1].tensors())

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        self.calls += 1
        outputs = self.module(inputs[: self.num_weights], *inputs[self.num_weights :])
        return list(outputs) if isinstance(outputs, tuple) else [outputs]


@pytest.fixture
def traced(random_pipe: ShowoPipeline) -> ShowoPipeline:
    """The pipeline with packages, on a copy of the model."""
    model = copy.deepcopy(random_pipe.model)
    pipe = ShowoPipeline(model, random_pipe.prompts, random_pipe.image_tokenizer, random_pipe.recommended)
    phi = model.showo.model
    pack_layers(phi)
    rows = model.config.num_vq_tokens + 2
    packages = map(TracedPackage, (FirstPass(phi), LaterPass(phi), LaterStep(phi)))
    model.image_passes = ImagePasses(*packages, rows)
    return pipe


def calls(pipe: ShowoPipeline) -> tuple[int, int]:
    """Return how often the packages of the first and of later passes have run."""
    passes = pipe.model.image_passes
    return passes.first.calls, passes.later.calls


IN_ORDER = {"order": "halton", "top_k": 3, "sampled_steps": 1}


def draw(pipe: ShowoPipeline, seed: int = 0, **options: object) -> list[list[int]]:
    return pipe.text_to_image("a red circle", seed=seed, output_type="latent", **options).codes.tolist()


def test_requests_of_every_kind_have_the_same_ids(random_pipe: ShowoPipeline, traced: ShowoPipeline) -> None:
    assert answers(traced) == answers(random_pipe)
    assert min(calls(traced)) > 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, 3)),
        ({"num_inference_steps": 1}, (1, 0)),
        ({"num_inference_steps": 16}, (1, 14)),  # the last one scores a single row
        ({"num_images_per_prompt": 2}, (1, 0)),  # both are equal in the first pass
        ({"guidance_scale": 1.0}, (1, 0)),  # of the unconditional prompt by itself, once per model
    ],
)
def test_packages_run_the_passes_of_one_image(
    random_pipe: ShowoPipeline, traced: ShowoPipeline, options: dict, expected: tuple[int, int]
) -> None:
    assert draw(traced, **options) == draw(random_pipe, **options)
    assert calls(traced) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3),  # all but the first step, which reads the prompt
        ({"sampled_steps": 0}, 3),
        ({"sampled_steps": 2}, 2),
        ({"top_k": 1, "temperature": 0.0, "num_inference_steps": 16}, 14),  # the last one draws a single code
        ({"sampled_steps": None}, 0),
        ({"order": "bayer"}, 3),
        ({"order": "confidence"}, 0),
        ({"early_exit": 0.1}, 0),
        ({"num_images_per_prompt": 2}, 0),
        ({"guidance_scale": 1.0}, 0),
    ],
)
def test_a_package_runs_steps_that_take_the_most_probable_codes_of_one_image_in_order(
    random_pipe: ShowoPipeline, traced: ShowoPipeline, options: dict, expected: int
) -> None:
    assert draw(traced, **IN_ORDER | options) == draw(random_pipe, **IN_ORDER | options)
    assert traced.model.image_passes.later_step.calls == expected


def test_steps_draw_the_same_numbers_and_states(random_pipe: ShowoPipeline, traced: ShowoPipeline) -> None:
    drawn = []
    for pipe in (traced, random_pipe):
        generator = torch.Generator().manual_seed(3)
        output = pipe.text_to_image("a red circle", generator=generator, return_trajectory=True, **IN_ORDER)
        known = [frame.known.tolist() for frame in output.trajectory]
        drawn.append((output.codes.tolist(), known, generator.get_state().tolist()))
    assert drawn[0] == drawn[1]
    assert traced.model.image_passes.later_step.calls == 3


def test_packages_run_steps_of_windows_and_with_known_codes(random_pipe: ShowoPipeline, traced: ShowoPipeline) -> None:
    drawn = []
    for pipe in (traced, random_pipe):
        codes = pipe.text_to_image("a red circle", seed=0, output_type="latent").codes
        varied = pipe.vary(codes=codes, prompt="a dog", seed=1, output_type="latent", **IN_ORDER).codes
        wide, high = (
            pipe.text_to_image("a red circle", seed=0, output_type="latent", **{side: 2 * pipe.resolution}, **IN_ORDER)
            for side in ("width", "height")
        )
        drawn.append((codes.tolist(), varied.tolist(), wide.codes.tolist(), high.codes.tolist()))
    assert drawn[0] == drawn[1]
    assert traced.model.image_passes.later_step.calls > 12


def test_an_edited_image_is_the_same(editing_pipe: ShowoPipeline, traced: ShowoPipeline) -> None:
    pipe = ShowoPipeline(traced.model, editing_pipe.prompts, editing_pipe.image_tokenizer, editing_pipe.recommended)
    pipe.model.config = editing_pipe.model.config
    image = editing_pipe.text_to_image("a dog", seed=1).images[0]
    edited = [one.edit(image, "a cat", seed=2, output_type="latent").codes for one in (pipe, editing_pipe)]
    assert torch.equal(*edited)
    assert min(calls(pipe)) > 0


def write_in_place(pipe: ShowoPipeline) -> None:
    pipe.model.showo.model.layers[0].mlp.fc1.weight.mul_(0.5)


def replace_norm(pipe: ShowoPipeline) -> None:
    norm = pipe.model.showo.model.layers[1].input_layernorm
    norm.weight = torch.nn.Parameter(norm.weight * 2)


def assign_all(pipe: ShowoPipeline) -> None:
    pipe.model.load_state_dict({name: one * 0.7 for name, one in pipe.model.state_dict().items()}, assign=True)


def replace_embeddings(pipe: ShowoPipeline) -> None:
    table = pipe.model.showo.model.embed_tokens
    table.weight = torch.nn.Parameter(table.weight.flip(1).mT.contiguous().mT)


def replace_head(pipe: ShowoPipeline) -> None:
    head = pipe.model.showo.lm_head
    head.weight = torch.nn.Parameter(head.weight.flip(1).mT.contiguous().mT)


CHANGES = [write_in_place, replace_norm, assign_all, replace_embeddings, replace_head]


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_steps_compute_with_the_weights_of_now(traced: ShowoPipeline, change: Callable[[ShowoPipeline], None]) -> None:
    before = draw(traced, **IN_ORDER)
    change(traced)
    changed = draw(traced, **IN_ORDER)
    assert traced.model.image_passes.later_step.calls == 6
    traced.model.image_passes = None
    assert changed == draw(traced, **IN_ORDER) != before


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_packages_compute_with_the_weights_of_now(
    traced: ShowoPipeline, change: Callable[[ShowoPipeline], None]
) -> None:
    before = draw(traced)
    change(traced)
    changed = draw(traced)
    assert calls(traced) == (2, 6)
    traced.model.image_passes = None
    assert changed == draw(traced) != before


def test_moved_weights_drop_the_packages(traced: ShowoPipeline) -> None:
    assert traced.to("cpu").model.image_passes is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "showo-turbo"


def check_runs_without(pipe: ShowoPipeline, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Check that compiling logs one warning of one line, and changes nothing."""
    expected = draw(pipe)
    with caplog.at_level(logging.WARNING):
        assert draw(pipe.compile()) == expected
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()


def test_without_a_compiler_nothing_changes(
    random_pipe: ShowoPipeline, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nlong advice")

    monkeypatch.setattr(compiled_passes, "compile_package", fail)
    check_runs_without(
        random_pipe, caplog, "not compiled, they run operator by operator: No working C++ compiler found"
    )
    assert not list(cache.glob("*"))


def test_an_unwritable_cache_changes_nothing(
    random_pipe: ShowoPipeline, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder would be")
    check_runs_without(random_pipe, caplog, "not compiled")


def test_a_damaged_package_changes_nothing(
    random_pipe: ShowoPipeline, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled_passes, "compile_package", lambda module, model, path: path.write_bytes(b"no zip"))
    check_runs_without(random_pipe, caplog, "not compiled")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_not_compiled(
    random_checkpoint: Path, cache: Path, caplog: pytest.LogCaptureFixture, dtype: str
) -> None:
    pipe = ShowoPipeline.from_pretrained(random_checkpoint, device="cpu", dtype=dtype)
    check_runs_without(pipe, caplog, "small models in float32 gain")


def test_packages_are_compiled_once(random_pipe: ShowoPipeline, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_package(module: LaterPass, model: object, path: Path) -> None:
        path.write_bytes(b"")
        compiled.append((type(module), path.name))

    monkeypatch.setattr(compiled_passes, "compile_package", compile_package)
    monkeypatch.setattr(compiled_passes, "_load", lambda path: path)
    found = [compiled_passes.load_image_passes(random_pipe.model) for _ in range(2)]
    assert compiled == [(FirstPass, "first.pt2"), (LaterPass, "later.pt2"), (LaterStep, "step.pt2")]
    assert found[0].first == found[1].first
    assert sorted(one.name for one in found[0].first.parent.iterdir()) == ["first.pt2", "later.pt2", "step.pt2"]


PROCESS = """
import sys
from showo_turbo import ShowoPipeline
pipe = ShowoPipeline.from_pretrained(sys.argv[1], device="cpu").compile()
print(pipe.model.image_passes is not None)
for seed in range(40):
    print(pipe.text_to_image("a red circle", seed=seed, output_type="latent").codes.tolist())
"""


@pytest.mark.slow
def test_compiled_code_is_reused_by_a_second_process(
    random_checkpoint: Path, random_pipe: ShowoPipeline, tmp_path: Path
) -> None:
    """The second one has no compiler; a third one, without a compiler or a cache, draws the same without packages."""
    expected = [str(draw(random_pipe, seed)) for seed in range(40)]
    places = [("with", "g++"), ("with", "/no/compiler"), ("without", "/no/compiler")]
    for (folder, compiler), is_compiled in zip(places, (True, True, False), strict=True):
        caches = {"XDG_CACHE_HOME": tmp_path / folder, "TORCHINDUCTOR_CACHE_DIR": tmp_path / f"{folder}-torch"}
        environment = os.environ | {"CXX": compiler} | {name: str(path) for name, path in caches.items()}
        command = [sys.executable, "-c", PROCESS, str(random_checkpoint)]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert process.stdout.splitlines() == [str(is_compiled), *expected]
        assert process.stderr.count("not compiled") == (not is_compiled)
