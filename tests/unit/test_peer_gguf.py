"""The GGUF file for llama.cpp, read back by the container's own package: the same weights, in ggml's layouts."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.peer import gguf_file
from bench.peer.gguf_file import relay, write_gguf
from ossature import mxfp4
from ossature.checkpoint import Checkpoint, open_checkpoint
from ossature.config import FULL, ModelConfig
from ossature.errors import CheckpointError
from tests.random_checkpoint import small_config, write_random

CONFIG = small_config(num_attention_heads=4, head_dim=32, dtype="bfloat16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(write_random(tmp_path_factory.mktemp("peer") / "c", CONFIG))


@pytest.fixture(scope="module")
def written(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> gguf.GGUFReader:
    path = tmp_path_factory.mktemp("gguf") / "c.gguf"
    write_gguf(checkpoint, path)
    return gguf.GGUFReader(path)


def tensor(reader: gguf.GGUFReader, name: str) -> NDArray[np.float32]:
    """Its values, shape as numpy has it."""
    found = next(tensor for tensor in reader.tensors if tensor.name == name)
    return gguf.quants.dequantize(found.data, found.tensor_type)


def floats(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    return (checkpoint.tensor(name).array.astype(np.uint32) << 16).view(np.float32)


def experts(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    blocks, scales = (checkpoint.tensor(f"{name}_{part}").array for part in ("blocks", "scales"))
    return mxfp4.decode(blocks.view(np.uint8), scales.view(np.uint8))


@pytest.mark.parametrize("layer", range(CONFIG.num_hidden_layers))
def test_expert_matrices_are_the_same_to_the_bit(checkpoint: Checkpoint, written: gguf.GGUFReader, layer: int) -> None:
    ours, theirs = f"model.layers.{layer}.mlp.experts", f"blk.{layer}"
    gate_up, down = experts(checkpoint, f"{ours}.gate_up_proj"), experts(checkpoint, f"{ours}.down_proj")
    for name, expected in (("gate", gate_up[:, 0::2]), ("up", gate_up[:, 1::2]), ("down", down)):
        assert np.array_equal(tensor(written, f"{theirs}.ffn_{name}_exps.weight"), expected), name
    bias = floats(checkpoint, f"{ours}.gate_up_proj_bias")
    assert np.array_equal(tensor(written, f"{theirs}.ffn_gate_exps.bias"), bias[:, 0::2])
    assert np.array_equal(tensor(written, f"{theirs}.ffn_up_exps.bias"), bias[:, 1::2])
    assert np.array_equal(tensor(written, f"{theirs}.ffn_down_exps.bias"), floats(checkpoint, f"{ours}.down_proj_bias"))


def test_every_nibble_of_a_block_finds_its_place() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (3, 5, 4, 16), np.uint8)
    scales = rng.integers(0, 255, (3, 5, 4), np.uint8)
    laid = gguf.quants.dequantize(relay(blocks, scales), gguf.GGMLQuantizationType.MXFP4)
    assert np.array_equal(laid, mxfp4.decode(blocks, scales))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output.weight", "lm_head.weight"),
        *(
            (f"blk.1.attn_{theirs}.weight", f"model.layers.1.self_attn.{ours}_proj.weight")
            for theirs, ours in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o"))
        ),
    ],
)
def test_dense_matrices_are_within_half_a_step_of_q8_0(
    checkpoint: Checkpoint, written: gguf.GGUFReader, name: str, source: str
) -> None:
    expected = floats(checkpoint, source)
    blocks = expected.reshape(*expected.shape[:-1], -1, 32)
    step = np.repeat(np.abs(blocks).max(axis=-1) / 127, 32, axis=-1)
    half = 0.5 + 127 * 2.0**-11  # the step itself is rounded to float16, which the largest of 127 steps feels most
    assert (np.abs(tensor(written, name) - expected) <= half * step).all()


def test_the_router_norms_biases_and_sinks_are_float32_and_exact(
    checkpoint: Checkpoint, written: gguf.GGUFReader
) -> None:
    for name, source in (
        ("output_norm.weight", "model.norm.weight"),
        ("blk.2.attn_norm.weight", "model.layers.2.input_layernorm.weight"),
        ("blk.2.post_attention_norm.weight", "model.layers.2.post_attention_layernorm.weight"),
        ("blk.2.attn_sinks.weight", "model.layers.2.self_attn.sinks"),
        ("blk.2.attn_output.bias", "model.layers.2.self_attn.o_proj.bias"),
        ("blk.2.ffn_gate_inp.weight", "model.layers.2.mlp.router.weight"),
        ("blk.2.ffn_gate_inp.bias", "model.layers.2.mlp.router.bias"),
    ):
        assert np.array_equal(tensor(written, name), floats(checkpoint, source)), name


def test_the_keys_say_what_the_config_says(written: gguf.GGUFReader) -> None:
    expected = {
        "general.architecture": "gpt-oss",
        "tokenizer.ggml.model": "none",
        "gpt-oss.vocab_size": CONFIG.vocab_size,
        "gpt-oss.block_count": CONFIG.num_hidden_layers,
        "gpt-oss.embedding_length": CONFIG.hidden_size,
        "gpt-oss.expert_feed_forward_length": CONFIG.intermediate_size,
        "gpt-oss.expert_used_count": CONFIG.num_experts_per_tok,
        "gpt-oss.attention.head_count_kv": CONFIG.num_key_value_heads,
        "gpt-oss.attention.key_length": CONFIG.head_dim,
        "gpt-oss.attention.sliding_window": CONFIG.sliding_window,
        "gpt-oss.rope.scaling.factor": 16.0,
        "gpt-oss.rope.scaling.original_context_length": 64,
    }
    assert {key: written.fields[key].contents() for key in expected} == expected
    assert len(written.tensors) == 19 * CONFIG.num_hidden_layers + 3


REFUSED = {
    "unquantised": (replace(CONFIG, quantization=None), "unquantised experts"),
    "another activation": (replace(CONFIG, swiglu_limit=5.0), "swiglu_alpha and swiglu_limit"),
    "no window first": (replace(CONFIG, layer_types=(FULL,) * 3), "layer_types"),
    "half a block": (small_config(head_dim=20), "multiple of 32"),
}


@pytest.mark.parametrize(("config", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_model_that_llama_cpp_cannot_hold_is_refused(config: ModelConfig, says: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_random(tmp_path / "c", config))
    with pytest.raises(CheckpointError, match=says):
        write_gguf(checkpoint, tmp_path / "c.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_file_that_is_there_stays(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "c.gguf").write_text("mine")
    with pytest.raises(CheckpointError, match="exists"):
        write_gguf(checkpoint, tmp_path / "c.gguf")
    assert (tmp_path / "c.gguf").read_text() == "mine"


def test_the_disk_is_asked_for_room_before_the_file_is_written(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match="1,000 bytes are free"):
        write_gguf(checkpoint, tmp_path / "c.gguf")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_leaves_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NDArray[np.generic]:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_file, "_stored", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_gguf(checkpoint, tmp_path / "c.gguf")
    assert list(tmp_path.iterdir()) == []
