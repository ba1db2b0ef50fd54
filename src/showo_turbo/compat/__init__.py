"""Show-o's documented commands, in Show-o's own option names, over `ShowoPipeline`.

config=FILE and key=value --options--> data classes --model--> ShowoPipeline
                                                    --text_to_image, understanding--> files (outputs), tracker

sections        the nested keys of Show-o's YAML files, those without meaning here included
options         what each command takes besides, and the checks that need no model
model           the pipeline that a file names, and what else the file says about it
text_to_image   the modes t2i, inpainting and extrapolation
understanding   questions about a folder of images
outputs         one folder with pictures and a list of results
tracker         Weights & Biases, if asked for
"""
