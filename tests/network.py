"""Random networks of gpt-oss's architecture with no two sizes equal, for us and for transformers alike.

The values are such that activations and logits have about unit scale, attention and routing are far from uniform, and
every stored value is exact in its published type: bfloat16, and MXFP4 for the experts. So one set of values is the
float32, the bfloat16, the dense and the packed network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from ossature import mxfp4
from ossature.checkpoint import write_checkpoint
from ossature.config import Layout, ModelConfig
from ossature.model import Batch, Capture, KVCache, Site, Transformer

__all__ = [
    "PROMPT",
    "Captured",
    "config_of",
    "decode",
    "ours",
    "packed",
    "peer",
    "peer_config",
    "prefill",
    "tensors",
    "token_ids",
    "write",
]

PROMPT = 33  # tokens: odd, and several windows long


def peer_config(**changes: object) -> transformers.GptOssConfig:
    """Sizes: no two equal, nor equal to a product such as heads · head_dim (144) or 2 · intermediate (128)."""
    sizes: dict[str, object] = {
        "vocab_size": 331,
        "hidden_size": 96,
        "intermediate_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "num_local_experts": 7,
        "num_experts_per_tok": 3,
        "sliding_window": 8,
        "max_position_embeddings": 131072,
    }
    return transformers.GptOssConfig(**(sizes | changes))  # pyright: ignore[reportArgumentType]  # each has its own type


def config_of(config: transformers.GptOssConfig, values: Mapping[str, Tensor]) -> ModelConfig:
    """The same network as we describe it, stored in bfloat16 and packed if `values` are."""
    quantization = "mxfp4" if any(name.endswith("_blocks") for name in values) else None
    return replace(ModelConfig.from_dict(config.to_dict()), dtype="bfloat16", quantization=quantization)


def token_ids(count: int = PROMPT, *, seed: int = 0) -> list[int]:
    """Uniformly random ids of the vocabulary of `peer_config()`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 331, (count,), generator=generator).tolist()


def tensors(config: transformers.GptOssConfig, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of the dense Hugging Face layout, float32, its values exact in bfloat16, of the experts in MXFP4."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in transformers.GptOssForCausalLM(config).state_dict().items()}
    result: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("norm.weight"):
            value = 1 + noise / 4
        elif name.endswith(("bias", "sinks")):
            value = noise / 2
        elif name.endswith("embed_tokens.weight"):
            value = noise
        elif "experts" in name:  # (experts, in, out)
            value = _as_mxfp4(noise.mT * shape[-2] ** -0.5).mT
        else:  # (out, in); sharper queries and routers, so that neither attention nor the choice is nearly uniform
            gain = 2.0 if name.endswith(("q_proj.weight", "router.weight")) else 1.0
            value = noise * gain * shape[-1] ** -0.5
        result[name] = value.bfloat16().float().contiguous()
    return result


def _as_mxfp4(matrix: Tensor) -> Tensor:
    return torch.from_numpy(mxfp4.decode(*mxfp4.encode(np.ascontiguousarray(matrix.numpy()))))


def packed(dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same network with its expert matrices as MXFP4 blocks and scales."""
    result: dict[str, Tensor] = {}
    for name, tensor in dense.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            blocks, scales = mxfp4.encode(np.ascontiguousarray(tensor.mT.numpy()))
            result[f"{name}_blocks"], result[f"{name}_scales"] = torch.from_numpy(blocks), torch.from_numpy(scales)
        else:
            result[name] = tensor
    return result


def peer(
    config: transformers.GptOssConfig, dense: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> transformers.GptOssForCausalLM:
    """The eager network of transformers, weights and activations in `dtype`."""
    model = transformers.GptOssForCausalLM._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    model.load_state_dict(dense)
    torch.nn.Module.to(model, dtype)  # the method of the class itself is wrapped, and its types are lost
    return model.eval().requires_grad_(False)


def ours(
    config: transformers.GptOssConfig,
    values: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
    *,
    deterministic: bool = False,
) -> Transformer:
    """Our network on the same values, dense or packed, without a file between."""
    model = Transformer(config_of(config, values), dtype=dtype, deterministic=deterministic)
    model.load_state_dict(values)
    return model.eval().requires_grad_(False)


def write(
    directory: Path, config: transformers.GptOssConfig, values: Mapping[str, Tensor], layout: Layout = "huggingface"
) -> Path:
    """The network as a checkpoint of several files, in bfloat16; returns `directory`."""
    stored = {
        name: ("U8", tensor.numpy())
        if tensor.dtype == torch.uint8
        else ("BF16", tensor.bfloat16().contiguous().view(torch.uint16).numpy())
        for name, tensor in values.items()
    }
    write_checkpoint(directory, config_of(config, values), stored, layout=layout, max_shard_bytes=100_000)
    return directory


class Captured(dict[tuple[str, int | None], Tensor]):
    """(site, layer) → value, over all rows of a prompt whatever the pieces it was fed in; `logits` among them."""

    def layers(self, name: str) -> list[Tensor]:
        """The value of a site in every layer, from the first."""
        return [self[key] for key in sorted(key for key in self if key[0] == name)]  # pyright: ignore[reportArgumentType]


def prefill(model: Transformer, ids: Sequence[int], *sites: str) -> Captured:
    """One forward pass without a cache."""
    captures = tuple(Capture(Site.parse(site)) for site in (*sites, "logits"))
    with torch.no_grad():
        model(Batch.packed([ids], captures=captures))
    return _merged([captures])


def decode(model: Transformer, ids: Sequence[int], chunks: Sequence[int], *sites: str) -> Captured:
    """The same through a cache, `chunks` saying how many tokens at a time."""
    kv = KVCache(model.config, max_sequences=3, max_tokens=len(ids), slack=max(chunks), block_size=5, dtype=model.dtype)
    kv.open()  # slot 0 stays empty, so that the sequence has a slot and blocks other than the first
    slot = kv.open()
    steps: list[tuple[Capture, ...]] = []
    done = 0
    for count in chunks:
        captures = tuple(Capture(Site.parse(site)) for site in (*sites, "logits"))
        start = kv.extend(slot, count)
        with torch.no_grad():
            piece = ids[done : done + count]
            model(Batch.packed([piece], slots=[slot], starts=[start], captures=captures), kv)
        steps.append(captures)
        done += count
    assert done == len(ids)
    return _merged(steps)


def _merged(steps: list[tuple[Capture, ...]]) -> Captured:
    parts: dict[tuple[str, int | None], list[Tensor]] = {}
    for step in steps:
        for capture in step:
            for key, value in capture.into.items():
                parts.setdefault(key, []).append(value)
    return Captured({key: torch.cat(values) for key, values in parts.items()})
