"""A model of the published sizes with random weights, and a small one of the same kind to try scripts.

The text tokenizer has the published ids, but no merges: each character is a token.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.files import write_json
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import PromptBuilder

PHI_1_5 = {
    "model_type": "phi",
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "intermediate_size": 8192,
    "hidden_act": "gelu_new",
    "partial_rotary_factor": 0.5,
    "rope_theta": 10000.0,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "vocab_size": 51200,
    "tie_word_embeddings": False,
}
SMALL_PHI = PHI_1_5 | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL_IMAGE_TOKENIZER = MagvitV2Config(base_channels=32, encoder_num_blocks=(1,) * 5, decoder_num_blocks=(1,) * 5)
DOWNSAMPLING = MagvitV2Config().downsampling_factor


def random_pipeline(seed: int = 0, small: bool = False, layers: int | None = None) -> ShowoPipeline:
    """Return a pipeline with freshly initialized weights, float32 on the CPU.

    Args:
        seed: of the weights.
        small: use a small transformer and image tokenizer.
        layers: number of the transformer's layers; that of the model if left out.
    """
    phi = SMALL_PHI if small else PHI_1_5
    phi = phi if layers is None else phi | {"num_hidden_layers": layers}
    config = ShowoConfig(num_vq_tokens=256)
    torch.manual_seed(seed)
    images = MagvitV2(SMALL_IMAGE_TOKENIZER if small else MagvitV2Config()).eval()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "phi"
        write_language_model(folder, phi)
        model = Showo(config, load_phi_config(folder, config.vocab_size)).eval()
        return ShowoPipeline(model, PromptBuilder.from_pretrained(folder, config), images)


def set_resolution(pipe: ShowoPipeline, resolution: int) -> None:
    """Set the side of a pipeline's images in pixels; the weights are the same at every resolution."""
    num_codes = (resolution // pipe.image_tokenizer.config.downsampling_factor) ** 2
    pipe.model.config = replace(pipe.model.config, num_vq_tokens=num_codes)


def weight_bytes(pipe: ShowoPipeline) -> int:
    """Return the size of transformer and image tokenizer."""
    tensors = [*pipe.model.state_dict().values(), *pipe.image_tokenizer.state_dict().values()]
    return sum(tensor.nbytes for tensor in tensors)


def write_language_model(folder: Path, phi: dict = PHI_1_5) -> None:
    """Write a Phi config, and a byte-level tokenizer with as many ids as Phi-1.5's."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", phi)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fillers = [f"<filler {number}>" for number in range(50256 - len(letters))]
    tokenizer = Tokenizer(models.BPE({text: number for number, text in enumerate([*letters, *fillers])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    white_space = [" " * count for count in range(31, 1, -1)] + ["\t" * count for count in range(9, 1, -1)]
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in white_space])
    end_of_text = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end_of_text).save_pretrained(folder)
