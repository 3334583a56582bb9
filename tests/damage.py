"""Ways to damage a safetensors file, its header taken apart, changed and put back; and what a refusal must be."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ossature.checkpoint import open_checkpoint
from ossature.errors import CheckpointError

__all__ = [
    "Header",
    "append",
    "assert_refused",
    "cut",
    "edit",
    "entry",
    "join",
    "length",
    "raw_header",
    "rename",
    "replace_text",
    "split",
]

Header = dict[str, Any]


def split(file: Path) -> tuple[Header, bytes]:
    """The parsed header and the bytes behind it."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join(file: Path, header: Mapping[str, Any] | bytes, data: bytes) -> None:
    """Write a file of this header, padded to 8 bytes when it is not bytes already."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
        header += b" " * (-len(header) % 8)
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)


def edit(change: Callable[[Header], object]) -> Callable[[Path], None]:
    """Change the parsed header; the tensors' bytes stay."""

    def damage(file: Path) -> None:
        header, data = split(file)
        change(header)
        join(file, header, data)

    return damage


def entry(name: str, **changes: object) -> Callable[[Path], None]:
    """Set keys of one tensor's entry."""
    return edit(lambda header: header[name].update(changes))


def rename(old: str, new: str) -> Callable[[Path], None]:
    """Give a tensor another name."""
    return edit(lambda header: header.update({new: header.pop(old)}))


def raw_header(make: Callable[[Header], bytes]) -> Callable[[Path], None]:
    """Replace the header's text by what `make` makes of the parsed one."""

    def damage(file: Path) -> None:
        header, data = split(file)
        join(file, make(header), data)

    return damage


def replace_text(old: str, new: str) -> Callable[[Path], None]:
    """Replace the first `old` in the header's text."""

    def change(header: Header) -> bytes:
        text = json.dumps(header)
        assert old in text
        return text.replace(old, new, 1).encode("utf-8", "surrogatepass")

    return raw_header(change)


def length(value: int) -> Callable[[Path], None]:
    """Let the file say that its header has `value` bytes."""

    def damage(file: Path) -> None:
        with file.open("r+b") as opened:
            opened.write(value.to_bytes(8, "little"))

    return damage


def cut(size: Callable[[int], int]) -> Callable[[Path], None]:
    """Truncate, or extend by zeros that take no room on disk, to `size` of the present size."""
    return lambda file: os.truncate(file, size(file.stat().st_size))


def append(data: bytes) -> Callable[[Path], None]:
    """Write bytes behind the last tensor."""

    def damage(file: Path) -> None:
        with file.open("ab") as opened:
            opened.write(data)

    return damage


def assert_refused(directory: Path, file: Path, says: str) -> None:
    """`directory` is refused with a CheckpointError that names `file` and contains `says`, in under a second.

    That is a second of the processor's time, which a busy machine does not stretch; a call that waits for something
    runs into the time limit of the test.
    """
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=re.escape(says)) as refusal:
        open_checkpoint(directory)
    assert time.process_time() - begin < 1
    assert str(file) in str(refusal.value)
    assert len(str(refusal.value)) < 1000
