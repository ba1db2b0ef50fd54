"""Pipelines: a checkpoint's components, and the tasks they perform together."""
