"""The one table of tensors: what a config implies, in the Hugging Face and in the original layout.

Hugging Face names are the canonical ones. The original layout stores q, k and v stacked in one tensor; every other
tensor has one counterpart with the same bytes. Source: openai/gpt-oss `torch/weights.py`, transformers
`convert_gpt_oss_weights_to_hf.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ossature.config import Layout, ModelConfig
from ossature.errors import ConfigError
from ossature.mxfp4 import BLOCK

__all__ = [
    "DTYPE_OF",
    "ITEMSIZE",
    "NUMPY",
    "Kind",
    "ParameterCounts",
    "StoredTensor",
    "Tensor",
    "bytes_by_part",
    "parameter_counts",
    "stored",
    "tensors",
]

# The dtypes of a checkpoint's files, as numpy has them: it has no bfloat16, whose bits come as uint16.
NUMPY = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "U8": np.dtype("u1")}
ITEMSIZE = {name: dtype.itemsize for name, dtype in NUMPY.items()}

# the config's dtype -> the files'
DTYPE_OF = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


class Kind(Enum):
    """What a tensor holds, which decides the dtypes it may have."""

    MATRIX = "matrix"  # in the checkpoint's float dtype
    VECTOR = "vector"  # norms, biases and sinks: the checkpoint's float dtype, or float32
    BLOCKS = "blocks"  # U8, two MXFP4 elements a byte
    SCALES = "scales"  # U8, one exponent a block

    @property
    def is_packed(self) -> bool:
        return self in (Kind.BLOCKS, Kind.SCALES)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One canonical tensor.

    part      embedding | attention | norms | router | experts | unembedding
    original  its name in the original layout; tensors that share one are stacked there by rows, in this table's order
    """

    name: str
    original: str
    shape: tuple[int, ...]
    kind: Kind
    part: str

    @property
    def weights(self) -> int:
        """Parameters of the model that this tensor holds (a scale is part of its block's 32)."""
        per_item = {Kind.BLOCKS: 2, Kind.SCALES: 0}.get(self.kind, 1)
        return per_item * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file, and the canonical tensors that its rows are, from the first row on."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    cuts: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters in all, and those that one token uses (its experts and the unembedding; not the embedding)."""

    total: int
    active: int


def tensors(config: ModelConfig) -> Iterator[Tensor]:
    """Every canonical tensor, in the order of the forward pass."""
    c = config
    matrix = (c.vocab_size, c.hidden_size)
    yield Tensor("model.embed_tokens.weight", "embedding.weight", matrix, Kind.MATRIX, "embedding")
    for layer in range(c.num_hidden_layers):
        yield from _attention(c, f"model.layers.{layer}", f"block.{layer}")
        yield from _mlp(c, f"model.layers.{layer}", f"block.{layer}")
    yield Tensor("model.norm.weight", "norm.scale", (c.hidden_size,), Kind.VECTOR, "norms")
    yield Tensor("lm_head.weight", "unembedding.weight", matrix, Kind.MATRIX, "unembedding")


def _attention(c: ModelConfig, hf: str, original: str) -> Iterator[Tensor]:
    q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    hidden = c.hidden_size
    yield Tensor(f"{hf}.input_layernorm.weight", f"{original}.attn.norm.scale", (hidden,), Kind.VECTOR, "norms")
    for name, rows in (("q", q), ("k", kv), ("v", kv)):
        proj, fused = f"{hf}.self_attn.{name}_proj", f"{original}.attn.qkv"
        yield Tensor(f"{proj}.weight", f"{fused}.weight", (rows, hidden), Kind.MATRIX, "attention")
        yield Tensor(f"{proj}.bias", f"{fused}.bias", (rows,), Kind.VECTOR, "attention")
    proj, out = f"{hf}.self_attn.o_proj", f"{original}.attn.out"
    yield Tensor(f"{proj}.weight", f"{out}.weight", (hidden, q), Kind.MATRIX, "attention")
    yield Tensor(f"{proj}.bias", f"{out}.bias", (hidden,), Kind.VECTOR, "attention")
    sinks = (c.num_attention_heads,)
    yield Tensor(f"{hf}.self_attn.sinks", f"{original}.attn.sinks", sinks, Kind.VECTOR, "attention")


