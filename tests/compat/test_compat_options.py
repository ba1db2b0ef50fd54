"""Show-o's options: its demo files load unchanged, arguments take precedence, and errors name the option."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from showo_turbo.compat.showo_options import TextToImageOptions, UnderstandingOptions, split
from showo_turbo.config_reader import read_config
from showo_turbo.errors import InputError
from showo_turbo.generation.options import DecodingOptions, SamplingOptions

ROOT = Path(__file__).parent.parent.parent

DEMO = """
wandb:
  entity: null
  resume: 'auto'
experiment: {{project: "demo", name: "show-o-demo", output_dir: "show-o-demo"}}
model:
    vq_model: {{type: "magvitv2", vq_model_name: "showlab/magvitv2"}}
    showo:
        pretrained_model_path: "{name}"
        w_clip_vit: {w_clip_vit}
        vocab_size: 58498
        llm_vocab_size: 50295
        llm_model_path: 'microsoft/phi-1_5'
        codebook_size: 8192
        num_vq_tokens: {num_vq_tokens}
        num_new_special_tokens: 10  # a comment
    gradient_checkpointing: True
dataset:
    gen_type: "t2i"
    und_type: "captioning"
    params:
        batch_size: ${{training.batch_size}}
        shuffle_buffer_size: 1000
        num_workers: 32
        resolution: {resolution}
        pin_memory: True
        persistent_workers: True
    preprocessing: {{max_seq_length: 128, resolution: {resolution}, center_crop: False, random_flip: False}}
training: {{gradient_accumulation_steps: 1, cond_dropout_prob: 0.1, batch_size: 20}}
"""
"""All keys of Show-o's configs/showo_demo*.yaml."""

TRAINING = """
wandb: {{entity: null, resume: 'auto'}}
experiment:
    project: "tuning"
    name: "stage"
    output_dir: "stage"
    max_train_examples_t2i: 20000000
    max_train_examples_mmu: 40000000
    save_every: 10000
    eval_every: 2500
    generate_every: 1000
    log_every: 50
    log_grad_norm_every: 500
    resume_from_checkpoint: 'latest'
model:
    vq_model: {{type: "magvitv2", vq_model_name: "showlab/magvitv2"}}
    showo: {{load_from_showo: False, pretrained_model_path: "showlab/show-o", w_clip_vit: False, num_vq_tokens: 256}}
    gradient_checkpointing: True
    enable_xformers_memory_efficient_attention: True
dataset:
    gen_type: "imagenet1k"
    und_type: "llava_tuning"
    combined_loader_mode: "min_size"
    add_system_prompt: False
    params:
        train_t2i_shards_path_or_url: {shards}
        train_mmu_shards_path_or_url: ["a_{{000000..000999}}.tar", "b/{{00000..01242}}.tar"]
        train_lm_shards_path_or_url: "falcon/*.parquet"
        add_caption_prompt: True
        external_caption_path: "captions"
        external_journeydb_caption_path: "train_anno.json"
        external_laion12m_caption_path: "captions"
        external_cc12m_caption_path: 'captions/'
        validation_prompts_file: "prompts.txt"
        resolution: 256
    preprocessing: {{max_seq_length: 381, resolution: 256}}
optimizer:
    name: adamw
    params: {{learning_rate: 1e-4, scale_lr: False, beta1: 0.9, beta2: 0.999, weight_decay: 0.01, epsilon: 1e-8}}
lr_scheduler:
    scheduler: "cosine"
    params:
        learning_rate: ${{optimizer.params.learning_rate}}
        warmup_steps: 5000
training:
    gradient_accumulation_steps: 1
    noise_type: "mask"
    batch_size_t2i: 15
    batch_size_lm: 4
    batch_size_mmu: 10
    mixed_precision: "bf16"
    enable_tf32: True
    seed: 10086
    max_train_steps: 500000
    overfit_one_batch: False
    cond_dropout_prob: 0.1
    min_masking_rate: 0.0
    label_smoothing: 0.0
    max_grad_norm: null
    guidance_scale: 0.0
    generation_timesteps: 12
    t2i_coeff: 1.0
    lm_coeff: 0.1
    mmu_coeff: 1.0
"""
"""All keys of Show-o's configs/showo_pretraining_stage*.yaml and showo_instruction_tuning_*.yaml."""


