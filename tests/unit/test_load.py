"""Loading: the tensors of the network are the bytes of the files, and what cannot be loaded is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ossature.checkpoint import Checkpoint, open_checkpoint, reader
from ossature.checkpoint.mapped import MappedTensor
from ossature.config import Layout
from ossature.errors import BackendError, CheckpointError
from ossature.model import Batch, load_model
from tests.random_checkpoint import small_config, write_random

IDS = [3, 141, 59, 26, 53, 58, 97, 93, 2]
SCALES = "model.layers.1.mlp.experts.down_proj_scales"


def opened(directory: Path, layout: Layout = "huggingface", **changes: object) -> Checkpoint:
    return open_checkpoint(write_random(directory / "checkpoint", small_config(**changes), layout=layout))


def inside_the_files(checkpoint: Checkpoint, tensor: torch.Tensor) -> bool:
    start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    spans = [(np.frombuffer(mapped, np.uint8).ctypes.data, len(mapped)) for mapped in checkpoint.maps]
    return any(begin <= start and start + size <= begin + length for begin, length in spans)


@pytest.mark.parametrize("layout", ["huggingface", "original"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_is_copied_whatever_the_activations_are(tmp_path: Path, layout: Layout, dtype: torch.dtype) -> None:
    checkpoint = opened(tmp_path, layout, dtype="bfloat16")
    model = load_model(checkpoint, dtype=dtype)
    tensors = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n != "inv_freq"}
    assert tensors.keys() == set(checkpoint.names)
    for name, tensor in tensors.items():
        assert inside_the_files(checkpoint, tensor), name
        assert tensor.dtype == (torch.uint8 if name.endswith(("_blocks", "_scales")) else torch.bfloat16)
        assert not tensor.requires_grad
    assert model.dtype == dtype
    assert not model.training


@pytest.mark.parametrize("layout", ["huggingface", "original"])
def test_running_and_writing_leave_the_files_as_they_are(tmp_path: Path, layout: Layout) -> None:
    checkpoint = opened(tmp_path, layout)
    before = [file.read_bytes() for file in checkpoint.files]
    model = load_model(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        first = model(Batch.packed([IDS]))
        for parameter in model.parameters():
            parameter.mul_(2)
        assert not torch.equal(model(Batch.packed([IDS])), first)
    assert [file.read_bytes() for file in checkpoint.files] == before
    fresh = load_model(open_checkpoint(checkpoint.directory), dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(fresh(Batch.packed([IDS])), first)


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("quantization", ["mxfp4", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_stored_dtype_runs_in_every_activation_dtype(
    tmp_path: Path, stored: str, quantization: str | None, dtype: torch.dtype
) -> None:
    model = load_model(opened(tmp_path, dtype=stored, quantization=quantization), dtype=dtype)
    with torch.no_grad():
        logits = model(Batch.packed([IDS]))
    assert logits.shape == (9, 211)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def damage(checkpoint: Checkpoint) -> Checkpoint:
    """The same directory with one scale of layer 1 set to 255."""
    source = checkpoint.sources[SCALES]
    with checkpoint.files[source.file].open("r+b") as file:
        file.seek(source.offset + 7)
        file.write(b"\xff")
    return open_checkpoint(checkpoint.directory)


def test_in_a_large_checkpoint_a_damaged_scale_is_found_when_its_layer_first_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "EAGER_SCALE_BYTES", 0)
    checkpoint = damage(opened(tmp_path))
    model = load_model(checkpoint, dtype=torch.float32)
    for _ in range(2):  # and again whenever it is asked to run
        with torch.no_grad(), pytest.raises(CheckpointError, match=rf"{SCALES} has the scale byte 255"):
            model(Batch.packed([IDS]))
    assert SCALES.replace("layers.1", "layers.0") in checkpoint.checked
    assert SCALES not in checkpoint.checked


def test_in_a_large_checkpoint_every_scale_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "EAGER_SCALE_BYTES", 0)
    checkpoint = opened(tmp_path)
    model = load_model(checkpoint, dtype=torch.float32)
    assert not checkpoint.checked
    asked: list[str] = []
    check = Checkpoint.check_scales

    def counted(self: Checkpoint, name: str, copied: MappedTensor | None = None) -> None:
        asked.append(name)
        check(self, name, copied)

    monkeypatch.setattr(Checkpoint, "check_scales", counted)
    with torch.no_grad():
        first = model(Batch.packed([IDS]))
        assert torch.equal(model(Batch.packed([IDS])), first)
    assert sorted(asked) == sorted(name for name in checkpoint.names if name.endswith("_scales"))
    assert checkpoint.scales_checked


@pytest.mark.parametrize("device", ["cuda:77", "abacus", "mtia"])
def test_a_device_that_is_not_here_is_refused_by_name(tmp_path: Path, device: str) -> None:
    with pytest.raises(BackendError, match=f"device '{device}' cannot be used here"):
        load_model(opened(tmp_path), device=device)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_model_says_whether_it_was_asked_to_be_deterministic(tmp_path: Path, deterministic: bool) -> None:
    assert load_model(opened(tmp_path, "huggingface"), deterministic=deterministic).deterministic is deterministic
