"""Nothing that a checkpoint, adapter, tokenizer or tower folder brings is executed, and nothing prompts."""

import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.vision_tower import load_vision_tower
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import load_text_tokenizer

CODE = ("configuration", "modeling", "tokenization", "processing", "sitecustomize", "conftest", "torch", "setup")
CLASSES = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")


class Trap:
    """Create a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that executed code creates; every prompt is answered with yes, and counts as executed."""
    trace = tmp_path / "executed"

    def answer(*_: object) -> str:
        trace.mkdir(exist_ok=True)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return trace


def set_traps(folder: Path, trace: Path) -> None:
    """Put code, pickles and JSON keys that name them into a folder and its subfolders."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in CODE:
            (place / f"{name}.py").write_text(f"import os\nos.mkdir({str(trace)!r})\nclass Class: pass\n")
        for name in ("training_args.bin", "optimizer.pt", "tokenizer.pkl", "vocab.pickle"):
            (place / name).write_bytes(pickle.dumps(Trap(trace)))
        template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% include 'tokenization.py' %}"
        (place / "chat_template.jinja").write_text(template)
        (place / "chat_templates").mkdir()
        (place / "chat_templates" / "other.jinja").write_text(template)
    for file in folder.rglob("*config.json"):
        values = json.loads(file.read_text())
        if file.parent.name not in ("magvitv2", folder.name):
            kind = "tokenization.Class" if "tokenizer" in file.name else "configuration.Class"
            both = [kind, kind]
            values |= {"auto_map": dict.fromkeys(CLASSES, both if "token" in kind else kind)}
            values |= {"attn_implementation": "somebody/kernel", "_attn_implementation": "somebody/kernel"}
            values |= {"trust_remote_code": True, "custom_pipelines": {"x": {"impl": "modeling.Class"}}}
            values |= {"configuration_files": ["config.4.0.0.json"], "gguf_file": "model.gguf"}
            values |= {"quantization_config": {"quant_method": "custom"}, "tokenizer_class": "Class"}
            values |= {"model_type": "phi-msft"} if file.parent.name == "phi" else {}
        file.write_text(json.dumps(values))


@pytest.fixture
def trapped(random_checkpoint: Path, tmp_path: Path, trace: Path) -> Path:
    """Return a checkpoint full of traps, with a CLIP vision tower beside the rest."""
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "model"))
    sizes = {"intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    tower = CLIPVisionModel(CLIPVisionConfig(image_size=12, patch_size=4, **sizes))
    tower.config.save_pretrained(folder / "clip")
    state = {name: tensor.contiguous() for name, tensor in tower.state_dict().items()}
    save_file(state, folder / "clip" / "model.safetensors")
    set_traps(folder, trace)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "auto_mapping": {"parent_library": "modeling", "base_model_class": "Class"}})
    )
    weight = load_file(folder / "model.safetensors")["showo.lm_head.bias"]
    save_file({"base_model.model.showo.lm_head.bias": weight}, folder / "adapter" / "adapter_model.safetensors")
    return folder


def test_a_folder_full_of_code_loads_as_data(trapped: Path, trace: Path, random_pipe: ShowoPipeline) -> None:
    pipe = ShowoPipeline.from_pretrained(trapped, device="cpu")
    assert pipe.text_to_image("a red car", seed=0).codes.equal(random_pipe.text_to_image("a red car", seed=0).codes)
    assert load_text_tokenizer(trapped / "phi").get_vocab() == random_pipe.prompts.tokenizer.get_vocab()
    assert load_phi_config(trapped / "phi", 327).hidden_size == 32
    assert load_vision_tower(trapped / "clip").feature_size == 8
    assert load_image_tokenizer(trapped / "magvitv2").config == random_pipe.image_tokenizer.config
    adapted = ShowoPipeline.from_pretrained(trapped / "adapter", base=trapped, device="cpu")
    assert adapted.model.state_dict().keys() == pipe.model.state_dict().keys()
    pipe.save_pretrained(trapped.parent / "saved")
    assert not list((trapped.parent / "saved").rglob("*.py"))
    assert not trace.exists()
    files = [Path(getattr(module, "__file__", None) or "/") for module in list(sys.modules.values())]
    assert not any(file.is_relative_to(trapped) for file in files)


def test_a_cached_download_full_of_code_loads_as_data(
    trapped: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--somebody--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(trapped, repository / "snapshots" / ("0" * 40))
    assert ShowoPipeline.from_pretrained("somebody/model", device="cpu").resolution == 32
    assert not trace.exists()


@pytest.mark.parametrize("where", ["", "magvitv2", "clip", "adapter"])
def test_pickles_are_refused(trapped: Path, trace: Path, where: str) -> None:
    folder = trapped / where
    (file,) = folder.glob("*.safetensors")
    file.unlink()
    name = "adapter_model.bin" if where == "adapter" else "pytorch_model.bin"
    torch.save({"weight": Trap(trace)}, folder / name)
    load = {
        "adapter": lambda: ShowoPipeline.from_pretrained(folder, base=trapped, device="cpu"),
        "clip": lambda: load_vision_tower(folder),
    }.get(where, lambda: ShowoPipeline.from_pretrained(trapped, device="cpu"))
    with pytest.raises(InputError, match=r"model\.bin' was refused: it holds more than tensors"):
        load()
    assert not trace.exists()


def test_the_first_downloads_of_phi_load(random_checkpoint: Path, tmp_path: Path) -> None:
    """Fields had other names in them, and the config named a Python file."""
    folder = Path(shutil.copytree(random_checkpoint / "phi", tmp_path / "phi"))
    expected = load_phi_config(folder, 327)
    former = {
        "model_type": "phi-msft",
        "architectures": ["PhiForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_phi.PhiConfig"},
        "activation_function": expected.hidden_act,
        "layer_norm_epsilon": 1e-5,
        "n_embd": 32,
        "n_head": 4,
        "n_head_kv": None,
        "n_inner": 64,
        "n_layer": 2,
        "n_positions": 256,
        "rotary_dim": 4,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    (folder / "config.json").write_text(json.dumps(former))
    found = load_phi_config(folder, 327)
    assert found.to_dict() == expected.to_dict()
    (folder / "config.json").write_text(json.dumps(former | {"n_inner": None}))
    assert load_phi_config(folder, 327).intermediate_size == 128
    with torch.device("meta"):
        assert Showo(ShowoConfig(vocab_size=327, llm_vocab_size=300, codebook_size=16), found).max_positions == 256
