"""The weights of all experts of one projection, packed as published or dense, behind one face."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ossature import mxfp4

__all__ = ["ExpertMatrix", "dequantize"]

_VALUES = [float(value) for value in mxfp4.VALUES]
_PAIRS = [(_VALUES[byte & 0x0F], _VALUES[byte >> 4]) for byte in range(256)]


def dequantize(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """MXFP4 (…, groups, 16) uint8 and (…, groups) uint8 → (…, 32·groups) in `dtype`.

    Exact in bfloat16 and wider; values of 2^128 and more are infinite in every dtype. A scale of 255 (NaN) is not
    looked for: whoever reads the file has refused it. The twin in numpy is `mxfp4.decode`; this one runs where the
    tensors are.
    """
    # In these two types every product below is exact. A byte's two values are looked up as one integer of their size.
    exact = dtype if dtype in (torch.bfloat16, torch.float32) else torch.float32
    pairs = torch.tensor(_PAIRS, dtype=exact, device=blocks.device)
    table = pairs.view(torch.int32 if exact == torch.bfloat16 else torch.int64).flatten()
    values = table[blocks.int()].view(exact)
    # The float32 whose exponent field is the scale byte is 2^(s-127), except s = 0, which is the subnormal 2^-127.
    bits = scales.to(torch.int32) << 23
    factor = torch.where(bits == 0, 1 << 22, bits).view(torch.float32)
    return (values * factor.to(exact)[..., None]).flatten(-2).to(dtype)


@dataclass(frozen=True, slots=True)
class ExpertMatrix:
    """`experts` matrices of (out, in) with a bias each, in one of the two published forms.

    packed: blocks (experts, out, in/32, 16) uint8, scales (experts, out, in/32) uint8
    dense:  weight (experts, in, out): transposed against the packed form, as Hugging Face stores it
    bias    (experts, out)
    """

    bias: Tensor
    blocks: Tensor | None = None
    scales: Tensor | None = None
    weight: Tensor | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the matrices are MXFP4 blocks and scales."""
        return self.blocks is not None

    def matrix(self, expert: int, dtype: torch.dtype) -> Tensor:
        """One expert's matrix (out, in) in `dtype`; the packed form is expanded for this expert alone."""
        if self.weight is not None:
            return self.weight[expert].T.to(dtype)
        assert self.blocks is not None
        assert self.scales is not None
        return dequantize(self.blocks[expert], self.scales[expert], dtype)

    def matrices(self, chosen: list[int], dtype: torch.dtype) -> list[Tensor]:
        """The matrices (out, in) of `chosen` experts.

        A dense weight is taken apart once: its gradient is then put together once, instead of one full-size zero
        tensor an expert. Only the chosen are converted to `dtype`.
        """
        if self.weight is not None:
            every = self.weight.unbind(0)
            return [every[expert].T.to(dtype) for expert in chosen]
        return [self.matrix(expert, dtype) for expert in chosen]
