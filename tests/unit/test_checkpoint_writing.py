"""Writing a checkpoint: a whole directory or nothing at all."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ossature.checkpoint import open_checkpoint, write_checkpoint, writer
from ossature.errors import CheckpointError, ConfigError
from tests.random_checkpoint import RandomTensors, small_config, write_random

CONFIG = small_config()


def _changed(name: str, value: tuple[str, Any] | None) -> dict[str, tuple[str, Any]]:
    tensors = dict(RandomTensors(CONFIG)) | {name: value}
    return {key: item for key, item in tensors.items() if item is not None}


NORM = "model.norm.weight"
HEAD = "lm_head.weight"
WRONG: dict[str, tuple[dict[str, tuple[str, Any]], str]] = {
    "missing": (_changed(NORM, None), f"{NORM} is missing"),
    "unknown": (_changed("model.norm.bias", ("F32", np.zeros(96, np.float32))), "model.norm.bias is not a tensor"),
    "transposed": (_changed(HEAD, ("F32", np.zeros((96, 211), np.float32))), f"{HEAD} is F32 (float32) [96, 211]"),
    "of another dtype": (_changed(HEAD, ("BF16", np.zeros((211, 96), np.uint16))), f"{HEAD} is BF16"),
    "of another array": (_changed(HEAD, ("F32", np.zeros((211, 96), np.float16))), f"{HEAD} is F32 (float16)"),
    "a vector of another dtype": (_changed(NORM, ("F16", np.zeros(96, np.float16))), f"{NORM} is F16"),
}


@pytest.mark.parametrize(("tensors", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_tensor_that_does_not_fit_leaves_nothing(
    tensors: dict[str, tuple[str, Any]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        write_checkpoint(tmp_path / "c", CONFIG, tensors)
    assert says in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes").touch()
    for target in (tmp_path / "c", tmp_path / "c" / "notes"):
        with pytest.raises(CheckpointError, match="exists and is not empty"):
            write_random(target)
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "notes"]


def test_an_empty_or_missing_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "new" / "deep"):
        assert open_checkpoint(write_random(target)).scales_checked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_a_new_checkpoint_can_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        directory = write_random(tmp_path / "c")
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o640}


def test_the_disk_is_asked_for_room_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match="1,000 bytes are free"):
        write_random(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from ossature.errors import CheckpointError\n"
        "from tests.random_checkpoint import write_random\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # the system itself refuses to write more
        "try: write_random(Path(sys.argv[1]) / 'c')\n"
        "except CheckpointError as error: print(error)\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "writing 934,980 bytes failed" in printed
    assert list(tmp_path.iterdir()) == []


class _Interrupted(Mapping[str, tuple[str, Any]]):
    """Tensors of which one never comes."""

    def __init__(self) -> None:
        self.tensors = RandomTensors(CONFIG)

    def __getitem__(self, name: str) -> tuple[str, Any]:
        if name == HEAD:
            raise KeyboardInterrupt
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "c", CONFIG, _Interrupted())
    assert list(tmp_path.iterdir()) == []


def test_files_hold_at_most_what_was_asked_for(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "c", max_shard_bytes=160_000)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    largest = max(array.nbytes for _, array in RandomTensors(CONFIG).values())
    sizes = {file.name: file.stat().st_size for file in directory.glob("*.safetensors")}
    assert set(index["weight_map"].values()) == set(sizes)
    assert all(size <= max(160_000, largest) + 8192 for size in sizes.values())  # 8192: more than any header here
    assert index["metadata"]["total_size"] == open_checkpoint(directory).total_bytes


def test_a_model_that_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    for changes in ({"quantization": None}, {"rope_scaling": None}):
        with pytest.raises(ConfigError):
            write_random(tmp_path / "c", small_config(**changes), layout="original")
    assert list(tmp_path.iterdir()) == []


def test_a_seed_gives_the_same_files(tmp_path: Path) -> None:
    first, second, other = (write_random(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    contents = [{file.name: file.read_bytes() for file in directory.iterdir()} for directory in (first, second, other)]
    assert contents[0] == contents[1] != contents[2]
