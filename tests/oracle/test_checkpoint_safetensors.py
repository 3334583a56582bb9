"""Our safetensors files against the safetensors library: each reads what the other wrote, and the bytes are equal."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ossature.checkpoint import open_checkpoint
from ossature.config import Layout
from tests.random_checkpoint import RandomTensors, random_config, small_config, write_random

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "U8": torch.uint8}


def _library(files: tuple[Path, ...]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    return tensors


@pytest.mark.parametrize("seed", range(5))
def test_the_library_reads_our_files_with_equal_bytes(seed: int, tmp_path: Path) -> None:
    config = random_config(seed, dtype=("bfloat16", "float32")[seed % 2])
    checkpoint = open_checkpoint(write_random(tmp_path / "c", config, seed=seed))
    read = _library(checkpoint.files)
    assert set(read) == set(checkpoint.names)
    for name, (dtype, array) in RandomTensors(config, seed).items():
        assert read[name].dtype == TORCH[dtype]
        assert tuple(read[name].shape) == array.shape
        assert read[name].view(torch.uint8).numpy().tobytes() == array.tobytes()


def test_the_library_reads_the_stacked_tensors_of_the_original_layout(tmp_path: Path) -> None:
    layout: Layout = "original"
    checkpoint = open_checkpoint(write_random(tmp_path / "c", layout=layout))
    read = _library(checkpoint.files)
    parts = [checkpoint.tensor(f"model.layers.1.self_attn.{name}_proj.weight").array for name in "qkv"]
    assert (read["block.1.attn.qkv.weight"].numpy() == np.concatenate(parts)).all()
    assert len(read) == 3 * 15 + 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_we_read_the_librarys_files_and_write_the_same_bytes(dtype: str, tmp_path: Path) -> None:
    config = small_config(dtype=dtype)
    directory = write_random(tmp_path / "c", config, max_shard_bytes=1 << 30)
    file = directory / "model.safetensors"
    ours = file.read_bytes()
    tensors = {
        name: torch.from_numpy(array.copy()).view(TORCH[stored])
        for name, (stored, array) in RandomTensors(config).items()
    }
    save_file(tensors, file, {"format": "pt"})
    assert file.read_bytes() == ours
    checkpoint = open_checkpoint(directory)
    for name, (_, array) in RandomTensors(config).items():
        assert checkpoint.tensor(name).array.tobytes() == array.tobytes()
