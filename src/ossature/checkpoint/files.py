"""Files of a directory that nobody has vouched for: no link out of it, no FIFO or device, no endless or deep JSON."""

import json
import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from ossature.errors import CheckpointError

__all__ = ["file_identity", "open_regular", "parse_json", "read_json"]

MAX_JSON_BYTES = 1 << 20  # the index of gpt-oss-120b takes 0.06 MB
_MAX_DEPTH = 16  # config.json needs 3

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*+(?:"|\Z)', re.DOTALL)
_NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def open_regular(directory: Path, name: str) -> Generator[int]:
    """A descriptor of the regular file `name` in `directory`, closed on exit.

    A symbolic link is followed only to a file inside the directory or, in the Hugging Face cache
    (`<repo>/snapshots/<revision>/`), to a file of `<repo>/blobs/`. Every step is opened without following links, so a
    file swapped for a link in between is refused too. Raises CheckpointError; never blocks.
    """
    path = directory / name
    try:
        root, parts = _resolve(directory, name)
        descriptor = _open_beneath(root, parts, path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened as a file of this directory ({error.strerror}).") from error
    try:
        _check_regular(os.fstat(descriptor).st_mode, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _resolve(directory: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The directory that a file's real path lies under, and the path from there."""
    root, path = Path(os.path.realpath(directory)), directory / name
    mode = os.lstat(path).st_mode
    if not stat.S_ISLNK(mode):
        _check_regular(mode, path)
        return root, (name,)
    target = Path(os.path.realpath(path))
    for allowed in (root, *_blob_directories(root)):
        if target.is_relative_to(allowed):
            return allowed, target.relative_to(allowed).parts
    raise CheckpointError(
        f"{path}: a symbolic link to {os.readlink(path)!r}, outside the checkpoint. Copy the file into the directory."
    )


def _blob_directories(root: Path) -> list[Path]:
    """`blobs` of the Hugging Face cache, when `root` is one of its revisions or a folder (`original`) of one."""
    revisions = (root, root.parent)
    return [revision.parent.parent / "blobs" for revision in revisions if revision.parent.name == "snapshots"]


def _open_beneath(root: Path, parts: tuple[str, ...], shown: Path) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _NO_FOLLOW | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        _check_regular(os.lstat(parts[-1], dir_fd=folder).st_mode, shown)  # before opening: a device may act on that
        return os.open(parts[-1], _NO_FOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = (
        (stat.S_ISDIR, "directory"),
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISBLK, "block device"),
        (stat.S_ISCHR, "character device"),
    )
    kind = next((name for test, name in kinds if test(mode)), "special file")
    raise CheckpointError(f"{path}: a {kind}, where a regular file is expected.")


def file_identity(descriptor: int) -> tuple[int, ...]:
    """What tells an open file from another one, or from itself after it was written to."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_json(directory: Path, name: str) -> dict[str, object]:
    """The JSON object in a file of at most 1 MiB. Raises CheckpointError naming the file."""
    with open_regular(directory, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > MAX_JSON_BYTES:
            raise CheckpointError(f"{directory / name}: {size} bytes of JSON; at most {MAX_JSON_BYTES} are read.")
        return parse_json(os.pread(descriptor, size, 0), str(directory / name))


def parse_json(text: bytes, label: str) -> dict[str, object]:
    """A JSON object, without the freedoms of Python's parser: no repeated key, NaN, infinite number or deep nesting.

    `label` says in the CheckpointError what was parsed. The depth is measured first, on the brackets outside strings.
    """
    brackets = np.frombuffer(_STRING.sub(b"", text), dtype=np.uint8) | 0x20  # [ and { then differ from ] and } only
    depth = np.cumsum((brackets == ord("{")).astype(np.int32) - (brackets == ord("}")))
    if depth.size and int(depth.max()) > _MAX_DEPTH:
        raise CheckpointError(f"{label}: JSON nested {int(depth.max())} deep; at most {_MAX_DEPTH} levels are read.")
    try:
        value = cast(
            object,
            json.loads(
                text.decode("utf-8"),
                object_pairs_hook=_unique,
                parse_int=_integer,
                parse_float=_finite,
                parse_constant=_refuse_constant,
            ),
        )
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CheckpointError(f"{label}: not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{label}: a JSON object was expected, not {type(value).__name__}.")
    return cast("dict[str, object]", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice[:100]!r} appears twice")
    return result


def _integer(text: str) -> int | float:
    """-0 is a float, as other readers have it: the safetensors library takes none for a size."""
    return int(text) if text != "-0" else -0.0


def _finite(text: str) -> float:
    if (number := float(text)) in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
