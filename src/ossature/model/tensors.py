"""Mapped bytes as tensors of torch."""

import torch
from torch import Tensor

from ossature.checkpoint import MappedTensor

__all__ = ["as_torch"]

_VIEWS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "U8": torch.uint8}


def as_torch(mapped: MappedTensor) -> Tensor:
    """A torch view of the mapped bytes; bfloat16 travels through numpy as uint16."""
    return torch.from_numpy(mapped.array).view(_VIEWS[mapped.dtype])