@pytest.fixture(params=[("showlab/show-o", False, 256), ("showlab/show-o-w-clip-vit-512x512", True, 512)])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, w_clip_vit, resolution = request.param
    file = tmp_path / "demo.yaml"
    num_vq_tokens = (resolution // 16) ** 2
    file.write_text(DEMO.format(name=name, w_clip_vit=w_clip_vit, resolution=resolution, num_vq_tokens=num_vq_tokens))
    return file


def drawing(*arguments: object) -> TextToImageOptions:
    return read_config(TextToImageOptions, [str(argument) for argument in arguments])


def asking(*arguments: object) -> UnderstandingOptions:
    return read_config(UnderstandingOptions, [str(argument) for argument in arguments])


def test_the_published_files_and_commands_are_accepted(demo: Path) -> None:
    common = [f"config={demo}", "guidance_scale=1.75", "generation_timesteps=16"]
    changes = [*common, "batch_size=1", "image_path=a.jpg"]
    assert drawing(*common, "mode=t2i", "validation_prompts_file=prompts.txt").images_per_batch == 20
    inpainting = drawing(*changes, "mode=inpainting", "prompt=A blue sports car", "inpainting_mask_path=m.webp")
    assert inpainting.images_per_batch == 1
    assert inpainting.sampling == {"num_inference_steps": 16, "guidance_scale": 1.75}
    extrapolation = drawing(
        *changes, "mode=extrapolation", "extra_direction=left *** right", "offset=0", "prompt=a lake *** a wood"
    )
    assert split(extrapolation.prompt) == ["a lake", "a wood"]
    question = "question=Please describe this image in detail. *** Do you think the image is unusual or not?"
    answers = asking(f"config={demo}", "max_new_tokens=100", "mmu_image_root=./mmu_validation", question)
    assert split(answers.question)[1] == "Do you think the image is unusual or not?"
    assert answers.model.vq_model.vq_model_name == "showlab/magvitv2"


@pytest.mark.parametrize("shards", ['"imagenet/train"', '["a_{000000..000009}.tar", "b/{000..199}.tgz"]'])
def test_the_published_training_files_are_accepted(shards: str, tmp_path: Path) -> None:
    file = tmp_path / "training.yaml"
    file.write_text(TRAINING.format(shards=shards))
    options = drawing(f"config={file}", "prompt=a cat")
    assert options.sampling == {"num_inference_steps": 12, "guidance_scale": 0.0}
    assert options.images_per_batch == 1
    assert options.lr_scheduler.params.learning_rate == 1e-4
    assert asking(f"config={file}", "mmu_image_root=.", "question=a?").dataset.preprocessing.max_seq_length == 381


def test_options_take_precedence_over_sections() -> None:
    sections = ["training.guidance_scale=2", "training.generation_timesteps=9", "training.mask_schedule=linear"]
    assert drawing(*sections).sampling == {
        "num_inference_steps": 9,
        "guidance_scale": 2.0,
        "schedule": "linear",
    }
    given = ["guidance_scale=0", "generation_timesteps=4", "mask_schedule.schedule=pow2", "top_k=null"]
    assert drawing(*sections, *given).sampling == {
        "num_inference_steps": 4,
        "guidance_scale": 0.0,
        "schedule": "pow2",
        "top_k": None,
    }


def test_our_names_are_accepted_too_and_take_precedence() -> None:
    show_o = ["generation_timesteps=4", "training.generation_temperature=2", "mask_schedule.schedule=pow2"]
    ours = {
        "num_inference_steps": 5,
        "guidance_scale": 1.0,
        "top_k": 3,
        "temperature": 0.0,
        "schedule": "linear",
        "order": "halton",
        "sampled_steps": 2,
        "sampled_codes": 1,
        "early_exit": 1,
    }
    assert [field.name for field in fields(SamplingOptions)] == list(ours)
    assert drawing(*show_o, *(f"{name}={value}" for name, value in ours.items())).sampling == ours
    assert drawing(*show_o).sampling == {"num_inference_steps": 4, "temperature": 2.0, "schedule": "pow2"}


def test_every_decoding_option_is_accepted() -> None:
    common = ["mmu_image_root=.", "question=a?"]
    assert asking(*common).decoding_options() == DecodingOptions(max_new_tokens=100)
    sampled = ["decoding=autoregressive", "do_sample=true", "temperature=0.5", "top_k=3", "block_length=4"]
    options = asking(*common, *sampled, "sliding_window=false", "drafts=false", "max_new_tokens=9").decoding_options()
    assert options == DecodingOptions(9, "autoregressive", 4, True, 0.5, 3, False, False)
    with pytest.raises(InputError, match="block_length is 0: choose 1 or more"):
        asking(*common, "block_length=0")


@pytest.mark.parametrize(
    "text", ["a cat: sitting #1", "Is it 'red', or not?", "50% [blue] {green}", "2 dogs", "[eot", "-"]
)
def test_texts_are_not_parsed(text: str) -> None:
    assert drawing(f"prompt=the {text}").prompt == f"the {text}"
    assert drawing(f"prompt={text}").prompt == text


def test_every_run_has_its_own_folder(tmp_path: Path) -> None:
    options = drawing(f"experiment.output_dir={tmp_path}")
    assert options.output_folder("t2i") == tmp_path / "t2i-001"
    (tmp_path / "t2i-001").mkdir()
    assert options.output_folder("t2i") == tmp_path / "t2i-002"
    assert drawing(f"output_dir={tmp_path}").output_folder("t2i") == tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["guidence_scale=5"], "'guidence_scale'; the nearest known one is 'guidance_scale'"),
        (["model.showo.num_vq_token=5"], "'model.showo.num_vq_token'.*'model.showo.num_vq_tokens'"),
        (["mode=video"], "mode is 'video': choose t2i or inpainting or extrapolation"),
        (["mode=inpainting", "prompt=a", "image_path=a.png"], "'inpainting' needs inpainting_mask_path"),
        (["mode=inpainting", "image_path=a.png", "inpainting_mask_path=b.png"], "'inpainting' needs prompt"),
        (["mode=extrapolation", "prompt=a", "image_path=a.png"], "needs extra_direction"),
        (["mode=extrapolation", "prompt=a", "image_path=a.png", "extra_direction=north"], "'north': choose left or"),
        (["top_k=many"], "top_k is 'many': choose a whole number"),
        (["early_exit=2"], r"early_exit is 2: choose 0 \(no doubt\) to 1"),
        (["order=random"], "order is 'random': choose confidence, halton or bayer"),
        (["training.generation_temperature=-1"], "temperature is -1.0: choose 0 to 1,000,000"),
        (["batch_size=0"], "batch_size is 0: choose 1 or more"),
        (["tracker=mlflow"], "tracker is 'mlflow': choose wandb"),
        (["model.vq_model.type=vqgan"], "model.vq_model.type is 'vqgan': choose magvitv2"),
        (["training.noise_type=random_replace"], "noise_type is 'random_replace': choose mask"),
        (["mask_schedule.params.tau=0.5"], "mask_schedule.params cannot be changed"),
        (["offset=half"], "offset.*half"),
    ],
)
def test_invalid_options_are_named(arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        drawing(*arguments)


def test_understanding_needs_images_and_a_question() -> None:
    with pytest.raises(InputError, match="mmu_image_root is missing"):
        asking("question=a?")
    with pytest.raises(InputError, match="question is missing"):
        asking("mmu_image_root=.", "question= *** ")


@pytest.mark.parametrize(("cls", "name"), [(TextToImageOptions, "t2i"), (UnderstandingOptions, "mmu")])
def test_the_shipped_files_are_valid(cls: type, name: str) -> None:
    assert read_config(cls, [f"config={ROOT}/configs/showo_turbo_{name}.yaml"]).model.showo.pretrained_model_path
    for resolution in (256, 512):
        options = read_config(
            cls, [f"config={ROOT}/configs/{resolution}/{name}.yaml", "mmu_image_root=."][: 1 + (name == "mmu")]
        )
        assert options.dataset.params.resolution == resolution


def test_an_invalid_option_is_one_line_and_status_2() -> None:
    for script in ("inference_t2i.py", "inference_mmu.py"):
        done = subprocess.run([sys.executable, ROOT / script, "quesion=a"], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: unknown setting 'quesion'")
        assert done.stderr.count("\n") == 1
