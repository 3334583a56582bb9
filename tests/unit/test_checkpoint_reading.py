"""Sound checkpoints: every tensor comes back as it was written, from either layout and from a download cache."""

import gc
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossature.checkpoint import open_checkpoint, reader
from ossature.config import GenerationConfig, Layout
from ossature.errors import CheckpointError
from tests.damage import edit, join, split
from tests.random_checkpoint import RandomTensors, random_config, small_config, write_random

VARIANTS: dict[str, tuple[Layout, dict[str, Any]]] = {
    "packed float32": ("huggingface", {}),
    "packed bfloat16": ("huggingface", {"dtype": "bfloat16"}),
    "packed, no dtype in the config": ("huggingface", {"dtype": None}),
    "unpacked float32": ("huggingface", {"quantization": None}),
    "unpacked bfloat16 of odd sizes": (
        "huggingface",
        {"quantization": None, "dtype": "bfloat16", "hidden_size": 90, "intermediate_size": 50},
    ),
    "unpacked float16": ("huggingface", {"quantization": None, "dtype": "float16"}),
    "original float32": ("original", {}),
    "original bfloat16": ("original", {"dtype": "bfloat16"}),
}


@pytest.mark.parametrize("shard", [150_000, 1 << 30], ids=["many files", "one file"])
@pytest.mark.parametrize(("layout", "changes"), VARIANTS.values(), ids=VARIANTS.keys())
def test_every_tensor_comes_back_to_the_bit(
    layout: Layout, changes: dict[str, Any], shard: int, tmp_path: Path
) -> None:
    config = small_config(**changes)
    written = RandomTensors(config, 5)
    checkpoint = open_checkpoint(write_random(tmp_path / "c", config, seed=5, layout=layout, max_shard_bytes=shard))
    assert checkpoint.layout == layout
    assert sorted(checkpoint.names) == sorted(written)
    assert (len(checkpoint.files) > 1) == (shard < 1 << 30)
    total = 0
    for name in checkpoint.names:
        tensor, (dtype, array) = checkpoint.tensor(name), written[name]
        assert (tensor.dtype, tensor.shape) == (dtype, array.shape)
        assert tensor.array.tobytes() == array.tobytes()
        assert tensor.array.flags.c_contiguous
        total += array.nbytes
    assert checkpoint.total_bytes == total
    assert checkpoint.scales_checked


@pytest.mark.parametrize("seed", range(10))
def test_both_layouts_present_the_same_tensors(seed: int, tmp_path: Path) -> None:
    config = random_config(seed)
    ours, theirs = (
        open_checkpoint(write_random(tmp_path / layout, config, seed=seed, layout=layout))
        for layout in ("huggingface", "original")
    )
    assert set(ours.names) == set(theirs.names)
    for name in ours.names:
        assert (ours.tensor(name).array == theirs.tensor(name).array).all()


