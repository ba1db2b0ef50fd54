"""The entry point of lmms-eval: `lmms-eval --model showo_turbo` works as soon as both packages are installed."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(
    model_id="showo_turbo",
    simple_class_path="showo_turbo.plugins.lmms_eval_model.ShowoTurboModel",
    aliases=("showo-turbo",),
)
"""What lmms-eval 0.7 reads from the group `lmms_eval.models`."""
