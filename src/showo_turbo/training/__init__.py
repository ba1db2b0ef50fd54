"""Training, whatever is trained: pre-training and distillation are tasks that one loop runs.

task          what is trained, as the loop sees it
loop          steps, schedule, running average, what to do about a loss that is no number
checkpoints   written whole, verified when read
log           the curve as JSON lines, as a picture, and in a tracker if asked
optimizers    AdamW, AdamW of 8 bits, Muon
"""
