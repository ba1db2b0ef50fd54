"""Models: the math only. Sampling is in `showo_turbo.generation`, checkpoint files in `showo_turbo.checkpoints`."""
