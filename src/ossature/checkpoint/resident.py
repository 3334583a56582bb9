"""Weights copied out of their files into memory of huge pages, which the processor finds its way through faster."""

import math
import mmap
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import NamedTuple

from ossature.checkpoint.files import file_identity, open_regular
from ossature.checkpoint.mapped import Checkpoint, MappedTensor, view
from ossature.checkpoint.names import ITEMSIZE
from ossature.errors import CheckpointError

__all__ = ["copy_to_memory", "huge_memory"]

_ALIGNMENT = 1 << 12  # of a tensor in memory: a page, so that no two tensors share one
_PIECE = 1 << 26  # bytes read at a time: what is in memory twice while it is copied
_HUGE = 1 << 21


class _Piece(NamedTuple):
    """Bytes [offset, offset + size) of a file, and where they go."""

    file: int
    offset: int
    target: int
    size: int


def copy_to_memory(checkpoint: Checkpoint, names: Collection[str], *, threads: int) -> dict[str, MappedTensor]:
    """The named tensors in anonymous memory with huge pages, read by `threads` at once.

    What has been read is dropped from the system's page cache, so that the weights are not held twice; the mapping of
    the file itself is not touched. Raises CheckpointError if a file is not the one that was opened, or cannot be read.
    """
    places: dict[str, int] = {}
    size = 0
    for name in names:
        source = checkpoint.sources[name]
        places[name] = size
        size += -(-math.prod(source.shape) * ITEMSIZE[source.dtype] // _ALIGNMENT) * _ALIGNMENT
    if not size:
        return {}
    memory = huge_memory(size)
    with ExitStack() as stack:
        descriptors = [stack.enter_context(open_regular(checkpoint.directory, file.name)) for file in checkpoint.files]
        for descriptor, path, identity in zip(descriptors, checkpoint.files, checkpoint.identities, strict=True):
            if file_identity(descriptor) != identity:
                raise CheckpointError(f"{path}: was changed after it was opened; load the model again.")
        with ThreadPoolExecutor(threads) as pool, memoryview(memory) as target:
            reading = [
                pool.submit(_read, descriptors, checkpoint, target, piece) for piece in _pieces(checkpoint, places)
            ]
            for piece in reading:
                piece.result()
    return {
        name: view(memory, name, checkpoint.sources[name].dtype, checkpoint.sources[name].shape, place)
        for name, place in places.items()
    }


def huge_memory(size: int) -> mmap.mmap:
    """Anonymous memory of at least `size` bytes, in huge pages where the system has them and grants them."""
    memory = mmap.mmap(-1, -(-size // _HUGE) * _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them: then the pages are small
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _pieces(checkpoint: Checkpoint, places: dict[str, int]) -> Iterator[_Piece]:
    for name, place in places.items():
        source = checkpoint.sources[name]
        size = math.prod(source.shape) * ITEMSIZE[source.dtype]
        for start in range(0, size, _PIECE):
            yield _Piece(source.file, source.offset + start, place + start, min(_PIECE, size - start))


def _read(descriptors: list[int], checkpoint: Checkpoint, memory: memoryview, piece: _Piece) -> None:
    done, descriptor, path = 0, descriptors[piece.file], checkpoint.files[piece.file]
    while done < piece.size:
        with memory[piece.target + done : piece.target + piece.size] as target:
            try:
                count = os.preadv(descriptor, [target], piece.offset + done)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read at byte {piece.offset + done} ({error}).") from error
        if not count:
            raise CheckpointError(f"{path}: ends at byte {piece.offset + done}, in the middle of a tensor.")
        done += count
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, piece.offset, piece.size, os.POSIX_FADV_DONTNEED)
