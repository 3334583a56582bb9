"""rmsnorm of every instruction set in GB/s, beside what the machine can read: python bench/rmsnorm.py

Bytes are those the operation must move: x read once, the output written once. A row is read twice, but the second
time from the first-level cache. Kernels write into memory that is already there: a fresh gigabyte costs more in page
faults than the arithmetic. The lines of torch above them are the bound: the same bytes only read, or only copied.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from ossature import _core
from ossature.ops import cpu, grad
from ossature.plan import hardware

SIZES = {"in cache": (512, 2880), "from memory": (200_000, 2880)}
EPS = 1e-5


def seconds(call: Callable[[], object], at_least: float = 0.5) -> float:
    """Best time of one call among those that fit into `at_least` seconds, and at least three."""
    call()
    best, calls, started = float("inf"), 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - started < at_least:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
        calls += 1
    return best


def measure(label: str, rows: int, cols: int, dtype: torch.dtype) -> None:
    """Print one line for plain reading, one for torch and one for each instruction set."""
    x, weight = torch.randn(rows, cols).to(dtype), torch.ones(cols, dtype=torch.float32)
    size = x.numel() * x.element_size()
    words, out = x.view(torch.int32), torch.empty_like(x)
    code = _core.BFLOAT16 if dtype == torch.bfloat16 else _core.FLOAT32
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "read (torch max)": (words.max, size),
        "copy (torch copy_)": (lambda: out.copy_(x), 2 * size),
        "rmsnorm plain torch": (lambda: grad.rmsnorm(x, weight, EPS), 2 * size),
    }
    where = out.data_ptr(), x.data_ptr(), weight.data_ptr()
    for isa in cpu.isas():
        kernel = _core.kernels(isa).rmsnorm
        call = partial(kernel, *where, rows, cols, EPS, code, _core.FLOAT32)
        calls[f"rmsnorm {isa}"] = (call, 2 * size)
    print(f"\n{rows} x {cols} {str(dtype).removeprefix('torch.')}, {size / 1e6:.1f} MB, {label}")
    for name, (call, moved) in calls.items():
        best = seconds(call)
        print(f"  {name:<20} {best * 1e3:10.3f} ms {moved / best / 1e9:8.1f} GB/s")


def main() -> None:
    """Measure on one thread: the kernel has no threads of its own yet."""
    torch.set_num_threads(1)
    here, versions = hardware(), f"python {sys.version.split()[0]}, torch {torch.__version__}"
    print(f"{here.processor}, {here.cores} cores; {versions}; one thread. {cpu.reason}")
    for label, (rows, cols) in SIZES.items():
        for dtype in (torch.bfloat16, torch.float32) if label == "in cache" else (torch.bfloat16,):
            measure(label, rows, cols, dtype)


if __name__ == "__main__":
    main()
