"""Backends: what makes the models fast on a CPU or GPU without changing their results."""
