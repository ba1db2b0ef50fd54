"""Distil a Show-o teacher into a Show-o Turbo student, on one machine or many; the same as `showo-turbo distill`.

accelerate launch --config_file configs/accelerate/one_gpu.yaml training/train_showo_turbo.py config=FILE key=value
"""

from showo_turbo.cli.main import distil_from_arguments

if __name__ == "__main__":
    distil_from_arguments()
