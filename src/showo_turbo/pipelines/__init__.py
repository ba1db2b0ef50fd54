"""Pipelines: a checkpoint's components, and the tasks that they perform together.

pipeline           ShowoPipeline: loading, saving, acceleration, and all tasks
image_generation   text to image
image_editing      inpainting, extrapolation, variation
understanding      questions about images
chat               questions that are read with all turns before them
"""
