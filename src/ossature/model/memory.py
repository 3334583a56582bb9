"""How much memory is free for weights."""

import os
from pathlib import Path

__all__ = ["available_bytes"]


def available_bytes() -> int:
    """Memory that can be taken now without swapping: what Linux estimates, and no more than a control group allows.

    Elsewhere half of the memory there is.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return min(kilobytes["MemAvailable"] << 10, _left_in_control_group())


def _left_in_control_group() -> int:
    """Of version 2, the nearest group of this process; 2^62 where there is no limit."""
    try:
        path = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1].rpartition("::")[2].strip("/")
        group = Path("/sys/fs/cgroup") / path
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError, IndexError):
        return 1 << 62
    return (1 << 62) if limit == "max" else int(limit) - used
