"""Plans of a training: what fits into the memory of the GPUs, and how long it takes. Nothing is trained or downloaded.

work           the forward passes of a batch, of a distillation's stage or of a fine-tuning
step_memory    the memory of a training step, counted on tensors without data
estimates      the ways to spread a training over GPUs, with memory, batch, samples per second and hours
plan_lines     the lines that are printed
"""
