"""Fine-tuning: supervised training of a checkpoint on one's own captioned images, dialogues and texts.

finetuning_config  the configuration: model, sources, batch sizes and weights
supervised_task    masked codes of captions and next tokens of answers and texts, as a task of the training loop
finetune           entry point: checks, then the training
"""
