"""The table of tensors, against the figures published for gpt-oss-20b and gpt-oss-120b."""

import math
from typing import Any

import pytest

from ossature.checkpoint import bytes_by_part, parameter_counts
from ossature.checkpoint.names import Kind, stored, tensors
from ossature.config import ModelConfig
from ossature.errors import ConfigError
from tests.published_configs import huggingface
from tests.random_checkpoint import random_config, small_config

# parameters in all, active ones, bytes of all tensors, tensors in the Hugging Face and in the original layout
PUBLISHED = {
    "20b": (20_914_757_184, 3_608_307_264, 13_761_264_768, 459, 363),
    "120b": (116_829_156_672, 5_132_849_472, 65_248_815_744, 687, 543),
}


@pytest.mark.parametrize(("size", "published"), PUBLISHED.items())
def test_counts_and_bytes_are_the_published_ones(size: str, published: tuple[int, ...]) -> None:
    config = ModelConfig.from_dict(huggingface(size))
    counts = parameter_counts(config)
    layouts = (stored(config, "huggingface"), stored(config, "original"))
    assert (counts.total, counts.active, sum(bytes_by_part(config).values()), *map(len, layouts)) == published


def test_shapes_of_the_published_tensors() -> None:
    config = ModelConfig.from_dict(huggingface("120b"))
    hf, original = stored(config, "huggingface"), stored(config, "original")
    expected = {
        "model.layers.35.self_attn.q_proj.weight": (4096, 2880),
        "model.layers.35.self_attn.k_proj.bias": (512,),
        "model.layers.35.self_attn.o_proj.weight": (2880, 4096),
        "model.layers.35.self_attn.sinks": (64,),
        "model.layers.35.mlp.router.weight": (128, 2880),
        "model.layers.35.mlp.experts.gate_up_proj_blocks": (128, 5760, 90, 16),
        "model.layers.35.mlp.experts.gate_up_proj_scales": (128, 5760, 90),
        "model.layers.35.mlp.experts.down_proj_blocks": (128, 2880, 90, 16),
        "model.layers.35.mlp.experts.down_proj_bias": (128, 2880),
        "lm_head.weight": (201088, 2880),
    }
    assert {name: hf[name].shape for name in expected} == expected
    assert original["block.35.attn.qkv.weight"].shape == (5120, 2880)
    assert original["block.35.attn.qkv.bias"].shape == (5120,)
    assert original["block.35.mlp.mlp1_weight.blocks"].shape == (128, 5760, 90, 16)


@pytest.mark.parametrize("seed", range(10))
def test_both_layouts_hold_the_same_tensors(seed: int) -> None:
    config = random_config(seed)
    canonical = [tensor.name for tensor in tensors(config)]
    for layout in ("huggingface", "original"):
        manifest = stored(config, layout)
        cuts = [cut for tensor in manifest.values() for cut in tensor.cuts]
        assert sorted(cut.name for cut in cuts) == sorted(canonical)
        assert sum(math.prod(t.shape) for t in manifest.values()) == sum(math.prod(cut.shape) for cut in cuts)
        assert all(name == tensor.name for name, tensor in manifest.items())
    assert len(set(canonical)) == len(canonical)


def test_packed_and_unpacked_experts_have_as_many_parameters() -> None:
    packed, plain = small_config(), small_config(quantization=None)
    assert parameter_counts(packed) == parameter_counts(plain)
    shapes = {t.name: t.shape for t in tensors(plain) if t.part == "experts" and ".0." in t.name}
    assert shapes == {
        "model.layers.0.mlp.experts.gate_up_proj": (5, 96, 320),
        "model.layers.0.mlp.experts.gate_up_proj_bias": (5, 320),
        "model.layers.0.mlp.experts.down_proj": (5, 160, 96),
        "model.layers.0.mlp.experts.down_proj_bias": (5, 96),
    }


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"dtype": None}, {"quantization": None}])
def test_bytes_follow_the_dtype(changes: dict[str, Any]) -> None:
    config = small_config(**changes)
    itemsize = 4 if config.dtype == "float32" else 2
    sizes = {kind: sum(math.prod(t.shape) for t in tensors(config) if t.kind is kind) for kind in Kind}
    floats, packed = sizes[Kind.MATRIX] + sizes[Kind.VECTOR], sizes[Kind.BLOCKS] + sizes[Kind.SCALES]
    assert sum(bytes_by_part(config).values()) == itemsize * floats + packed


def test_the_original_layout_has_no_unquantised_experts() -> None:
    with pytest.raises(ConfigError, match="MXFP4"):
        stored(small_config(quantization=None), "original")
