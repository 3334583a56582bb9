"""What this machine has, as its system tells it. Nothing is measured here, and nothing of torch is loaded."""

import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Hardware", "hardware", "has_huge_pages", "peak_memory", "reset_peak_memory", "seconds_since_start"]

# Those that decide how fast a model runs, in the spelling of /proc/cpuinfo.
_X86 = "avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16"
_ARM = "asimd asimdhp asimddp i8mm bf16 sve sve2 sme"
INSTRUCTION_SETS = (*_X86.split(), *_ARM.split())
_PROC = Path("/proc")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True)
class Hardware:
    """processor         its name, or "unknown"
    instruction_sets  of `INSTRUCTION_SETS`, those that it has; empty where the system does not list them
    cores             that this process may run on
    memory_bytes      of the machine
    available_bytes   that a new process could take without swapping; the machine's where the system does not say
    """

    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_bytes: int
    available_bytes: int


def hardware() -> Hardware:
    """This machine, now."""
    processors = _read("cpuinfo")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flags = set((processors.get("flags") or processors.get("Features") or "").split())
    return Hardware(
        processor=processors.get("model name") or platform.processor() or "unknown",
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        cores=_cores(),
        memory_bytes=memory,
        available_bytes=_kilobytes(_read("meminfo").get("MemAvailable")) or memory,
    )


def has_huge_pages() -> bool:
    """True where the system backs memory with huge pages for a process that asks (`madvise`)."""
    try:
        return "[never]" not in _HUGE_PAGES.read_text(encoding="ascii")
    except OSError:
        return False


def peak_memory() -> int | None:
    """The most bytes of memory that this process had at once, pages of mapped files included; None if not known."""
    return _kilobytes(_read("self/status").get("VmHWM"))


def reset_peak_memory() -> bool:
    """Let `peak_memory` count from what the process has now; False where the system does not allow it."""
    try:
        (_PROC / "self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def seconds_since_start() -> float | None:
    """Age of this process, to a hundredth of a second; None where the system does not say."""
    try:
        # The name in the second field may hold spaces and brackets: fields are counted from behind it.
        fields = (_PROC / "self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(name: str) -> Mapping[str, str]:
    """The `key: value` lines of a file below /proc, the first of each key; empty where there is none."""
    try:
        text = (_PROC / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def _kilobytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+) kB", text or "")
    return 1024 * int(match[1]) if match else None
