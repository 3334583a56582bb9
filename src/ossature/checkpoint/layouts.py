"""Which files of a directory hold which tensors, in the two published layouts."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from ossature.checkpoint.files import read_json
from ossature.checkpoint.names import Kind, StoredTensor
from ossature.config import Layout
from ossature.errors import CheckpointError

__all__ = ["DTYPES", "INDEX", "SINGLE", "Place", "Shards", "check_dtypes_file", "check_names", "find", "shards"]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
DTYPES = "dtypes.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")
_MOST_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is: its directory and the entries of it, the parsed `config.json`, the layout."""

    directory: Path
    entries: frozenset[str]
    config: dict[str, object]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Shards:
    """The files to open, each with the tensors it must hold (None: any of the manifest), and an index's total_size."""

    files: dict[str, frozenset[str] | None]
    total_size: object = None


def find(path: Path) -> Place:
    """The checkpoint in `path`, or in `path/original` when `path` itself holds none. Raises CheckpointError."""
    if not path.is_dir():
        found = "not a directory" if os.path.lexists(path) else "no such directory"
        raise CheckpointError(
            f"{path}: {found}. Give the directory that holds config.json and the *.safetensors files."
        )
    entries = _entries(path)
    if not _weights(entries) and "config.json" not in entries and (path / "original").is_dir():
        path = path / "original"
        if path.is_symlink():
            raise CheckpointError(f"{path}: a symbolic link to {os.readlink(path)!r}. Give that directory itself.")
        entries = _entries(path)
    if not _weights(entries):
        if pickles := sorted(name for name in entries if name.endswith(_PICKLES)):
            raise CheckpointError(
                f"{path / pickles[0]}: a pickle file, which can run any code when it is read, so it is never opened. "
                "Get the model's *.safetensors files, or have it converted on a machine where that code may run."
            )
        raise CheckpointError(f"{path}: no checkpoint here; looked for {SINGLE}, {INDEX} and any *.safetensors.")
    config = read_json(path, "config.json")
    is_original = not config.keys().isdisjoint(("rope_scaling_factor", "rope_ntk_alpha", "rope_ntk_beta"))
    return Place(path, entries, config, "original" if is_original else "huggingface")


def _entries(directory: Path) -> frozenset[str]:
    names: list[str] = []
    try:
        with os.scandir(directory) as entries:
            names.extend(entry.name for entry in islice(entries, _MOST_ENTRIES + 1))
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be listed ({error.strerror}).") from error
    if len(names) > _MOST_ENTRIES:
        raise CheckpointError(f"{directory}: more than {_MOST_ENTRIES} entries; a checkpoint has a few dozen.")
    return frozenset(names)


def _weights(entries: Iterable[str]) -> list[str]:
    return sorted(name for name in entries if name == INDEX or (name.endswith(".safetensors") and name[0] != "."))


def shards(place: Place, manifest: Mapping[str, StoredTensor]) -> Shards:
    """The files to open. Raises CheckpointError when there is none, or when the index disagrees with the manifest."""
    if place.layout == "original":
        return Shards({name: None for name in _weights(place.entries) if name != INDEX})
    if INDEX in place.entries and SINGLE in place.entries:
        raise CheckpointError(f"{place.directory}: both {INDEX} and {SINGLE}; remove the one that is not this model.")
    if INDEX in place.entries:
        return _read_index(place, manifest)
    if SINGLE in place.entries:
        return Shards({SINGLE: frozenset(manifest)})
    raise CheckpointError(
        f"{place.directory}: neither {INDEX} nor {SINGLE}, and config.json is not of the original layout."
    )


def _read_index(place: Place, manifest: Mapping[str, StoredTensor]) -> Shards:
    path = place.directory / INDEX
    index = read_json(place.directory, INDEX)
    weight_map, metadata = index.get("weight_map"), index.get("metadata")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{path}: weight_map is missing, or not an object.")
    file_of = cast("dict[str, object]", weight_map)
    check_names(file_of, manifest, manifest.keys() - file_of.keys(), path)
    files: dict[str, set[str]] = {}
    for name, file in file_of.items():
        if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
            raise CheckpointError(
                f"{path}: {name} is said to be in {str(file)[:100]!r}; expected a *.safetensors file beside the index."
            )
        files.setdefault(file, set()).add(name)
    total = cast("dict[str, object]", metadata).get("total_size") if isinstance(metadata, dict) else None
    return Shards({file: frozenset(names) for file, names in files.items()}, total)


def check_names(
    found: Iterable[str], manifest: Mapping[str, StoredTensor], missing: Collection[str], path: Path, because: str = ""
) -> None:
    """Refuse names in `found` that the manifest does not have, then `missing` ones, `because` they were expected."""
    for name in found:
        if name not in manifest:
            raise CheckpointError(
                f"{path}: {name[:256]!r} is no tensor of the model that config.json describes.{_hint(name, manifest)}"
            )
    if missing:
        others = f" and {len(missing) - 1} more are missing" if len(missing) > 1 else " is missing"
        because = because or f"config.json implies {len(manifest)} tensors"
        raise CheckpointError(f"{path}: {min(missing)}{others}; {because}.")


def _hint(name: str, manifest: Mapping[str, StoredTensor]) -> str:
    packed = any(tensor.kind is Kind.BLOCKS for tensor in manifest.values())
    if name.endswith(("_blocks", "_scales")) and not packed:
        return " It is an MXFP4 tensor: is quantization_config missing from config.json?"
    if name.endswith(("experts.gate_up_proj", "experts.down_proj")) and packed:
        return " It is an unquantised tensor, and config.json has a quantization_config."
    return ""


def check_dtypes_file(place: Place, manifest: Mapping[str, StoredTensor], dtypes: Mapping[str, str]) -> None:
    """`dtypes.json`, where an original layout has one, says FP4, UE8 or the dtype of the file's header."""
    if place.layout != "original" or DTYPES not in place.entries:
        return
    path = place.directory / DTYPES
    said = read_json(place.directory, DTYPES)
    check_names(said, manifest, manifest.keys() - said.keys(), path)
    for name, tensor in manifest.items():
        expected = {Kind.BLOCKS: "FP4", Kind.SCALES: "UE8"}.get(tensor.kind, dtypes[name])
        if said[name] != expected:
            raise CheckpointError(
                f"{path}: {name} is said to be {str(said[name])[:40]!r}; the file holds {expected!r}."
            )
