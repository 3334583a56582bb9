"""An opened checkpoint: named tensors that are views of mapped files."""

import math
import mmap
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossature.checkpoint.names import ITEMSIZE, NUMPY, Kind
from ossature.config import GenerationConfig, Layout, ModelConfig
from ossature.errors import CheckpointError
from ossature.mxfp4 import NAN_SCALE

__all__ = ["Checkpoint", "MappedTensor", "Source", "map_file", "view"]

# Without it Linux may refuse a writable private mapping larger than the machine's memory, although nobody writes to it.
# Python names the flag from 3.13 on; the number is that of the two architectures below.
_NO_RESERVE = 0x4000 if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") else 0


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """A tensor whose bytes are those of the file.

    dtype   "BF16" | "F16" | "F32" | "U8"
    array   `shape`, C-contiguous, a view of a private copy-on-write mapping: writing to it never reaches the file.
            BF16 comes as uint16. Pages are read when touched; a file truncated while in use kills the process (SIGBUS).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    array: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a canonical tensor lies: `offset` bytes into file number `file` of the checkpoint."""

    file: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An opened checkpoint. Names are those of the Hugging Face layout, whatever the layout of the files.

    total_bytes   of all tensors, without headers
    identities    of the files: changes with their size, time or inode
    fingerprint   of headers and identities: what is derived from a checkpoint is kept under it
    checked       the `…_scales` tensors in which no scale byte 255 was found
    """

    directory: Path
    layout: Layout
    config: ModelConfig
    generation: GenerationConfig
    files: tuple[Path, ...]
    total_bytes: int
    identities: tuple[tuple[int, ...], ...]
    fingerprint: str
    sources: Mapping[str, Source] = field(repr=False)
    maps: tuple[mmap.mmap, ...] = field(repr=False)
    checked: set[str] = field(default_factory=set[str], repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical tensor names, in the order of the forward pass."""
        return tuple(self.sources)

    @property
    def scales_checked(self) -> bool:
        """Whether every scale of the checkpoint has been looked at."""
        return self.checked.issuperset(self._scales())

    def _scales(self) -> list[str]:
        return [name for name, source in self.sources.items() if source.kind is Kind.SCALES]

    def tensor(self, name: str) -> MappedTensor:
        """The tensor of that canonical name, without reading it. Raises CheckpointError for an unknown name."""
        if (source := self.sources.get(name)) is None:
            raise CheckpointError(
                f"{self.directory}: no tensor {name!r}; `names` lists the {len(self.sources)} there are."
            )
        return view(self.maps[source.file], name, source.dtype, source.shape, source.offset)

    def release(self, name: str) -> None:
        """Let go of the memory that reading a tensor of the mapping took; it is read again when touched.

        What was written to the tensor is lost.
        """
        source = self.sources[name]
        end = source.offset + math.prod(source.shape) * ITEMSIZE[source.dtype]
        begin = -(-source.offset // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages of this tensor alone
        count = end // mmap.PAGESIZE * mmap.PAGESIZE - begin
        if count > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self.maps[source.file].madvise(mmap.MADV_DONTNEED, begin, count)

    def check_scales(self, name: str, copied: MappedTensor | None = None) -> None:
        """Look for the scale byte 255 (NaN) in the `…_scales` tensor `name`; a second look at it costs nothing.

        copied  the same tensor where it was copied to: read in place of the file

        Reads the whole tensor, one expert at a time. Raises CheckpointError.
        """
        if name in self.checked:
            return
        tensor = self.tensor(name) if copied is None else copied
        assert self.sources[name].kind is Kind.SCALES, name
        for expert, scales in enumerate(tensor.array):
            if scales.max() == NAN_SCALE:
                row, group = (int(i) for i in np.argwhere(scales == NAN_SCALE)[0])
                raise CheckpointError(
                    f"{self.files[self.sources[name].file]}: {name} has the scale byte {NAN_SCALE} (NaN) at expert "
                    f"{expert}, row {row}, group {group}; expected at most {NAN_SCALE - 1}. Get the file again."
                )
        self.checked.add(name)

    def verify(self) -> int:
        """Check the scales of every expert matrix, reading them all; returns how many tensors that were.

        Only scales are looked at: infinities and NaN in other tensors are not found here. Raises CheckpointError.
        """
        names = self._scales()
        for name in names:
            self.check_scales(name)
        return len(names)


def view(memory: mmap.mmap, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> MappedTensor:
    """The tensor whose bytes begin `offset` bytes into mapped memory."""
    array = np.frombuffer(memory, NUMPY[dtype], math.prod(shape), offset).reshape(shape)
    return MappedTensor(name, dtype, shape, array)


def map_file(descriptor: int, path: Path) -> mmap.mmap:
    """The whole of an open file, private and copy-on-write: views may be written to, the file never changes.

    `path` names the file in errors. Raises CheckpointError.
    """
    size, flags = os.fstat(descriptor).st_size, mmap.MAP_PRIVATE | _NO_RESERVE
    try:
        return mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise CheckpointError(f"{path}: {size:,} bytes cannot be mapped into memory ({error.strerror}).") from error
