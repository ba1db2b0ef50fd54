"""Time, memory, and floating point operations of this process, and of the graphics processor it uses.

Linux only: on the CPU, peaks are the kernel's count of memory; on a graphics processor, torch's of that one's.
"""

import gc
import os
import platform
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

GIB = 2**30

Result = TypeVar("Result")


def resident(peak: bool = False) -> float:
    """Resident memory of this process in GiB, now or at its most since `forget_peak`."""
    key = "VmHWM:" if peak else "VmRSS:"
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024 / GIB


def forget_peak() -> None:
    """Start counting the peak anew."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """GiB at most since `forget_peak`: of the graphics processor if anything lies there, else of the whole process."""
    on_device = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
    return on_device or resident(peak=True)


def wait() -> None:
    """Until the graphics processor has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(function: Callable[..., Result], *arguments: object, **options: object) -> tuple[Result, float, float]:
    """What a function returns, the peak of memory meanwhile in GiB, and the seconds it took."""
    forget_peak()
    wait()
    start = time.perf_counter()
    result = function(*arguments, **options)
    wait()
    seconds = time.perf_counter() - start
    return result, peak_memory(), seconds


def processor_seconds(task: Callable[[], object]) -> float:
    """Processor time that a call takes, which does not count what else a machine does."""
    start = time.process_time()
    task()
    return time.process_time() - start


def counted(function: Callable[[], object]) -> int:
    """Floating point operations of the matrix products and convolutions of a call, by torch's counter."""
    with sdpa_kernel(SDPBackend.MATH), operation_counter() as counter:  # it does not know fused attention
        function()
    return counter.get_total_flops()


def operation_counter() -> FlopCounterMode:
    """torch's counter, taught the linear layers of `showo_turbo.backends.linear`."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_work})


def _linear_work(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * prod(x) * weight[0]


def matmul_rate(
    device: torch.device, dtype: torch.dtype, rows: int = 512, width: int = 2048, repeats: int = 9
) -> float:
    """Operations a second of a large matrix product, median: what a transformer could reach at best.

    A graphics processor is asked for many at a time, since it does one in less time than it takes to ask and to wait.
    """
    left, right = (torch.randn(shape, device=device, dtype=dtype) for shape in ((rows, width), (width, 4 * width)))
    products = 1 if device.type == "cpu" else 100

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right)

    multiply()
    seconds = [measured(multiply)[2] for _ in range(repeats)]
    return products * 2 * rows * width * 4 * width / median(seconds)


def machine(device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> dict[str, str | int]:
    """What the numbers were measured on, and in which precision."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "device": torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": str(dtype).removeprefix("torch."),
    }
