"""Checkpoints: from a name to a model and back.

names             what `from_pretrained` is given -> a folder
published         what the files of the published checkpoints do not say
weight_files      a weight file -> its tensors, one at a time, with nothing but tensors ever read
weights           weight files of a folder -> tensors in a module
lora              an adapter merged into the weights of its base
loading           folders -> transformer, prompts, sampling options
image_tokenizer   a folder -> image tokenizer
vision_tower      a folder -> CLIP picture tower
saving            all parts -> one folder
published_layout  all parts -> one folder that the published code loads too
card              what a checkpoint is, in words

    folder/
        config.json            ShowoConfig
        model.safetensors      the transformer (pytorch_model.safetensors and pytorch_model.bin load too)
        README.md              model card, may be missing
        generation.json        recommended SamplingOptions, may be missing
        phi/                   Phi config and text tokenizer; config.json names it as llm_model_path
        magvitv2/              image tokenizer: config.json (MagvitV2Config) and weights, may be missing
        clip/                  CLIP picture tower, only with w_clip_vit, may be missing
"""
