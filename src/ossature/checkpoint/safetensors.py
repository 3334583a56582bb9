"""The header of a safetensors file, read and written: which tensor lies at which bytes.

A file is 8 bytes (the header's length, little-endian), the header (a JSON object from tensor name to dtype, shape and
byte range) and the tensors' bytes. Here the ranges must cover the rest of the file exactly, without hole or overlap,
and names and sizes must be sane. Source: the format section of the safetensors README.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ossature.checkpoint.files import parse_json
from ossature.checkpoint.names import ITEMSIZE
from ossature.errors import CheckpointError

__all__ = ["Extent", "header_bytes", "read_header"]

# A header has about 140 bytes a tensor: 0.1 MB for gpt-oss-120b, 0.7 MB for the most layers that a config may have.
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 1 << 13
_MAX_RANK = 8
_NAME = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Extent:
    """A tensor of a file: bytes `start` (inclusive) to `stop` (exclusive), counted from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(descriptor: int, path: Path) -> dict[str, Extent]:
    """The tensors of an open safetensors file by name, in the order of their bytes.

    Reads the header only. `path` names the file in errors. Raises CheckpointError for anything that the format, or the
    limits above, do not allow.
    """
    size = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, 8, 0)
    if len(prefix) < 8:
        raise CheckpointError(
            f"{path}: {size} bytes, too short for a safetensors file; the download may be incomplete."
        )
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES or length < 2:
        raise CheckpointError(
            f"{path}: says its header has {length} bytes; expected 2 to {MAX_HEADER_BYTES}. Is this a safetensors file?"
        )
    text = os.pread(descriptor, length, 8)
    if len(text) < length:
        raise CheckpointError(
            f"{path}: a header of {length} bytes in a file of {size}; the download may be incomplete."
        )
    if not text.startswith(b"{"):
        raise CheckpointError(f"{path}: the header begins with {text[:4]!r}, not with '{{'. Is this safetensors?")
    raw = parse_json(text, f"{path}: header")
    _check_metadata(raw.pop("__metadata__", None), path)
    if len(raw) > MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(raw)} tensors; at most {MAX_TENSORS} are read from one file.")
    extents = sorted((_extent(n, entry, path, 8 + length) for n, entry in raw.items()), key=lambda e: (e.start, e.stop))
    _check_cover(extents, 8 + length, size, path)
    return {extent.name: extent for extent in extents}


def _check_metadata(metadata: object, path: Path) -> None:
    if metadata is None:
        return
    pairs = cast("dict[str, object]", metadata).items() if isinstance(metadata, dict) else [("", None)]
    if not all(isinstance(value, str) and _is_unicode(key + value) for key, value in pairs):
        raise CheckpointError(f"{path}: __metadata__ must map strings to strings.")


def _is_unicode(text: str) -> bool:
    """Whether `text` has an encoding: JSON can spell half a surrogate pair, which has none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _extent(name: str, entry: object, path: Path, data_start: int) -> Extent:
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        shown = repr(name if len(name) <= 100 else name[:97] + "...")
        raise CheckpointError(
            f"{path}: {shown} is no tensor name; expected 1 to {_MAX_NAME} letters, digits, _ and single dots between."
        )
    where = f"{path}: {name}"
    if not isinstance(entry, dict) or cast("dict[str, object]", entry).keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: expected an object with exactly dtype, shape and data_offsets.")
    fields = cast("dict[str, object]", entry)
    dtype, shape = fields["dtype"], _sizes(fields["shape"])
    offsets = _sizes(fields["data_offsets"])
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        raise CheckpointError(f"{where}: dtype is {str(dtype)[:40]!r}; expected one of {', '.join(ITEMSIZE)}.")
    if shape is None or len(shape) > _MAX_RANK:
        raise CheckpointError(
            f"{where}: shape must be a list of at most {_MAX_RANK} sizes, whole numbers of 0 to 2^63 - 1."
        )
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets must be two whole numbers of 0 to 2^63 - 1, begin and end.")
    if (expected := math.prod(shape) * ITEMSIZE[dtype]) != (found := offsets[1] - offsets[0]):
        raise CheckpointError(f"{where}: {dtype} {list(shape)} takes {expected} bytes, but its range holds {found}.")
    return Extent(name, dtype, shape, data_start + offsets[0], data_start + offsets[1])


def _sizes(value: object) -> tuple[int, ...] | None:
    """A JSON list of integers (true, 3.0 and 2^63 are none) as a tuple, else None."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return tuple(cast("list[int]", items)) if all(type(i) is int and 0 <= i < 1 << 63 for i in items) else None


def _check_cover(extents: list[Extent], start: int, size: int, path: Path) -> None:
    """Every byte from `start` to the end of the file belongs to exactly one tensor."""
    position, previous = start, "the header"
    for extent in extents:
        if extent.start != position:
            fault = "overlaps" if extent.start < position else "leaves a hole after"
            raise CheckpointError(
                f"{path}: {extent.name} {fault} {previous}: it begins at byte {extent.start}, expected {position}."
            )
        position, previous = extent.stop, extent.name
    if position != size:
        raise CheckpointError(
            f"{path}: {previous} ends at byte {position}, but the file has {size} bytes"
            + ("; the download may be incomplete." if position > size else ": bytes that belong to no tensor.")
        )


def header_bytes(tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length prefix and header for (name, dtype, shape) triples whose bytes follow each other in this order.

    Padded with spaces to a multiple of 8, as the safetensors library does.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, dtype, shape in tensors:
        stop = position + math.prod(shape) * ITEMSIZE[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
