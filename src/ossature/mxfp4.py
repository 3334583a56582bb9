"""MXFP4, the number format of the expert matrices: 32 four-bit values and one shared power of two.

A block is 16 bytes, the low nibble first: byte b holds elements 2b and 2b + 1. A nibble is a sign bit and an E2M1
magnitude; the block's scale byte s multiplies all of it by 2^(s - 127) and is NaN when 255. Blocks run along the last
axis of the matrix. Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5.2, 5.3.3, 5.4.1 and 6.3.
"""

import numpy as np
from numpy.typing import NDArray

from ossature.errors import OssatureError, ShapeError

__all__ = ["BLOCK", "NAN_SCALE", "VALUES", "decode", "encode"]

BLOCK = 32
NAN_SCALE = 255
_BIAS = 127
_MAX_EXPONENT = 2  # of the largest element, 6 = 1.5 * 2^2

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
VALUES: NDArray[np.float32] = np.array([*_MAGNITUDES, *(-m for m in _MAGNITUDES)], dtype=np.float32)
VALUES.flags.writeable = False

_PAIRS = np.stack([np.tile(VALUES, 16), np.repeat(VALUES, 16)], axis=1)  # byte -> its two elements
_SCALES = np.append(np.ldexp(np.float32(1), np.arange(NAN_SCALE) - _BIAS), np.float32(np.nan))

# A magnitude above the c-th of these rounds to code c + 1 or more. They are the midpoints of neighbouring magnitudes;
# after an odd code the next float below, so that a tie goes to the even code.
_MIDPOINTS = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=np.float32)
_THRESHOLDS = np.where(np.arange(7) % 2 == 1, np.nextafter(_MIDPOINTS, np.float32(0)), _MIDPOINTS)


def decode(blocks: NDArray[np.uint8], scales: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The values that packed blocks stand for, exactly: 2^128 and more is infinite, a block with scale 255 is NaN.

    blocks  (..., groups, 16)   uint8
    scales  (..., groups)       uint8

    Returns (..., 32 * groups) float32. Raises ShapeError.
    """
    if blocks.dtype != np.uint8 or scales.dtype != np.uint8 or blocks.shape != (*scales.shape, BLOCK // 2):
        raise ShapeError(
            f"MXFP4 blocks are {blocks.dtype}{list(blocks.shape)} and scales {scales.dtype}{list(scales.shape)}; "
            f"expected uint8 [..., groups, {BLOCK // 2}] and uint8 [..., groups]."
        )
    if scales.ndim == 0:
        raise ShapeError("MXFP4 scales have no axis of groups; expected uint8 [..., groups].")
    values = _PAIRS[blocks].reshape(*scales.shape, BLOCK)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow to infinity and NaN are the format's own
        values *= _SCALES[scales][..., None]
    return values.reshape(*scales.shape[:-1], scales.shape[-1] * BLOCK)


def encode(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pack values, each to the nearest its block can hold (a tie to the even code, beyond 6 units to 6).

    values  (..., 32 * groups)   float32, finite

    The unit of a block is 2^(floor(log2(largest magnitude)) - 2), at least 2^-127, as the MX specification sets it; a
    block of zeros has unit 1. An error is at most one unit, or below two where a magnitude lies above 7 units. What
    `decode` returned comes back to the bit.

    Returns blocks (..., groups, 16) uint8, scales (..., groups) uint8. Raises ShapeError, and OssatureError for NaN or
    infinity.
    """
    if values.dtype != np.float32 or values.ndim == 0 or values.shape[-1] % BLOCK:
        raise ShapeError(
            f"values to pack are {values.dtype}{list(values.shape)}; expected float32 [..., a multiple of {BLOCK}]."
        )
    grouped = values.reshape(*values.shape[:-1], values.shape[-1] // BLOCK, BLOCK)
    magnitudes = np.abs(grouped)
    largest = magnitudes.max(axis=-1)
    if not np.isfinite(largest).all():
        raise OssatureError("values to pack hold NaN or infinity, which MXFP4 cannot; look for a diverged weight.")
    _, exponents = np.frexp(largest)  # largest = m * 2^exponent with m in [0.5, 1)
    exponents = np.where(largest > 0, np.maximum(exponents - 1 - _MAX_EXPONENT, -_BIAS), 0)
    units = np.ldexp(magnitudes, -exponents[..., None])
    codes = np.searchsorted(_THRESHOLDS, units, side="left").astype(np.uint8)
    codes |= np.signbit(grouped).astype(np.uint8) << 3
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    return blocks.astype(np.uint8, copy=False), (exponents + _BIAS).astype(np.uint8)
