"""Fine-tuning: supervised training of a checkpoint on one's own captioned images, dialogues, texts and edits.

finetuning_config  the configuration: model, sources, batch sizes and weights
base_model         the model to start from: a checkpoint, or random weights
loaders            samples to train on, and held-out samples
terms              terms of the loss: masked codes of captions and edits, next tokens of answers and texts
finetune           entry point: checks, then the training

image_tokenizer_finetuning  the image tokenizer on one's own pictures
"""
