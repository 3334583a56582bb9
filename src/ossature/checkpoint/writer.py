"""Write a checkpoint in either published layout: one tensor in memory at a time, and a whole directory or none."""

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossature.checkpoint.layouts import DTYPES, INDEX, SINGLE
from ossature.checkpoint.names import DTYPE_OF, ITEMSIZE, NUMPY, Kind, StoredTensor, stored
from ossature.checkpoint.safetensors import header_bytes
from ossature.config import GenerationConfig, Layout, ModelConfig
from ossature.errors import CheckpointError

__all__ = ["MAX_SHARD_BYTES", "Tensors", "write_checkpoint"]

MAX_SHARD_BYTES = 5_000_000_000

Tensors = Mapping[str, tuple[str, NDArray[np.generic]]]


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor to be stored, and the dtype it will have."""

    tensor: StoredTensor
    dtype: str

    @property
    def bytes(self) -> int:
        return math.prod(self.tensor.shape) * ITEMSIZE[self.dtype]


def write_checkpoint(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    tensors: Tensors,
    *,
    layout: Layout = "huggingface",
    generation: GenerationConfig | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write `tensors`, canonical names and (dtype, array) as in `MappedTensor`, as the new directory `directory`.

    A mapping may make each tensor when it is asked for; norms, biases, sinks and, where the config has no dtype, the
    embedding are asked for twice. Everything is written and synced under a temporary name beside `directory`, which
    then gets its name: after a failure nothing is left. A file takes tensors up to `max_shard_bytes`, at least one;
    with more than one file the Hugging Face layout has an index. Raises CheckpointError when `directory` exists and is
    not empty, when a tensor is missing, unknown, or has another shape or dtype than the config implies, and when the
    disk is full; ConfigError when `layout` cannot hold the model.
    """
    target = Path(directory).absolute()
    manifest = stored(config, layout)
    plan = list(_plan(config, manifest, tensors))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target}: exists and is not empty; choose a new directory or remove it first.")
    needed = sum(planned.bytes for planned in plan)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(target.parent).free) < needed:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")
        scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        scratch.mkdir()
        try:
            _write_files(scratch, config, plan, tensors, layout, max_shard_bytes)
            if generation is not None:
                _write_json(scratch / "generation_config.json", generation.to_dict())
            _sync(scratch)
            scratch.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{target}: writing {needed:,} bytes failed ({error.strerror}); nothing was left there."
        ) from error


def _plan(config: ModelConfig, manifest: Mapping[str, StoredTensor], tensors: Tensors) -> Iterator[_Planned]:
    """What will be stored: matrices in the dtype of the config or of the embedding, the rest as it comes."""
    wanted = {cut.name for tensor in manifest.values() for cut in tensor.cuts}
    if wrong := sorted(wanted ^ set(tensors)):
        fault = "missing" if wrong[0] in wanted else "not a tensor of this model"
        raise CheckpointError(f"tensors to write: {wrong[0]} is {fault}; the config implies {len(wanted)}.")
    float_dtype = DTYPE_OF.get(config.dtype or "") or tensors["model.embed_tokens.weight"][0]
    for tensor in manifest.values():
        if tensor.kind.is_packed:
            yield _Planned(tensor, "U8")
            continue
        found = {tensors[cut.name][0] for cut in tensor.cuts} if tensor.kind is Kind.VECTOR else {float_dtype}
        if len(found) > 1 or not found <= {float_dtype, "F32"} or not found <= set(DTYPE_OF.values()):
            raise CheckpointError(
                f"tensors to write: {tensor.name} is {' and '.join(sorted(found))}, not {float_dtype}."
            )
        yield _Planned(tensor, found.pop())


def _write_files(
    directory: Path, config: ModelConfig, plan: list[_Planned], tensors: Tensors, layout: Layout, max_shard_bytes: int
) -> None:
    shards = list(_split(plan, max_shard_bytes))
    pattern = "model-{:05}-of-{:05}.safetensors" if layout == "huggingface" else "model--{:05}-of-{:05}.safetensors"
    names = [pattern.format(number + 1, len(shards)) for number in range(len(shards))] if len(shards) > 1 else [SINGLE]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(directory / name, shard, tensors)
    _write_json(directory / "config.json", config.to_dict(layout=layout))
    if layout == "original":
        tags = {Kind.BLOCKS: "FP4", Kind.SCALES: "UE8"}
        _write_json(directory / DTYPES, {p.tensor.name: tags.get(p.tensor.kind, p.dtype) for p in plan})
    elif len(shards) > 1:
        weight_map = {p.tensor.name: name for name, shard in zip(names, shards, strict=True) for p in shard}
        total = sum(planned.bytes for planned in plan)
        _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _split(plan: list[_Planned], max_shard_bytes: int) -> Iterator[list[_Planned]]:
    """Runs of tensors that fit a file; within one the widest elements come first, so that all are aligned."""
    shard: list[_Planned] = []
    size = 0
    for planned in plan:
        if shard and size + planned.bytes > max_shard_bytes:
            yield sorted(shard, key=_place_in_file)
            shard, size = [], 0
        shard.append(planned)
        size += planned.bytes
    yield sorted(shard, key=_place_in_file)


def _place_in_file(planned: _Planned) -> tuple[int, str]:
    return -ITEMSIZE[planned.dtype], planned.tensor.name


def _write_shard(path: Path, shard: list[_Planned], tensors: Tensors) -> None:
    with path.open("xb") as file:
        file.write(header_bytes(((p.tensor.name, p.dtype, p.tensor.shape) for p in shard), {"format": "pt"}))
        for planned in shard:
            for cut in planned.tensor.cuts:
                dtype, array = tensors[cut.name]
                if dtype != planned.dtype or array.dtype != NUMPY[dtype] or array.shape != cut.shape:
                    raise CheckpointError(
                        f"tensors to write: {cut.name} is {dtype} ({array.dtype}) {list(array.shape)}; "
                        f"expected {planned.dtype} ({NUMPY[planned.dtype]}) {list(cut.shape)}."
                    )
                file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Make the directory's entries durable, as fsync does for a file's bytes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
