"""Two processes train; the second one is killed or stopped in a step. See test_lost_processes.py."""

import os
import signal
import sys
import time
from pathlib import Path

from test_loop import Regression, config

from showo_turbo.cli.exit_status import run_or_exit
from showo_turbo.training.loop import train


class Lost(Regression):
    def batch(self, number: int) -> int:
        time.sleep(0.02)
        if number == 7:  # of the second process
            os.kill(os.getpid(), signal.Signals[sys.argv[2]])
        return super().batch(number)


run_or_exit(lambda: train(Lost(), config(Path(sys.argv[1]), steps=20, timeout_minutes=0.5)))
