"""Open a checkpoint: its headers are checked against all that its config implies, then the files are mapped."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ossature.checkpoint.files import file_identity, open_regular, read_json
from ossature.checkpoint.layouts import Place, Shards, check_dtypes_file, check_names, find, shards
from ossature.checkpoint.mapped import Checkpoint, Source, map_file
from ossature.checkpoint.names import DTYPE_OF, ITEMSIZE, Kind, StoredTensor, stored
from ossature.checkpoint.safetensors import Extent, read_header
from ossature.config import GenerationConfig, ModelConfig
from ossature.errors import CheckpointError, ConfigError, notice

__all__ = ["open_checkpoint"]

EAGER_SCALE_BYTES = 64 << 20  # up to here every scale is looked at when the checkpoint is opened (some 20 ms)


@dataclass(frozen=True, slots=True)
class _File:
    """An opened file of the checkpoint and the tensors that its header lists."""

    path: Path
    descriptor: int
    extents: Mapping[str, Extent]


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in directory `path`, checked against the manifest that its config implies, then mapped.

    Accepts the Hugging Face layout (an index and shards, or one file) and the original layout (also as the folder
    `original` of `path`). Reads headers and small JSON files; up to 64 MiB of scales are looked at for the byte 255,
    more only when `Checkpoint.check_scales` is called. Raises CheckpointError naming file and tensor, what was expected
    and what was found.
    """
    place = find(Path(path))
    try:
        config = ModelConfig.from_dict(place.config, layout=place.layout)
        manifest = stored(config, place.layout)
    except ConfigError as error:
        raise CheckpointError(f"{place.directory / 'config.json'}: {error}") from error
    generation = _generation_config(place)
    wanted = shards(place, manifest)
    with ExitStack() as stack:  # a file is opened once: what is checked is what is mapped
        files: list[_File] = []
        for name in wanted.files:
            descriptor, file = stack.enter_context(open_regular(place.directory, name)), place.directory / name
            files.append(_File(file, descriptor, read_header(descriptor, file)))
        file_of = _locate(place, wanted, files, manifest)
        _check_tensors(place, config, files, file_of, manifest)
        maps = tuple(map_file(file.descriptor, file.path) for file in files)
        identities = tuple(file_identity(file.descriptor) for file in files)
    total = sum(extent.stop - extent.start for file in files for extent in file.extents.values())
    if wanted.total_size not in (None, total):
        notice(f"{place.directory}: the index gives total_size {str(wanted.total_size)[:40]}; the tensors take {total}")
    checkpoint = Checkpoint(
        directory=place.directory,
        layout=place.layout,
        config=config,
        generation=generation,
        files=tuple(file.path for file in files),
        total_bytes=total,
        identities=identities,
        fingerprint=_fingerprint(files, identities),
        sources=dict(_sources(manifest, files, file_of)),
        maps=maps,
    )
    if sum(math.prod(tensor.shape) for tensor in manifest.values() if tensor.kind is Kind.SCALES) <= EAGER_SCALE_BYTES:
        checkpoint.verify()
    return checkpoint


def _fingerprint(files: list[_File], identities: tuple[tuple[int, ...], ...]) -> str:
    digest = blake2b(digest_size=16)
    for file, identity in zip(files, identities, strict=True):
        digest.update(f"{file.path.name} {identity}\n".encode())
        for extent in file.extents.values():
            digest.update(f"{extent}\n".encode())
    return digest.hexdigest()


def _generation_config(place: Place) -> GenerationConfig:
    name = "generation_config.json"
    try:
        return GenerationConfig.from_dict(read_json(place.directory, name) if name in place.entries else {})
    except ConfigError as error:
        raise CheckpointError(f"{place.directory / name}: {error}") from error


def _locate(place: Place, wanted: Shards, files: list[_File], manifest: Mapping[str, StoredTensor]) -> dict[str, int]:
    """File number of each tensor: every tensor of the manifest is in one file, and in the one that an index says."""
    file_of: dict[str, int] = {}
    for number, (file, expected) in enumerate(zip(files, wanted.files.values(), strict=True)):
        for name in file.extents:
            if name in file_of:
                other = files[file_of[name]].path.name
                raise CheckpointError(f"{file.path}: {name} is also in {other}; a tensor is expected in one file only.")
            if expected is not None and name in manifest and name not in expected:
                raise CheckpointError(f"{file.path}: {name} is here, but the index says it is in another file.")
            file_of[name] = number
        missing = () if expected is None else expected - file.extents.keys()
        because = "" if len(files) == 1 else "the index says it is in this file"
        check_names(file.extents, manifest, missing, file.path, because)
    check_names(file_of, manifest, manifest.keys() - file_of.keys(), place.directory)
    return file_of


def _check_tensors(
    place: Place,
    config: ModelConfig,
    files: list[_File],
    file_of: Mapping[str, int],
    manifest: Mapping[str, StoredTensor],
) -> None:
    """Shape, dtype and alignment of every tensor; all matrices have the config's dtype, or else the embedding's."""
    dtypes: dict[str, str] = {}
    float_dtype = DTYPE_OF.get(config.dtype or "")
    for name, tensor in manifest.items():  # the embedding comes first
        file = files[file_of[name]]
        extent, where = file.extents[name], f"{file.path}: {name}"
        if extent.shape != tensor.shape:
            raise CheckpointError(f"{where} has shape {list(extent.shape)}; config.json implies {list(tensor.shape)}.")
        if tensor.kind.is_packed:
            allowed = ("U8",)
        elif float_dtype is None:
            allowed = tuple(DTYPE_OF.values())
            float_dtype = extent.dtype
        else:
            allowed = (float_dtype,) if tensor.kind is Kind.MATRIX else (float_dtype, "F32")
        if extent.dtype not in allowed:
            raise CheckpointError(f"{where} is {extent.dtype}; expected {' or '.join(dict.fromkeys(allowed))}.")
        if extent.start % ITEMSIZE[extent.dtype]:
            raise CheckpointError(
                f"{where} begins at byte {extent.start}, where no {extent.dtype} can be mapped from; "
                "write the file again with safetensors 0.3 or later."
            )
        dtypes[name] = extent.dtype
    check_dtypes_file(place, manifest, dtypes)


def _sources(
    manifest: Mapping[str, StoredTensor], files: list[_File], file_of: Mapping[str, int]
) -> Iterator[tuple[str, Source]]:
    """Canonical name and place of every tensor; the parts of a stacked one follow each other row by row."""
    for name, tensor in manifest.items():
        extent = files[file_of[name]].extents[name]
        offset = extent.start
        for cut in tensor.cuts:
            yield cut.name, Source(file_of[name], offset, extent.dtype, cut.shape, cut.kind)
            offset += math.prod(cut.shape) * ITEMSIZE[extent.dtype]
