"""Distil a Show-o teacher into a Show-o Turbo student, on one machine or many; the same as `showo-turbo distill`.

accelerate launch --config_file configs/accelerate/one_gpu.yaml training/train_showo_turbo.py config=FILE key=value
"""

from showo_turbo.cli.main import run_distill

if __name__ == "__main__":
    run_distill()
