"""Show-o's documented commands with Show-o's own option names, run by `ShowoPipeline`.

config=FILE, key=value --read_config--> options --load_pipeline--> ShowoPipeline
                                                --run--> files in one folder, Weights & Biases

entry           the two commands, from their arguments to a run
showo_yaml      sections of Show-o's YAML files, with the keys that have no effect here
showo_options   options of each command, and the checks that need no model
showo_pipeline  the pipeline that the options name, checked against the sizes in them
inference_t2i   text to image, inpainting and extrapolation
inference_mmu   questions about a folder of images
output_folder   one folder with images and a list of results
tracker         Weights & Biases, with `tracker=wandb`
"""
