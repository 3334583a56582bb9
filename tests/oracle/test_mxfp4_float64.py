"""MXFP4 against arithmetic in float64, and against the decoder of transformers."""

import numpy as np
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from ossature import mxfp4

MAGNITUDES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def test_all_codes_with_all_scales_are_float64_rounded_to_float32_to_the_bit() -> None:
    codes = np.arange(16)
    exact = np.array(MAGNITUDES + [-m for m in MAGNITUDES])[codes] * 2.0 ** (np.arange(255)[:, None] - 127.0)
    with np.errstate(over="ignore"):
        expected = exact.astype(np.float32)  # (255, 16): beyond float32 to infinity, small ones subnormal
    blocks = np.tile((codes[0::2] | codes[1::2] << 4).astype(np.uint8), (255, 1, 2))
    decoded = mxfp4.decode(blocks, np.arange(255, dtype=np.uint8)[:, None])
    assert decoded.view(np.uint32).tolist() == np.tile(expected, (1, 2)).view(np.uint32).tolist()
    assert np.isinf(expected).any()
    assert (np.abs(expected[expected != 0]) < np.finfo(np.float32).tiny).any()


def test_every_byte_of_a_block_decodes_as_in_transformers() -> None:
    experts, rows, groups = 3, 7, 5
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (experts, rows, groups, 16), np.uint8)
    blocks.reshape(-1)[:256] = np.arange(256)
    scales = rng.integers(1, 253, (experts, rows, groups), np.uint8)
    peer = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32)
    assert (mxfp4.decode(blocks, scales).transpose(0, 2, 1) == peer.numpy()).all()
