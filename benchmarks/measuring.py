"""Time, memory and floating point operations of this process, and of the GPU it uses.

Linux only: on the CPU, peaks are the kernel's count of resident memory; on a GPU, torch's count of its memory.
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


def resident_memory(peak: bool = False) -> float:
    """Return the resident memory of this process in GiB: now, or its peak since `reset_peak_memory`."""
    key = "VmHWM:" if peak else "VmRSS:"
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024 / GIB


def reset_peak_memory() -> None:
    """Start a new count of the peak."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Return the peak since `reset_peak_memory` in GiB: of the GPU if it is used, else of the whole process."""
    on_device = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
    return on_device or resident_memory(peak=True)


def synchronize() -> None:
    """Wait until the GPU has finished all of its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_call(function: Callable[..., Result], *arguments: object, **options: object) -> tuple[Result, float, float]:
    """Return the result of a function, its peak memory in GiB, and its wall time in seconds."""
    reset_peak_memory()
    synchronize()
    start = time.perf_counter()
    result = function(*arguments, **options)
    synchronize()
    seconds = time.perf_counter() - start
    return result, peak_memory(), seconds


def cpu_seconds(task: Callable[[], object]) -> float:
    """Return the CPU time of a call, which excludes other processes of the machine."""
    start = time.process_time()
    task()
    return time.process_time() - start


def count_flops(function: Callable[[], object]) -> int:
    """Return the floating point operations of the matrix products and convolutions of a call, by torch's counter."""
    with sdpa_kernel(SDPBackend.MATH), flop_counter() as counter:  # it does not count fused attention
        function()
    return counter.get_total_flops()


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, extended to the oneDNN operator of `showo_turbo.backends.linear`."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_flops})


def _linear_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * prod(x) * weight[0]


def matmul_rate(
    device: torch.device, dtype: torch.dtype, rows: int = 512, width: int = 2048, repeats: int = 9
) -> float:
    """Return the median rate of a large matrix product, in operations per second: an upper bound for a transformer.

    A GPU computes many in a row, since one takes less time than its launch and synchronization.
    """
    left, right = (torch.randn(shape, device=device, dtype=dtype) for shape in ((rows, width), (width, 4 * width)))
    products = 1 if device.type == "cpu" else 100

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right)

    multiply()
    seconds = [measure_call(multiply)[2] for _ in range(repeats)]
    return products * 2 * rows * width * 4 * width / median(seconds)


def describe_machine(device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> dict[str, str | int]:
    """Return the hardware, load and library versions of a measurement, and its precision."""
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
