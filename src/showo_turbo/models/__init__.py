"""Models: math only. Sampling lives in `showo_turbo.generation`, files in `showo_turbo.checkpoints`."""
