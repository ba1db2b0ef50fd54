"""Run a command of `showo-turbo` by DeepSpeed on a CPU: deepspeed_on_cpu.py COMMAND SETTING.."""

import deepspeed

from showo_turbo.cli.main import run


def compile_nothing() -> None:
    """Let DeepSpeed connect processes on a CPU without shared memory, for which it would compile C++ code first."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


if __name__ == "__main__":
    compile_nothing()
    run()
