"""The training loop, shared by pre-training and distillation, which are tasks of it.

task            what is trained: a model, optimizers, batches and their losses
loop            the training loop: steps, learning rate schedule, EMA, skipped steps, checkpoints
loop_config     settings of the loop
processes       the processes of one training, and their lock of its folder
optimizers      AdamW, 8-bit AdamW and Muon by name
muon            the Muon optimizer
state           training checkpoints: written atomically, verified when read
run_manifest    the settings of a folder's files, stored beside them
log             mean losses as JSON lines, and in a tracker
curves          the loss curves as an image
"""
