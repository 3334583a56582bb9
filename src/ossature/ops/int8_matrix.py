"""A dense matrix rounded to int8 in blocks of 32 along its rows: what `numerics="fast"` reads in place of bfloat16."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ossature.errors import ShapeError

__all__ = ["BLOCK", "Int8Matrix"]

BLOCK = 32
_ROWS = 512  # rounded at a time: their float32 copies stay in the cache


@dataclass(frozen=True, slots=True)
class Int8Matrix:
    """values (out, in) int8 from -127 to 127, scales (out, in/32) bfloat16: a weight is its value times its scale."""

    values: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, weight: Tensor, into: Self | None = None) -> Self:
        """Round weight (out, in), in a multiple of 32, each value to the nearest; the scale is rounded first.

        `into`: a matrix of the same sizes to write to, such as views of a file. Raises ShapeError.
        """
        rows, cols = weight.shape
        if cols % BLOCK:
            raise ShapeError(
                f"a matrix of {cols} columns has no whole blocks of {BLOCK}; it cannot be rounded to int8."
            )
        made = into or cls(
            torch.empty(rows, cols, dtype=torch.int8), torch.empty(rows, cols // BLOCK, dtype=torch.bfloat16)
        )
        for start in range(0, rows, _ROWS):
            blocks = weight[start : start + _ROWS].float().unflatten(-1, (-1, BLOCK))
            scales = (blocks.abs().amax(-1) / 127).bfloat16()
            inverse = torch.where(scales > 0, 1 / scales.float(), 0.0)
            values = (blocks * inverse[..., None]).round_().clamp_(-127, 127)
            made.values[start : start + _ROWS] = values.flatten(-2).to(torch.int8)
            made.scales[start : start + _ROWS] = scales
        return made

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix that it stands for, (out, in)."""
        return (self.values.unflatten(-1, (-1, BLOCK)).float() * self.scales.float()[..., None]).flatten(-2).to(dtype)
