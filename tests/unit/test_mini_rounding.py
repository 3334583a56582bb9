"""The rounding that mini is trained with is the rounding that its file is written with."""

import torch

from ossature import mxfp4
from recipes.mini.rounding import round_to_mxfp4


def test_training_sees_the_values_that_the_file_will_hold() -> None:
    torch.manual_seed(3)
    weight = torch.randn(3, 64, 10) * torch.logspace(-6, 3, 10)  # (experts, in, out)
    weight[1, 32:, 4] = 0  # a block of zeros
    weight[2, :32, 7] = 2.0 ** torch.arange(-20, 12)  # powers of two, the largest at the top of its block's range
    packed = weight.transpose(1, 2).contiguous().numpy()
    held = torch.from_numpy(mxfp4.decode(*mxfp4.encode(packed))).transpose(1, 2)
    assert torch.equal(round_to_mxfp4(weight), held)
