"""Fine-tuning: supervised training of a checkpoint on one's own captioned images, dialogues and texts.

finetuning_config  the configuration: model, sources, batch sizes and weights
loaders            samples to train on, and held-out samples
terms              terms of the loss: masked codes of captions, next tokens of answers and texts
finetune           entry point: checks, then the training
"""
