"""Pipelines: a checkpoint's components, and the tasks that they perform together.

pipeline           ShowoPipeline: loading, saving, acceleration, and all tasks
image_generation   text to image, inpainting, extrapolation, variation
image_editing      masks, and the codes that an edit redraws
understanding      questions about images
chat               questions that are read with all turns before them
"""
