"""Memory taken away: `python bench/balloon.py --leave 16` locks all but 16 GB of this machine until it is ended.

What is locked can neither be dropped nor swapped, so that everything else runs as on a smaller machine. Needs the right
to lock memory (root, or `ulimit -l unlimited`). Prints one line when it holds it.
"""

import argparse
import ctypes
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["balloon", "lock"]

PIECE = 1 << 28


def lock(size: int) -> list[mmap.mmap]:
    """Anonymous memory of `size` bytes that stays where it is. Raises OSError where the system does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    held: list[mmap.mmap] = []
    for start in range(0, size, PIECE):
        piece = mmap.mmap(-1, min(PIECE, size - start))
        address = ctypes.addressof(ctypes.c_char.from_buffer(piece))
        if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(piece))):
            number = ctypes.get_errno()
            raise OSError(number, f"{start} bytes were locked, then: {os.strerror(number)}")
        held.append(piece)
    return held


@contextmanager
def balloon(leave: int) -> Iterator[int]:
    """Hold all but `leave` bytes of the machine's memory in a process of its own; yields how many bytes those are."""
    command = [sys.executable, str(Path(__file__)), "--leave", str(leave / 1e9)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            if not said:
                raise OSError("the memory could not be locked; see above")
            yield int(said[0])
        finally:
            process.terminate()


def main() -> None:
    """Lock, say so, wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leave", type=float, required=True, metavar="GB", help="10^9 bytes that stay free to use")
    options = parser.parse_args()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = max(0, total - int(options.leave * 1e9))
    held = lock(size)
    print(f"{size} bytes are locked", flush=True)
    signal.pause()
    del held


if __name__ == "__main__":
    main()
