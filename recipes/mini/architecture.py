"""The shape of `mini` and how its weights start: a gpt-oss in every respect but size."""

import math

import torch
from torch import nn

from ossature.config import ModelConfig, RopeScaling
from ossature.model import Transformer

__all__ = ["initialise", "mini_config"]


def mini_config(vocab_size: int, *, eos_token_id: tuple[int, ...], pad_token_id: int) -> ModelConfig:
    """No two sizes that could be confused are equal: hidden 160, attention width 192, intermediate 128."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=160,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        num_local_experts=8,
        num_experts_per_tok=2,
        sliding_window=64,
        layer_types=("sliding_attention", "full_attention") * 3,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        rope_scaling=RopeScaling(
            factor=4.0, original_max_position_embeddings=1024, beta_fast=32.0, beta_slow=1.0, truncate=False
        ),
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Matrices normal with variance 1/fan-in, those that write to the residual stream smaller by sqrt(2·layers)."""
    generator = torch.Generator().manual_seed(seed)
    depth = math.sqrt(2 * model.config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif parameter.ndim == 1 or name.endswith("_bias"):
            nn.init.zeros_(parameter)  # biases and sinks
        elif name == "model.embed_tokens.weight":
            parameter.normal_(0, 0.5, generator=generator)
        elif name == "lm_head.weight":
            parameter.normal_(0, 0.02, generator=generator)
        else:
            fan_in = parameter.shape[-2] if parameter.ndim == 3 else parameter.shape[-1]
            writes = name.endswith(("o_proj.weight", "down_proj"))
            parameter.normal_(0, 1 / math.sqrt(fan_in) / (depth if writes else 1), generator=generator)
