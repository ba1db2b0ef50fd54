"""Pre-training from random weights on rendered scenes: text tokenizer, image tokenizer, then the transformer.

text_tokenizer_training    captions and questions -> byte-level BPE
image_tokenizer_training   images -> weights of the MAGVIT-v2 image tokenizer
scenes.pool                scenes -> codes, encoded once
scene_batches              scenes -> batches of captions and questions
showo_pretraining          scenes and codes -> weights of the transformer
assemble                   exported parts -> one checkpoint folder
"""