def _mlp(c: ModelConfig, hf: str, original: str) -> Iterator[Tensor]:
    experts, hidden, inner = c.num_local_experts, c.hidden_size, c.intermediate_size
    norm, gate = f"{hf}.post_attention_layernorm.weight", f"{original}.mlp.gate"
    yield Tensor(norm, f"{original}.mlp.norm.scale", (hidden,), Kind.VECTOR, "norms")
    yield Tensor(f"{hf}.mlp.router.weight", f"{gate}.weight", (experts, hidden), Kind.MATRIX, "router")
    yield Tensor(f"{hf}.mlp.router.bias", f"{gate}.bias", (experts,), Kind.VECTOR, "router")
    for name, mlp, rows, columns in (("gate_up_proj", "mlp1", 2 * inner, hidden), ("down_proj", "mlp2", hidden, inner)):
        proj, weight = f"{hf}.mlp.experts.{name}", f"{original}.mlp.{mlp}_weight"
        if c.quantization == "mxfp4":
            scales = (experts, rows, columns // BLOCK)
            yield Tensor(f"{proj}_blocks", f"{weight}.blocks", (*scales, BLOCK // 2), Kind.BLOCKS, "experts")
            yield Tensor(f"{proj}_scales", f"{weight}.scales", scales, Kind.SCALES, "experts")
        else:  # unquantised experts are stored transposed, [experts, in, out]
            yield Tensor(proj, weight, (experts, columns, rows), Kind.MATRIX, "experts")
        yield Tensor(f"{proj}_bias", f"{original}.mlp.{mlp}_bias", (experts, rows), Kind.VECTOR, "experts")


def stored(config: ModelConfig, layout: Layout) -> dict[str, StoredTensor]:
    """The manifest: every tensor that a checkpoint of `layout` holds, by its name in the files. Raises ConfigError."""
    if layout == "huggingface":
        return {t.name: StoredTensor(t.name, t.shape, t.kind, (t,)) for t in tensors(config)}
    if config.quantization is None:
        raise ConfigError(
            "the original layout holds MXFP4 experts; a model without quantization has the Hugging Face layout."
        )
    cuts: dict[str, list[Tensor]] = {}
    for tensor in tensors(config):
        cuts.setdefault(tensor.original, []).append(tensor)
    return {name: _stack(name, parts) for name, parts in cuts.items()}


def _stack(name: str, parts: list[Tensor]) -> StoredTensor:
    rows = sum(part.shape[0] for part in parts)
    return StoredTensor(name, (rows, *parts[0].shape[1:]), parts[0].kind, tuple(parts))


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Total and active parameters; the published 20.9 B and 3.6 B for gpt-oss-20b."""
    by_part: dict[str, int] = {}
    for tensor in tensors(config):
        by_part[tensor.part] = by_part.get(tensor.part, 0) + tensor.weights
    idle = by_part["experts"] // config.num_local_experts * (config.num_local_experts - config.num_experts_per_tok)
    total = sum(by_part.values())
    return ParameterCounts(total=total, active=total - by_part["embedding"] - idle)


def bytes_by_part(config: ModelConfig) -> dict[str, int]:
    """Bytes that a checkpoint of this config stores, by part; bfloat16 where the config names no dtype."""
    itemsize = ITEMSIZE[DTYPE_OF[config.dtype or "bfloat16"]]
    sizes: dict[str, int] = {}
    for tensor in tensors(config):
        per_item = 1 if tensor.kind.is_packed else itemsize
        sizes[tensor.part] = sizes.get(tensor.part, 0) + per_item * math.prod(tensor.shape)
    return sizes
