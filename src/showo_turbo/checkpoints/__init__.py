"""Checkpoints: from a name to a model and back.

names             a name that a user gives -> a folder
published         facts about the published checkpoints that their files do not hold
weight_files      a weight file -> its tensors, one at a time, by readers that accept nothing but tensors
bin_archives      checks of the zip archive that a .bin file is
weights           weight files of a folder -> tensors in a module
adapter_config    the config of a LoRA adapter
adapter_targets   the modules that an adapter updates
adapter_patterns  regular expressions of an adapter, matched within a time limit
adapter_base      a sample of the weights that an adapter was trained on
lora              a LoRA adapter merged into the weights of its base
loading           folders -> components
image_tokenizer   a folder -> image tokenizer
vision_tower      a folder -> CLIP vision tower
saving            components -> one folder
published_layout  components -> one folder that the published code loads too
card              the model card

    folder/
        config.json            ShowoConfig
        model.safetensors      the transformer (pytorch_model.safetensors and pytorch_model.bin load too)
        README.md              model card, optional
        generation.json        recommended SamplingOptions, optional
        phi/                   Phi config and text tokenizer; config.json names it as llm_model_path
        magvitv2/              image tokenizer: config.json (MagvitV2Config) and weights, optional; without it,
                               "shipped_image_tokenizer" of config.json may name a shipped model to use the one of
        clip/                  CLIP vision tower, only with w_clip_vit, optional
"""
