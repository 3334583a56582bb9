"""Weights copied out of their files into memory of huge pages, which the processor finds its way through faster."""

import math
import mmap
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from ossature.checkpoint.files import file_identity, open_regular
from ossature.checkpoint.mapped import Checkpoint, MappedTensor, view
from ossature.checkpoint.names import ITEMSIZE
from ossature.errors import CheckpointError

__all__ = ["Stretch", "copy_to_memory", "read_to_memory"]

_ALIGNMENT = 1 << 12  # of a tensor in memory: a page, so that no two tensors share one
_PIECE = 1 << 26  # bytes read at a time: what is in memory twice while it is copied
_HUGE = 1 << 21


class Stretch(NamedTuple):
    """Bytes [offset, offset + size) of an open file; `path` is for messages."""

    descriptor: int
    path: Path
    offset: int
    size: int


def copy_to_memory(checkpoint: Checkpoint, names: Collection[str], *, threads: int) -> dict[str, MappedTensor]:
    """The named tensors as `read_to_memory` reads them.

    Raises CheckpointError if a file is not the one that was opened, or cannot be read.
    """
    if not names:
        return {}
    sources = {name: checkpoint.sources[name] for name in names}
    with ExitStack() as stack:
        descriptors = [stack.enter_context(open_regular(checkpoint.directory, file.name)) for file in checkpoint.files]
        for descriptor, path, identity in zip(descriptors, checkpoint.files, checkpoint.identities, strict=True):
            if file_identity(descriptor) != identity:
                raise CheckpointError(f"{path}: was changed after it was opened; load the model again.")
        memory, places = read_to_memory(
            {
                name: Stretch(
                    descriptors[source.file],
                    checkpoint.files[source.file],
                    source.offset,
                    math.prod(source.shape) * ITEMSIZE[source.dtype],
                )
                for name, source in sources.items()
            },
            threads=threads,
        )
    return {name: view(memory, name, source.dtype, source.shape, places[name]) for name, source in sources.items()}


def read_to_memory(stretches: Mapping[str, Stretch], *, threads: int) -> tuple[mmap.mmap, dict[str, int]]:
    """Anonymous memory with huge pages, filled by `threads` at once, and where each stretch begins in it.

    What has been read is dropped from the system's page cache, so that the weights are not held twice; mappings of the
    files are not touched. Raises CheckpointError if a file cannot be read.
    """
    places: dict[str, int] = {}
    size = 0
    for name, stretch in stretches.items():
        places[name] = size
        size += -(-stretch.size // _ALIGNMENT) * _ALIGNMENT
    memory = _huge_memory(max(size, 1))
    with ThreadPoolExecutor(threads) as pool, memoryview(memory) as target:
        reading = [
            pool.submit(_read, piece, target, place)
            for name, stretch in stretches.items()
            for piece, place in _pieces(stretch, places[name])
        ]
        for piece in reading:
            piece.result()
    return memory, places


def _huge_memory(size: int) -> mmap.mmap:
    """Anonymous memory of at least `size` bytes, in huge pages where the system has them and grants them."""
    memory = mmap.mmap(-1, -(-size // _HUGE) * _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them: then the pages are small
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _pieces(whole: Stretch, place: int) -> Iterator[tuple[Stretch, int]]:
    for start in range(0, whole.size, _PIECE):
        piece = whole._replace(offset=whole.offset + start, size=min(_PIECE, whole.size - start))
        yield piece, place + start


def _read(piece: Stretch, memory: memoryview, place: int) -> None:
    descriptor, path, offset, size = piece
    done = 0
    while done < size:
        with memory[place + done : place + size] as target:
            try:
                count = os.preadv(descriptor, [target], offset + done)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read at byte {offset + done} ({error}).") from error
        if not count:
            raise CheckpointError(f"{path}: ends at byte {offset + done}, in the middle of a tensor.")
        done += count
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
