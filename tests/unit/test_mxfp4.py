"""Packing to MXFP4 and back: what is nearest, what is kept, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossature import mxfp4
from ossature.errors import OssatureError, ShapeError

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
matrices = arrays(np.float32, (3, 64), elements=finite)
packed = st.tuples(arrays(np.uint8, (3, 2, 16)), arrays(np.uint8, (3, 2), elements=st.integers(0, 252)))


def test_the_low_nibble_of_a_byte_comes_first() -> None:
    blocks = np.zeros((1, 16), np.uint8)
    blocks[0, :2] = 0x10, 0x32
    assert mxfp4.decode(blocks, np.array([128], np.uint8))[:5].tolist() == [0.0, 1.0, 2.0, 3.0, 0.0]


def test_groups_lie_along_the_last_axis() -> None:
    blocks = np.full((2, 3, 16), 0x22, np.uint8)  # all ones
    scales = np.array([[127, 128, 129], [126, 127, 130]], np.uint8)
    assert mxfp4.decode(blocks, scales)[:, ::32].tolist() == [[1, 2, 4], [0.5, 1, 8]]


def test_scale_255_is_nan() -> None:
    assert np.isnan(mxfp4.decode(np.zeros((1, 16), np.uint8), np.array([255], np.uint8))).all()


def test_a_tie_goes_to_the_even_code_and_what_is_too_large_to_six() -> None:
    values = np.zeros(32, np.float32)
    values[:10] = 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -2.5, 7.5, 4.0
    decoded = mxfp4.decode(*mxfp4.encode(values))
    assert decoded[:10].tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -2.0, 6.0, 4.0]


def test_the_scale_is_that_of_the_specification() -> None:
    values = np.zeros((6, 32), np.float32)
    values[:, 5] = 6.0, 7.99, 8.0, 1.0, 0.0, 1e-45
    assert mxfp4.encode(values)[1][:, 0].tolist() == [127, 127, 128, 125, 127, 0]


@given(packed)
def test_values_that_fit_are_kept_to_the_bit(pair: tuple[np.ndarray, np.ndarray]) -> None:
    values = mxfp4.decode(*pair)
    again = mxfp4.decode(*mxfp4.encode(values))
    assert again.view(np.uint32).tolist() == values.view(np.uint32).tolist()


@given(matrices)
def test_every_element_becomes_the_nearest_one(values: np.ndarray) -> None:
    blocks, scales = mxfp4.encode(values)
    decoded = mxfp4.decode(blocks, scales).astype(np.float64)
    units = np.ldexp(1.0, scales.astype(int) - 127).repeat(32, axis=1)
    choices = mxfp4.VALUES.astype(np.float64) * units[..., None]
    nearest = np.abs(choices - values[..., None]).min(axis=-1)
    assert (np.abs(decoded - values) == nearest).all()


@given(matrices)
def test_the_error_is_bounded_by_the_unit(values: np.ndarray) -> None:
    blocks, scales = mxfp4.encode(values)
    units = np.ldexp(1.0, scales.astype(int) - 127).repeat(32, axis=1)
    errors = np.abs(mxfp4.decode(blocks, scales).astype(np.float64) - values)
    assert (errors[np.abs(values) <= 7 * units] <= units[np.abs(values) <= 7 * units]).all()
    assert (errors < 2 * units).all()
    assert (scales < 255).all()


def test_decode_and_encode_take_any_leading_axes() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 5, 96)).astype(np.float32)
    blocks, scales = mxfp4.encode(values)
    assert (blocks.shape, scales.shape) == ((2, 3, 5, 3, 16), (2, 3, 5, 3))
    decoded = mxfp4.decode(blocks, scales)
    assert decoded.shape == values.shape
    assert (decoded[1, 2] == mxfp4.decode(*mxfp4.encode(values[1, 2]))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_no_block_can_hold_is_refused(bad: float) -> None:
    values = np.zeros((2, 32), np.float32)
    values[1, 3] = bad
    with pytest.raises(OssatureError, match="NaN or infinity"):
        mxfp4.encode(values)


def test_shapes_and_dtypes_that_do_not_fit_are_refused() -> None:
    blocks, scales = np.zeros((3, 2, 16), np.uint8), np.zeros((3, 2), np.uint8)
    for pair in [
        (blocks[..., :8], scales),
        (blocks, scales[:2]),
        (blocks.astype(np.int8), scales),
        (blocks[0, 0], scales[0, 0]),
    ]:
        with pytest.raises(ShapeError, match="MXFP4"):
            mxfp4.decode(*pair)
    for values in (np.zeros((2, 33), np.float32), np.zeros((2, 32)), np.float32(1)):
        with pytest.raises(ShapeError, match="float32"):
            mxfp4.encode(values)  # pyright: ignore[reportArgumentType]  # the mistake