def test_writing_to_an_array_changes_neither_file_nor_later_opening(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c")
    checkpoint = open_checkpoint(directory)
    before = [file.read_bytes() for file in checkpoint.files]
    checkpoint.tensor("model.norm.weight").array[:] = 0
    assert [file.read_bytes() for file in checkpoint.files] == before
    assert open_checkpoint(directory).tensor("model.norm.weight").array.any()


def test_arrays_outlive_their_checkpoint(tmp_path: Path) -> None:
    array = open_checkpoint(write_random(tmp_path / "c")).tensor("lm_head.weight").array
    assert (array == RandomTensors(small_config())["lm_head.weight"][1]).all()


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tensor 'lm_head\.bias'"):
        open_checkpoint(write_random(tmp_path / "c")).tensor("lm_head.bias")


def test_norms_biases_and_sinks_may_be_float32_beside_bfloat16(tmp_path: Path) -> None:
    config = small_config(dtype="bfloat16")
    directory = write_random(tmp_path / "c", config, max_shard_bytes=1 << 30)
    file = directory / "model.safetensors"
    header, data = split(file)
    name = "model.layers.1.self_attn.sinks"
    values = np.arange(6, dtype=np.float32)
    del header[name]
    kept, position = b"", 24
    for entry in sorted((e for key, e in header.items() if key != "__metadata__"), key=lambda e: e["data_offsets"]):
        start, stop = entry["data_offsets"]
        entry["data_offsets"] = [position, position := position + stop - start]
        kept += data[start:stop]
    join(file, header | {name: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, values.tobytes() + kept)
    tensor = open_checkpoint(directory).tensor(name)
    assert tensor.dtype == "F32"
    assert tensor.array.tolist() == values.tolist()


def test_generation_config_is_read_where_there_is_one(tmp_path: Path) -> None:
    settings = GenerationConfig(do_sample=False, eos_token_id=(3, 5), pad_token_id=7)
    assert open_checkpoint(write_random(tmp_path / "with", generation=settings)).generation == settings
    assert open_checkpoint(write_random(tmp_path / "without")).generation == GenerationConfig()


def test_the_parent_of_an_original_directory_is_enough(tmp_path: Path) -> None:
    write_random(tmp_path / "repo" / "original", layout="original")
    checkpoint = open_checkpoint(tmp_path / "repo")
    assert checkpoint.layout == "original"
    assert checkpoint.directory == tmp_path / "repo" / "original"


def test_the_hugging_face_files_win_over_an_original_directory(tmp_path: Path) -> None:
    write_random(tmp_path / "repo")
    write_random(tmp_path / "repo" / "original", layout="original")
    assert open_checkpoint(tmp_path / "repo").layout == "huggingface"


def test_an_original_directory_may_lack_dtypes_and_have_an_index(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c", layout="original")
    (directory / "dtypes.json").unlink()
    (directory / "model.safetensors.index.json").write_text("{}")
    assert open_checkpoint(directory).layout == "original"


@pytest.mark.parametrize("inner", ["", "original"])
def test_links_of_the_download_cache_are_followed(inner: str, tmp_path: Path) -> None:
    repo = tmp_path / "models--openai--gpt-oss"
    snapshot = repo / "snapshots" / "0123abcd" / inner
    write_random(tmp_path / "plain", layout="original" if inner else "huggingface")
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, file in enumerate(sorted((tmp_path / "plain").iterdir())):
        blob = repo / "blobs" / f"{number:064x}"
        shutil.move(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    checkpoint = open_checkpoint(repo / "snapshots" / "0123abcd")
    assert (checkpoint.tensor("lm_head.weight").array == RandomTensors(small_config())["lm_head.weight"][1]).all()


def test_links_out_of_the_download_cache_are_refused(tmp_path: Path) -> None:
    snapshot = write_random(tmp_path / "repo" / "snapshots" / "0123abcd")
    (tmp_path / "repo" / "blobs").mkdir()
    shutil.move(snapshot / "config.json", tmp_path / "repo" / "config.json")
    (snapshot / "config.json").symlink_to("../../config.json")
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        open_checkpoint(snapshot)


def test_links_inside_the_directory_are_followed(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c", max_shard_bytes=1 << 30)
    (directory / "v1").mkdir()
    shutil.move(directory / "model.safetensors", directory / "v1" / "weights")
    (directory / "model.safetensors").symlink_to("v1/weights")
    assert open_checkpoint(directory).scales_checked


def test_the_directory_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    write_random(tmp_path / "c")
    (tmp_path / "link").symlink_to("c")
    assert open_checkpoint(tmp_path / "link").scales_checked


def test_a_file_swapped_for_a_link_after_the_first_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_random(tmp_path / "c", max_shard_bytes=1 << 30)
    file, outside = directory / "model.safetensors", tmp_path / "outside"
    look = os.lstat

    def look_then_swap(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        result = look(path, dir_fd=dir_fd)
        if dir_fd is not None and path == file.name:  # the last look before the file is opened
            file.rename(outside)
            file.symlink_to(outside)
        return result

    monkeypatch.setattr(os, "lstat", look_then_swap)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_checkpoint(directory)


def test_pickles_and_other_files_beside_the_weights_are_not_opened(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c")
    for name in ("pytorch_model.bin", "optimizer.pt", "adapter.safetensors", "tokenizer.json", "metal.ckpt"):
        os.mkfifo(directory / name)  # opening one would wait for ever
    assert open_checkpoint(directory).scales_checked


def test_an_index_with_another_total_size_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_random(tmp_path / "c")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"metadata": {"total_size": 7}}))
    total = open_checkpoint(directory).total_bytes
    (line,) = capsys.readouterr().err.splitlines()
    assert "total_size 7" in line
    assert str(total) in line


def test_opening_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c")
    gc.collect()  # mappings of other tests hold descriptors until they go
    before = os.listdir("/proc/self/fd")
    checkpoint = open_checkpoint(directory)
    del checkpoint
    edit(lambda header: header.pop("__metadata__"))(sorted(directory.glob("*.safetensors"))[-1])
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError):
        open_checkpoint(directory)
    assert os.listdir("/proc/self/fd") == before


class TestLargeCheckpoints:
    """Above the limit for looking at all scales, which these tests put at zero."""

    @pytest.fixture
    def damaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(reader, "EAGER_SCALE_BYTES", 0)
        directory = write_random(tmp_path / "c", max_shard_bytes=1 << 30)
        file = directory / "model.safetensors"
        header, data = split(file)
        changed = bytearray(data)
        changed[header["model.layers.1.mlp.experts.gate_up_proj_scales"]["data_offsets"][1] - 1] = 255
        join(file, header, bytes(changed))
        return directory

    def test_open_without_a_look_at_their_scales(self, damaged: Path) -> None:
        assert not open_checkpoint(damaged).scales_checked

    def test_name_the_scale_of_255_at_first_use(self, damaged: Path) -> None:
        checkpoint = open_checkpoint(damaged)
        checkpoint.check_scales("model.layers.0.mlp.experts.gate_up_proj_scales")
        for _ in range(2):
            with pytest.raises(CheckpointError, match=r"layers\.1\.mlp.*255 \(NaN\) at expert 4, row 319, group 2"):
                checkpoint.check_scales("model.layers.1.mlp.experts.gate_up_proj_scales")

    def test_verify_looks_at_all_of_them(self, damaged: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*layers\.1\.mlp"):
            open_checkpoint(damaged).verify()
        sound = open_checkpoint(write_random(tmp_path / "sound"))
        assert sound.verify() == 6
        assert sound.scales_checked


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_opening_and_mapping_reads_no_weights(tmp_path: Path) -> None:
    directory = write_random(
        tmp_path / "c", small_config(quantization=None, vocab_size=100_000), max_shard_bytes=1 << 30
    )
    before = _resident_bytes()
    checkpoint = open_checkpoint(directory)
    tensors = [checkpoint.tensor(name) for name in checkpoint.names]
    assert sum(tensor.array.nbytes for tensor in tensors) > 70_000_000
    assert _resident_bytes() - before < 10_000_000
