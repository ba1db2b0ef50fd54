"""Fast CPU and GPU execution of the models, without a change of their results."""
