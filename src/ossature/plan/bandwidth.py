"""This machine's limits, measured: how fast memory is read and how fast products are summed."""

import mmap
from dataclasses import dataclass

import torch

from ossature.errors import BackendError, ConfigError
from ossature.ops import cpu
from ossature.plan.hardware import hardware, has_huge_pages

__all__ = ["Limits", "dot_peaks", "measure_limits", "read_bandwidth"]

_LARGEST = 2 << 30
_SMALLEST = 64 << 20
_SHARE = 4  # of the available memory, a quarter at most is taken
_DOT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """threads     that measured together
    read_huge   GB/s (10^9 bytes) read from huge pages, as resident weights are; None where there are none
    read_4k     GB/s from pages of 4 KiB, as a mapped file has them
    dot         GOPS of each dot product, a multiplication and an addition being two: `dot_peaks`
    """

    threads: int
    read_huge: float | None
    read_4k: float
    dot: dict[str, float]

    def read(self, *, huge_pages: bool) -> float:
        """GB/s for weights in huge pages or in pages of 4 KiB; the second where there are no huge pages."""
        return self.read_huge if huge_pages and self.read_huge is not None else self.read_4k

    def dot_of(self, dtype: str) -> str | None:
        """The fastest dot product of "int8", "bf16" or "float32" operands; None where the processor has none."""
        fitting = {name: rate for name, rate in self.dot.items() if name.endswith(f"_{dtype}")}
        return max(fitting, key=fitting.__getitem__, default=None)


def measure_limits(*, threads: int, quick: bool = False) -> Limits:
    """All limits at once, in some 5 seconds; `quick`: less memory and fewer repeats, in two.

    Raises BackendError where ossature was installed without its extension.
    """
    size, repeats = (_LARGEST // 2, 2) if quick else (_LARGEST, 5)
    huge = read_bandwidth(threads=threads, size=size, repeats=repeats) if has_huge_pages() else None
    small = read_bandwidth(threads=threads, huge_pages=False, size=size, repeats=repeats)
    return Limits(threads, huge, small, dot_peaks(threads=threads, repeats=1 if quick else 3))


def read_bandwidth(*, threads: int, huge_pages: bool = True, size: int = _LARGEST, repeats: int = 5) -> float:
    """GB/s (10^9 bytes) at which `threads` threads read memory, each one sequential stream: the best of `repeats`.

    huge_pages  of pages that the system was asked to make huge, or else of 4 KiB
    size        bytes read in one repeat, at most a quarter of what is available; should be several times the caches

    Raises ConfigError for sizes below 64 MiB, BackendError without the extension or without huge pages.
    """
    if threads < 1 or repeats < 1 or size < _SMALLEST:
        raise ConfigError(
            f"threads={threads}, repeats={repeats}, size={size}: reading is measured with at least one thread, one"
            f" repeat and {_SMALLEST} bytes."
        )
    if huge_pages and not has_huge_pages():
        raise BackendError("this system has no transparent huge pages for those who ask; measure huge_pages=False.")
    size = max(_SMALLEST, min(size, hardware().available_bytes // _SHARE)) // mmap.PAGESIZE * mmap.PAGESIZE
    mapping = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE if huge_pages else mmap.MADV_NOHUGEPAGE)
    memory = torch.frombuffer(mapping, dtype=torch.uint8).fill_(1)  # a page that was never written is not there
    best = min(cpu.read_seconds(memory.data_ptr(), size, threads=threads) for _ in range(repeats))
    return size / best / 1e9


def dot_peaks(*, threads: int, seconds: float = _DOT_SECONDS, repeats: int = 3) -> dict[str, float]:
    """GOPS of every dot product that this processor has, by "set_type", such as avx512_int8: the best of `repeats`.

    Operands stay in registers, so this is what arithmetic can reach, not what memory can feed. Empty without the
    extension.
    """
    return {
        name: max(cpu.dot_rate(name, threads=threads, seconds=seconds) for _ in range(repeats)) / 1e9
        for name in cpu.dot_products()
    }
