"""Pre-training from nothing, on rendered scenes: text tokenizer, image tokenizer, then the transformer.

text_tokenizer   captions and questions -> a byte-level BPE
image_tokenizer  pictures -> MAGVIT-v2 codes
scene_pool       scenes -> codes, once, kept in a file
batches          scenes and codes -> rows of ids, masks, labels
showo            rows -> the transformer's weights
"""
