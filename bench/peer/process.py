"""One sample is one process: it loads, warms up, measures, prints one line of JSON and ends."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["SampleError", "peak_bytes", "run_sample", "swap_page_cache"]

ROOT = Path(__file__).parents[2]
_PIECE = 1 << 26


class SampleError(Exception):
    """A sample's process failed."""


def run_sample(module: str, task: Mapping[str, object], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module TASK` and return the last line that it prints. Raises SampleError, with what it said."""
    command = [sys.executable, "-m", module, json.dumps(task)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise SampleError(f"{module} ended with {done.returncode} on {command[-1]}\n{said}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes() -> int:
    """The most memory that this process had at once, mapped pages included (VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return 1024 * int(found[1])


def swap_page_cache(*, out: Sequence[Path], into: Sequence[Path]) -> None:
    """Drop the pages of `out` from the page cache and read `into` once: two models do not fit there together."""
    for path in out:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = bytearray(_PIECE)
    for path in into:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
