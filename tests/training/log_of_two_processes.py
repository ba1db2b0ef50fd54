"""Two processes write a line of a log; only the second one has one of the losses. See test_log.py."""

import sys
from pathlib import Path

from accelerate import Accelerator

from showo_turbo.training.log import TrainingLog

accelerator = Accelerator(cpu=True)
log = TrainingLog(Path(sys.argv[1]), accelerator, 0.0)
log.add({"loss": 1.0 + accelerator.process_index}, 4)
log.add({"loss": 3.0} | ({"passes": 2.0} if accelerator.process_index else {}), 4)
log.write(2)
accelerator.end_training()
