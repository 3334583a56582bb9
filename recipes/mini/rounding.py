"""Training on the numbers that will be shipped: experts read rounded to MXFP4, gradients straight through."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ossature.model import Transformer
from ossature.model.transformer import Experts

__all__ = ["round_experts", "round_to_mxfp4"]

_MAGNITUDES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_MIDPOINTS = (_MAGNITUDES[1:] + _MAGNITUDES[:-1]) / 2


def round_to_mxfp4(weight: Tensor) -> Tensor:
    """The float32 value that each element has after `mxfp4.encode` and `mxfp4.decode`, ties apart.

    weight (experts, in, out) float32, dense as trained; blocks of 32 run along `in`, as in the packed (out, in) form.
    """
    blocks = weight.unflatten(1, (-1, 32))
    exponent = torch.frexp(blocks.abs().amax(2, keepdim=True)).exponent  # of a mantissa in [0.5, 1), as in numpy
    unit = torch.exp2((exponent - 3).clamp(min=-126).float())
    magnitude = _MAGNITUDES[torch.bucketize(blocks.abs() / unit, _MIDPOINTS)]
    return (magnitude * unit * blocks.sign()).flatten(1, 2)


class _StraightThrough(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + (round_to_mxfp4(weight) - weight).detach()


def round_experts(model: Transformer) -> None:
    """From now on every expert matrix of `model` is read rounded; the optimiser keeps the full-precision master."""
    for module in list(model.modules()):
        if isinstance(module, Experts):
            for name in ("gate_up_proj", "down_proj"):
                parametrize.register_parametrization(module, name, _StraightThrough())
