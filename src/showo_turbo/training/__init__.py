"""The training loop, shared by pre-training, fine-tuning and distillation, which are tasks of it.

task            what is trained: a model, optimizers, batches and their losses
loop            the training loop: steps, learning rate schedule, EMA, skipped steps, checkpoints
loop_config     settings of the loop
before_training checks of the machine and of the output folder
validations     losses of held-out samples, the best model, early stopping
ema_model       the model that is validated and exported, sharded or not
processes       the processes of one training, and their lock of its folder
sharding        FSDP2: weights, gradients, moments and EMA sharded over the processes
restarts        processes that torchrun has restarted
adapters        LoRA: added, merged, saved
sample_sources  captions, dialogues and texts, without the samples that a model cannot use
supervised_batches  ids, attention masks and labels of captions, dialogues and texts
supervised_task  the transformer on the sum of terms, each with its own data
image_tokenizer_task    an image tokenizer on images of any origin
image_tokenizer_losses  edges, codebook entropy, a discriminator of patches
optimizers      AdamW, 8-bit AdamW and Muon by name
muon            the Muon optimizer
background      checkpoints are written while the training goes on
state           training checkpoints: written atomically, verified when read
run_manifest    the settings of a folder's files, stored beside them
log             mean losses as JSON lines, and in a tracker
export          model, sample sheet and loss curves in the folder of a run
sample_sheet    sample images of a model in training
curves          the loss curves as an image
"""
