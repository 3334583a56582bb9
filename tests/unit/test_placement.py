"""Where weights lie: mapped, copied into memory or read from the disk as they are chosen; and their int8 copy."""

from pathlib import Path

import pytest
import torch

from ossature.checkpoint import Checkpoint, copy_to_memory, open_checkpoint
from ossature.errors import BackendError, CheckpointError, ConfigError
from ossature.model import Batch, Transformer, int8, load, load_model
from ossature.model.transformer import Experts
from ossature.ops import Int8Matrix, cpu
from tests.random_checkpoint import small_config, write_random

IDS = [3, 141, 59, 26, 53, 58, 97, 93, 2]
# Every dense matrix has whole blocks of 32: 4 heads of 24 are 96.
SIZES = {"num_attention_heads": 4, "head_dim": 24, "dtype": "bfloat16"}
DENSE = {f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(3) for p in "qkvo"} | {"lm_head.weight"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_random(tmp_path / "checkpoint", small_config(**SIZES)))


def logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model(Batch.packed([IDS]))


def with_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let so many bytes be available for weights, small ones included."""
    monkeypatch.setattr(load, "available_bytes", lambda: load.BESIDE_WEIGHTS + size)
    monkeypatch.setattr(load, "SMALL", 0)


def test_resident_weights_are_the_files_to_the_bit(checkpoint: Checkpoint) -> None:
    copied = copy_to_memory(checkpoint, checkpoint.names, threads=3)
    assert copied.keys() == set(checkpoint.names)
    for name, tensor in copied.items():
        assert tensor.array.tobytes() == checkpoint.tensor(name).array.tobytes()
        assert (tensor.dtype, tensor.shape) == (checkpoint.sources[name].dtype, checkpoint.sources[name].shape)
    assert copy_to_memory(checkpoint, (), threads=1) == {}


def test_tensors_longer_than_a_piece_are_copied_whole(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossature.checkpoint.resident._PIECE", 1000)
    name = "model.layers.0.mlp.experts.gate_up_proj_blocks"
    assert (
        copy_to_memory(checkpoint, [name], threads=2)[name].array.tobytes() == checkpoint.tensor(name).array.tobytes()
    )


def test_wherever_the_weights_lie_the_logits_are_the_same(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mapped, resident = (load_model(checkpoint, weights=weights) for weights in ("mapped", "resident"))
    assert (mapped.placement, resident.placement) == ("mapped", "resident")
    assert capsys.readouterr().err == ""
    with_memory(monkeypatch, 200_000)
    streamed = load_model(checkpoint)
    assert streamed.placement == "streamed"
    said = capsys.readouterr().err
    assert "do not fit" in said
    assert "tokens/s" in said
    assert torch.equal(logits(mapped), logits(resident))
    assert torch.equal(logits(mapped), logits(streamed))


def test_auto_copies_what_fits_and_maps_what_is_small(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(checkpoint).placement == "mapped"
    with_memory(monkeypatch, 100_000_000)
    assert load_model(checkpoint).placement == "resident"


def test_resident_weights_that_do_not_fit_are_refused_with_both_numbers(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 1000)
    with pytest.raises(ConfigError, match=r"needs 0\.0 GB beside 2\.1 GB .* and 2\.1 GB of memory are available"):
        load_model(checkpoint, weights="resident")


def test_a_file_changed_after_it_was_opened_is_not_copied(checkpoint: Checkpoint) -> None:
    checkpoint.files[0].touch()
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        load_model(checkpoint, weights="resident")


@pytest.mark.parametrize(
    ("option", "message"), [({"numerics": "quick"}, "numerics is 'quick'"), ({"weights": "here"}, "weights is 'here'")]
)
def test_an_unknown_choice_is_refused(checkpoint: Checkpoint, option: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(checkpoint, **option)  # pyright: ignore[reportArgumentType]


def test_fast_reads_int8_in_attention_and_unembedding_and_nowhere_else(checkpoint: Checkpoint) -> None:
    model = load_model(checkpoint, numerics="fast")
    held = {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(getattr(module, "int8", None), Int8Matrix)
    }
    assert held == DENSE
    assert all(module.int8 for module in model.modules() if isinstance(module, Experts))
    exact = load_model(checkpoint)
    assert not torch.equal(logits(model), logits(exact))
    state = torch.randn(3, 96).bfloat16()
    with torch.no_grad():
        rounded, stored = model.lm_head(state), exact.lm_head(state)
    assert 0 < (rounded - stored).norm() / stored.norm() < 0.02


def test_where_a_gradient_is_asked_for_fast_computes_with_the_stored_weights(checkpoint: Checkpoint) -> None:
    fast, exact = (load_model(checkpoint, numerics=n, dtype=torch.float32) for n in ("fast", "exact"))
    for model in (fast, exact):
        model.requires_grad_(False)
        model.model.norm.weight.requires_grad_()
    unembedded = [model(Batch.packed([IDS])) for model in (fast, exact)]
    assert unembedded[0].grad_fn is not None
    state = torch.randn(3, 96, requires_grad=True)
    assert torch.equal(fast.lm_head(state), exact.lm_head(state))


def test_fast_is_refused_without_kernels(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "available", False)
    monkeypatch.setattr(cpu, "reason", "no compiled kernels here")
    with pytest.raises(BackendError, match="no compiled kernels here"):
        load_model(checkpoint, numerics="fast")


def test_the_int8_copy_is_made_once_and_read_back_to_the_bit(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = logits(load_model(checkpoint, numerics="fast", int8_cache=cache))
    assert "rounding" in capsys.readouterr().err
    monkeypatch.setattr(Int8Matrix, "quantize", None)  # from here on nothing may be rounded
    for weights in ("mapped", "resident"):
        assert torch.equal(first, logits(load_model(checkpoint, numerics="fast", weights=weights, int8_cache=cache)))
    assert capsys.readouterr().err == ""
    assert [file.name for file in cache.iterdir()] == [f"{checkpoint.fingerprint}.safetensors"]


@pytest.mark.parametrize("damage", ["cut short", "of other sizes", "empty"])
def test_a_damaged_int8_copy_is_made_again_and_said(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole = int8.int8_matrices(checkpoint, None)
    int8.int8_matrices(checkpoint, tmp_path)
    file = tmp_path / f"{checkpoint.fingerprint}.safetensors"
    if damage == "of other sizes":
        other = open_checkpoint(write_random(tmp_path / "other", small_config(**SIZES | {"vocab_size": 77})))
        int8.int8_matrices(other, tmp_path)
        (tmp_path / f"{other.fingerprint}.safetensors").rename(file)
    else:
        file.write_bytes(file.read_bytes()[:-5] if damage == "cut short" else b"")
    capsys.readouterr()
    again = int8.int8_matrices(checkpoint, tmp_path)
    assert "made again" in capsys.readouterr().err
    for name, matrix in whole.items():
        assert torch.equal(matrix.values, again[name].values)
        assert torch.equal(matrix.scales, again[name].scales)


def test_where_the_int8_copy_cannot_be_kept_it_is_made_in_memory_and_said(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file where the directory should be")
    matrices = int8.int8_matrices(checkpoint, tmp_path / "taken")
    assert matrices.keys() == DENSE
    assert "is not kept" in capsys.readouterr().err


def test_another_time_or_inode_is_another_fingerprint(tmp_path: Path) -> None:
    directory = write_random(tmp_path / "checkpoint", small_config(**SIZES))
    before = open_checkpoint(directory).fingerprint
    assert open_checkpoint(directory).fingerprint == before
    next(directory.glob("*.safetensors")).touch()
    assert open_checkpoint(directory).fingerprint != before


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(35, 96, generator=torch.Generator().manual_seed(0))
    weight[3, 32:64] = 0
    matrix = Int8Matrix.quantize(weight)
    step = matrix.scales.float().repeat_interleave(32, dim=1)
    # The scale is rounded to bfloat16 first: the largest value of a block may then lie half a step beyond 127.
    assert ((matrix.dequantize() - weight).abs() <= step * 0.5 + step * 127 * 2**-9 + 1e-12).all()
    assert int(matrix.values.min()) >= -127
    assert (matrix.values[3, 32:64] == 0).all()
