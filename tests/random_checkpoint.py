"""Random gpt-oss checkpoints for tests and measurements: any config, either layout, one content a seed."""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossature import mxfp4
from ossature.checkpoint import write_checkpoint
from ossature.checkpoint.names import DTYPE_OF, NUMPY, Kind, Tensor, tensors
from ossature.config import FULL, SLIDING, GenerationConfig, Layout, ModelConfig, RopeScaling

__all__ = ["RandomTensors", "random_config", "small_config", "write_random"]

_PIECE = 1 << 24
_FOUR_BIT_RMS = math.sqrt(float(np.mean(np.square(mxfp4.VALUES))))


def small_config(**changes: Any) -> ModelConfig:
    """A config with no two sizes equal, packed and in float32; `changes` are fields of ModelConfig."""
    fields: dict[str, Any] = {
        "vocab_size": 211,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 20,
        "num_local_experts": 5,
        "num_experts_per_tok": 3,
        "sliding_window": 7,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "rope_scaling": RopeScaling(16.0, 64, 32.0, 1.0, truncate=False),
        "dtype": "float32",
        "quantization": "mxfp4",
    } | changes
    fields.setdefault("layer_types", tuple((SLIDING, FULL)[i % 2] for i in range(fields["num_hidden_layers"])))
    return ModelConfig(**fields)


def random_config(seed: int, **changes: Any) -> ModelConfig:
    """A config drawn from `seed` with hidden, query, key, expert and vocabulary sizes all different."""
    rng = np.random.default_rng(seed)
    while True:
        groups, kv_heads = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        experts = int(rng.integers(3, 9))
        hidden, inner = (32 * int(n) for n in rng.choice(np.arange(2, 7), 2, replace=False))
        config = small_config(
            **{
                "vocab_size": int(rng.integers(70, 300)),
                "hidden_size": hidden,
                "intermediate_size": inner,
                "num_hidden_layers": int(rng.integers(2, 5)),
                "num_attention_heads": groups * kv_heads,
                "num_key_value_heads": kv_heads,
                "head_dim": 2 * int(rng.integers(4, 17)),
                "num_local_experts": experts,
                "num_experts_per_tok": int(rng.integers(1, experts)),
                "sliding_window": int(rng.integers(3, 12)),
            }
            | changes
        )
        widths = [config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim]
        sizes = [*widths, hidden, inner, 2 * inner, config.vocab_size, experts]
        if len(set(sizes)) == len(sizes):
            return config


@dataclass(frozen=True)
class RandomTensors(Mapping[str, tuple[str, NDArray[Any]]]):
    """Every tensor of `config`, made when it is asked for, so that a large checkpoint never lies in memory.

    Activations and logits have about unit size. Unquantised experts of sizes that could be packed hold the values of
    the packed ones, so that both variants of a config are one model.
    """

    config: ModelConfig
    seed: int = 0
    _table: dict[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", {tensor.name: tensor for tensor in tensors(self.config)})

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __getitem__(self, name: str) -> tuple[str, NDArray[Any]]:
        tensor = self._table[name]
        if tensor.kind.is_packed:
            return "U8", self._packed(name.removesuffix("_blocks").removesuffix("_scales"), tensor.shape, tensor.kind)
        dtype = DTYPE_OF[self.config.dtype or "bfloat16"]
        if name.endswith(("gate_up_proj", "down_proj")) and tensor.shape[1] % mxfp4.BLOCK == 0:
            return dtype, _stored(self._unpacked(tensor), dtype)
        return dtype, self._floats(tensor, dtype)

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def _packed(self, projection: str, shape: tuple[int, ...], kind: Kind) -> NDArray[np.uint8]:
        """Blocks of any bytes, or scales that give the matrix a standard deviation of about 1 / sqrt(inputs)."""
        rng = self._rng(f"{projection} {kind.value}")
        if kind is Kind.BLOCKS:
            return np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape)
        inputs = shape[2] * mxfp4.BLOCK
        middle = 127 - round(math.log2(_FOUR_BIT_RMS * math.sqrt(inputs)))
        return rng.integers(middle - 1, middle + 2, shape, np.uint8)

    def _unpacked(self, tensor: Tensor) -> NDArray[np.float32]:
        experts, inputs, outputs = tensor.shape
        scales = (experts, outputs, inputs // mxfp4.BLOCK)
        blocks = (*scales, mxfp4.BLOCK // 2)
        packed = [
            self._packed(tensor.name, shape, kind) for shape, kind in ((blocks, Kind.BLOCKS), (scales, Kind.SCALES))
        ]
        return mxfp4.decode(*packed).transpose(0, 2, 1)

    def _floats(self, tensor: Tensor, dtype: str) -> NDArray[Any]:
        """Normal values, rounded to `dtype` in pieces: the embedding of gpt-oss has 579 million."""
        rng = self._rng(tensor.name)
        mean, spread = _mean_and_spread(tensor)
        values = np.empty(math.prod(tensor.shape), NUMPY[dtype])
        for start in range(0, values.size, _PIECE):
            piece = values[start : start + _PIECE]
            piece[:] = _stored(mean + spread * rng.standard_normal(piece.size, np.float32), dtype)
        return values.reshape(tensor.shape)


def _mean_and_spread(tensor: Tensor) -> tuple[np.float32, np.float32]:
    if tensor.part == "norms":
        return np.float32(1), np.float32(1 / 8)
    if tensor.name.endswith("bias"):
        return np.float32(0), np.float32(1 / 8)
    if tensor.part == "embedding" or tensor.name.endswith("sinks"):
        return np.float32(0), np.float32(1)
    inputs = tensor.shape[1] if tensor.part == "experts" else tensor.shape[-1]
    return np.float32(0), np.float32(1 / math.sqrt(inputs))


def _stored(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Float32 values as the array of a checkpoint's dtype; bfloat16 rounded to nearest, ties to even, as bits."""
    if dtype != "BF16":
        return np.ascontiguousarray(values, np.float32 if dtype == "F32" else np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_random(
    directory: Path,
    config: ModelConfig | None = None,
    *,
    seed: int = 0,
    layout: Layout = "huggingface",
    generation: GenerationConfig | None = None,
    max_shard_bytes: int = 200_000,
) -> Path:
    """Write a random checkpoint of `config` (default `small_config()`), in several files, and return `directory`."""
    config = config or small_config()
    tensors = RandomTensors(config, seed)
    write_checkpoint(directory, config, tensors, layout=layout, generation=generation, max_shard_bytes=max_shard_bytes)
    return directory
