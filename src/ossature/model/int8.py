"""`numerics="fast"`: the dense matrices as int8, made once from a checkpoint and kept in a file beside others."""

import mmap
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from ossature.checkpoint import Checkpoint
from ossature.checkpoint.files import open_regular
from ossature.checkpoint.mapped import map_file, view
from ossature.checkpoint.names import DTYPE_OF
from ossature.checkpoint.resident import Stretch, read_to_memory
from ossature.checkpoint.safetensors import header_bytes, read_header
from ossature.errors import CheckpointError, notice
from ossature.model.tensors import as_torch
from ossature.ops import cpu
from ossature.ops.int8_matrix import BLOCK, Int8Matrix

__all__ = ["dense_matrices", "int8_matrices"]

_PROJECTIONS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "lm_head.weight")


def dense_matrices(checkpoint: Checkpoint) -> list[str]:
    """Names of the matrices that "fast" reads as int8: attention and unembedding, where rows are whole blocks of 32.

    The router stays as it is: it is small, and a rounded choice of experts is another choice.
    """
    sources = checkpoint.sources
    return [
        name
        for name in sources
        if name.endswith(_PROJECTIONS)
        and sources[name].shape[1] % BLOCK == 0
        and sources[name].dtype in (DTYPE_OF["bfloat16"], DTYPE_OF["float32"])
    ]


def int8_matrices(checkpoint: Checkpoint, cache: Path | None, *, resident: bool = False) -> dict[str, Int8Matrix]:
    """The dense matrices of a checkpoint rounded to int8, by name; `resident`: in memory, one after the other.

    cache  directory of such copies, one file for the fingerprint of a checkpoint: read if it is there, written if not.
           None keeps the copy in memory. Where the directory cannot be written, that is said and memory is used.
    """
    if cache is None:
        return dict(_rounded(checkpoint))
    file = cache / f"{checkpoint.fingerprint}.safetensors"
    found = _read(file, checkpoint, resident=resident)
    if found is not None:
        return found
    try:
        _write(file, checkpoint)
    except OSError as error:
        notice(f"the int8 copy of the weights is not kept in {cache} ({error.strerror}); it is made at each start")
        return dict(_rounded(checkpoint))
    written = _read(file, checkpoint, resident=resident)
    return dict(_rounded(checkpoint)) if written is None else written


def _rounded(checkpoint: Checkpoint) -> Iterator[tuple[str, Int8Matrix]]:
    for name in dense_matrices(checkpoint):
        mapped = checkpoint.tensor(name)
        yield name, Int8Matrix.quantize(as_torch(mapped))
        checkpoint.release(name)


def _layout(checkpoint: Checkpoint) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor of the file: scales first, whose elements are wider."""
    shapes = {name: checkpoint.sources[name].shape for name in dense_matrices(checkpoint)}
    scales = {f"{name}.scales": ("BF16", (rows, cols // BLOCK)) for name, (rows, cols) in shapes.items()}
    return scales | {f"{name}.values": ("U8", shape) for name, shape in shapes.items()}


def _read(file: Path, checkpoint: Checkpoint, *, resident: bool) -> dict[str, Int8Matrix] | None:
    """The matrices of a file, mapped or copied; None where there is none, or, said aloud, it is not sound."""
    if not file.exists():
        return None
    try:
        with open_regular(file.parent, file.name) as descriptor:
            extents = read_header(descriptor, file)
            if {name: (e.dtype, e.shape) for name, e in extents.items()} != dict(_layout(checkpoint)):
                raise CheckpointError(f"{file}: does not hold the matrices of {checkpoint.directory}.")
            if resident:
                stretches = {name: Stretch(descriptor, file, e.start, e.stop - e.start) for name, e in extents.items()}
                memory, places = read_to_memory(stretches, threads=cpu.threads())
            else:
                memory, places = map_file(descriptor, file), {name: e.start for name, e in extents.items()}
    except CheckpointError as error:
        notice(f"the int8 copy of the weights is made again: {error}")
        with suppress(OSError):
            file.unlink()
        return None

    def tensor(name: str) -> torch.Tensor:
        return as_torch(view(memory, name, extents[name].dtype, extents[name].shape, places[name]))

    return {
        name: Int8Matrix(tensor(f"{name}.values").view(torch.int8), tensor(f"{name}.scales"))
        for name in dense_matrices(checkpoint)
    }


def _write(file: Path, checkpoint: Checkpoint) -> None:
    """Round the matrices into a new file; it gets its name when it is whole. Raises OSError."""
    layout = _layout(checkpoint)
    header = header_bytes(((name, dtype, shape) for name, (dtype, shape) in layout.items()), {"format": "pt"})
    sizes = {name: int(np.prod(shape)) * (2 if dtype == "BF16" else 1) for name, (dtype, shape) in layout.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    notice(f"rounding {sum(sizes.values()) / 1e9:.2f} GB of dense weights to int8, once; they are kept in {file}")
    try:
        with scratch.open("x+b") as opened:
            opened.write(header)
            os.posix_fallocate(opened.fileno(), 0, len(header) + sum(sizes.values()))  # a full disk shows now
            opened.flush()
            memory = mmap.mmap(opened.fileno(), 0)
            starts: dict[str, int] = {}
            position = len(header)
            for name, size in sizes.items():
                starts[name] = position
                position += size
            for name in dense_matrices(checkpoint):
                rows, cols = checkpoint.sources[name].shape
                into = Int8Matrix(
                    _at(memory, starts[f"{name}.values"], torch.int8, (rows, cols)),
                    _at(memory, starts[f"{name}.scales"], torch.bfloat16, (rows, cols // BLOCK)),
                )
                Int8Matrix.quantize(as_torch(checkpoint.tensor(name)), into)
                checkpoint.release(name)
            memory.flush()
            os.fsync(opened.fileno())
        scratch.rename(file)
    finally:
        scratch.unlink(missing_ok=True)


def _at(memory: mmap.mmap, start: int, dtype: torch.dtype, shape: tuple[int, int]) -> torch.Tensor:
    return torch.frombuffer(memory, dtype=dtype, count=shape[0] * shape[1], offset=start).view(shape)
