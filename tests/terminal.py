"""Real processes of the command line: with pipes, or at a terminal of their own."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

__all__ = ["Terminal", "command", "environment", "ossature"]

# Makes the terminal behind stdin the one whose Ctrl-C reaches the program, which it then becomes.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def command(*arguments: str) -> list[str]:
    """The command line of one `ossature` process."""
    return [sys.executable, "-m", "ossature", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what would change the output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "OSSATURE_MODEL")}
    return kept | {"OMP_NUM_THREADS": "1", "TERM": "xterm"} | changes


def ossature(*arguments: str, stdin: bytes | None = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end. `changes` are environment variables."""
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, env=environment(**changes), timeout=120, check=False
    )


class Terminal:
    """A process at a terminal: what it writes is collected in `seen`, whichever of its streams it writes to."""

    def __init__(self, arguments: Sequence[str], **changes: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment(**changes),
        )
        os.close(slave)
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press keys: "\\x03" is Ctrl-C, "\\x04" is Ctrl-D, "\\r" is Enter."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, timeout: float = 90) -> str:
        """Read on until `text` comes; returns what came up to its end, and forgets it."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} did not come; what came is {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def exit_code(self, *, timeout: float = 90) -> int:
        """Wait for the end of the process, reading on."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        return self._process.wait(timeout=10)

    def _read(self, seconds: float) -> bool:
        """Collect what comes next; False at the end or when the time is over."""
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0))
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # Linux reports the end of a terminal's last process as an error
            data = b""
        self.seen += data.decode(errors="replace")
        return bool(data)
