"""Fixtures that many tests share: the golden data, the tiny checkpoint it was made with, and random tiny models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import SMALL_IMAGE_TOKENIZER
from transformers import PhiConfig

from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.components import Components
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import SPECIAL_TOKENS, Vocabulary

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run on one thread: fastest for tiny matrices, and bit-for-bit repeatable."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """A tiny checkpoint in the published on-disk layout."""
    return GOLDEN / "showo-tiny"


@pytest.fixture(scope="session")
def tiny_config(tiny_folder: Path) -> ShowoConfig:
    """Its config; its text part is 16 tokens long."""
    return ShowoConfig.from_dict(json.loads((tiny_folder / "config.json").read_text()) | {"max_text_length": 16})


@pytest.fixture(scope="session")
def tiny_prompts(tiny_folder: Path, tiny_config: ShowoConfig) -> PromptBuilder:
    """Its text tokenizer."""
    return PromptBuilder.from_pretrained(tiny_folder / "phi-tiny", tiny_config)


@pytest.fixture(scope="session")
def tiny_vocabulary(tiny_prompts: PromptBuilder) -> Vocabulary:
    """Its id layout."""
    return tiny_prompts.vocabulary


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path, tiny_config: ShowoConfig) -> Showo:
    """Its transformer; not to be changed by a test."""
    model = Showo(tiny_config, load_phi_config(tiny_folder / "phi-tiny", tiny_config.vocab_size))
    model.load_state_dict(load_file(tiny_folder / "pytorch_model.safetensors"))
    return model.eval()


@pytest.fixture(scope="session")
def random_vocabulary() -> Vocabulary:
    """20 text ids, 8 image codes."""
    return Vocabulary(llm_vocab_size=20, codebook_size=8, end_of_text_id=19)


@pytest.fixture(scope="session")
def make_random_model(random_vocabulary: Vocabulary):
    """Return `make_random_model(seed)`, which makes two-layer models with random weights for `random_vocabulary`."""

    def make(seed: int) -> Showo:
        config = ShowoConfig(
            vocab_size=random_vocabulary.size,
            llm_vocab_size=random_vocabulary.llm_vocab_size,
            codebook_size=random_vocabulary.codebook_size,
            num_vq_tokens=16,
        )
        phi = PhiConfig(
            vocab_size=random_vocabulary.size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=96,
            qk_layernorm=True,
            bos_token_id=random_vocabulary.end_of_text_id,
            eos_token_id=random_vocabulary.end_of_text_id,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Showo(config, phi).eval()
            for parameter in model.parameters():
                if parameter.ndim == 2:  # far larger than trained weights, so that every id sways every later one
                    torch.nn.init.normal_(parameter, std=4 / parameter.shape[1] ** 0.5)
        return model

    return make


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A complete checkpoint folder with random weights: images of 16 codes of 16 kinds, 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("models") / "random"
    config = ShowoConfig(
        vocab_size=300 + len(SPECIAL_TOKENS) + 16 + 1, llm_vocab_size=300, codebook_size=16, num_vq_tokens=16
    )
    phi = PhiConfig(
        vocab_size=config.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        qk_layernorm=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    sizes = replace(SMALL_IMAGE_TOKENIZER, latent_channels=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, image_tokenizer = Showo(config, phi), MagvitV2(sizes)
        for parameter in model.parameters():
            if parameter.ndim == 2:  # far larger than trained weights, so that prompts and codes matter
                torch.nn.init.normal_(parameter, std=4 / parameter.shape[1] ** 0.5)
    prompts = PromptBuilder.from_pretrained(tiny_folder / "phi-tiny", config)
    save_checkpoint(folder, Components(model, prompts, image_tokenizer, SamplingOptions(num_inference_steps=4)))
    return folder


@pytest.fixture(scope="session")
def random_pipe(random_checkpoint: Path) -> ShowoPipeline:
    """Its pipeline; not to be changed by a test."""
    return ShowoPipeline.from_pretrained(random_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def editing_checkpoint(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Path:
    """The same weights, of a checkpoint whose config says that it was trained on editing pairs."""
    folder = tmp_path_factory.mktemp("models") / "editing"
    shutil.copytree(random_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"edits_images": True}))
    return folder


@pytest.fixture(scope="session")
def editing_pipe(editing_checkpoint: Path) -> ShowoPipeline:
    """Its pipeline; not to be changed by a test."""
    return ShowoPipeline.from_pretrained(editing_checkpoint, device="cpu")
