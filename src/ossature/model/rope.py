"""Rotary position frequencies with YaRN, as gpt-oss uses them: the correction range is not rounded."""

import math

import torch
from torch import Tensor

from ossature.config import ModelConfig

__all__ = ["rotation", "yarn_frequencies"]


def yarn_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """Angle a position turns each pair by, (head_dim/2,) float64, and the factor on both cos and sin.

    Source: openai/gpt-oss torch/model.py `_compute_concentration_and_inv_freq`; YaRN, arXiv 2309.00071.
    """
    pairs = config.head_dim // 2
    pair = torch.arange(pairs, dtype=torch.float64, device="cpu")  # a few numbers, real even in a model without data
    frequency = config.rope_theta ** (pair / pairs)
    yarn = config.rope_scaling
    if yarn is None:
        return 1 / frequency, 1.0

    def pair_turning(rotations: float) -> float:
        """The (fractional) pair that turns so many times over the original context."""
        context = yarn.original_max_position_embeddings
        return pairs * math.log(context / (rotations * 2 * math.pi)) / math.log(config.rope_theta)

    low, high = pair_turning(yarn.beta_fast), pair_turning(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    if low == high:
        high += 0.001  # as the published code: avoids a division by zero
    ramp = ((pair - low) / (high - low)).clamp(0, 1)
    interpolated, extrapolated = 1 / (yarn.factor * frequency), 1 / frequency
    concentration = 0.1 * math.log(yarn.factor) + 1 if yarn.factor > 1 else 1.0
    return interpolated * ramp + extrapolated * (1 - ramp), concentration


def rotation(
    positions: Tensor, inv_freq: Tensor, concentration: float, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """cos and sin (tokens, head_dim/2) in `dtype`, both times the concentration, for positions (tokens,).

    Angles are float64: in float32 one of 131,072 rad would be off by 0.008, and logits at position 4,000 by 2e-4. It is
    one small product a pass.
    """
    angle = positions[:, None] * inv_freq.double()
    return (angle.cos() * concentration).to(dtype), (angle.sin() * concentration).to(dtype)
