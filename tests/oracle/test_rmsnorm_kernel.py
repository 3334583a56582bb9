"""rmsnorm of every backend and instruction set against the reference in float64."""

from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ossature import _core
from ossature.errors import BackendError, ShapeError
from ossature.ops import cpu, reference

EPS = 1e-5
SHAPES = [(1, 2880), (3, 33), (2, 7), (5, 191), (4, 1), (0, 64), (2, 3, 40)]
DTYPES = [torch.float32, torch.bfloat16]
# A few units in the last place: what the order of the additions alone may cost.
TINY = {torch.float32: 1e-6, torch.bfloat16: 1e-5}


def inputs(shape: tuple[int, ...], dtype: torch.dtype, weight_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=generator) * 3
    return x.to(dtype), torch.randn(shape[-1], generator=generator).to(weight_dtype)


def error(got: Tensor, exact: Tensor) -> float:
    """Largest difference, in units of the largest exact value."""
    if not exact.numel():
        return 0.0
    return float((got.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-30))


def eager(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same arithmetic, operation by operation in torch, rounded once."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def assert_as_good_as_eager(got: Tensor, x: Tensor, weight: Tensor) -> None:
    exact = reference.rmsnorm(x.double(), weight.double(), EPS)
    assert got.dtype == x.dtype
    assert got.shape == x.shape
    assert error(got, exact) <= 2 * error(eager(x, weight, EPS), exact) + TINY[x.dtype]


@pytest.mark.op("rmsnorm")
@pytest.mark.parametrize("weight_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_backend_is_as_exact_as_eager_torch(
    backend: ModuleType, shape: tuple[int, ...], dtype: torch.dtype, weight_dtype: torch.dtype
) -> None:
    x, weight = inputs(shape, dtype, weight_dtype)
    assert_as_good_as_eager(backend.rmsnorm(x, weight, EPS), x, weight)


@pytest.mark.parametrize("weight_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("isa", cpu.isas())
def test_every_instruction_set_is_as_exact_as_eager_torch(
    isa: str, shape: tuple[int, ...], dtype: torch.dtype, weight_dtype: torch.dtype
) -> None:
    x, weight = inputs(shape, dtype, weight_dtype)
    assert_as_good_as_eager(cpu.rmsnorm(x, weight, EPS, isa=isa), x, weight)


@pytest.mark.parametrize("isa", cpu.isas())
@given(
    values=st.lists(st.floats(width=32, min_value=-(2.0**50), max_value=2.0**50), min_size=1, max_size=70),
    exponent=st.integers(-12, 0),
    dtype=st.sampled_from(DTYPES),
)
def test_any_row_is_as_exact_as_eager_torch(isa: str, values: list[float], exponent: int, dtype: torch.dtype) -> None:
    x = (torch.tensor([values]) * 10.0**exponent).to(dtype)
    weight = torch.linspace(-2, 2, len(values))
    assert_as_good_as_eager(cpu.rmsnorm(x, weight, EPS, isa=isa), x, weight)


@pytest.mark.parametrize("isa", cpu.isas())
def test_bfloat16_is_rounded_to_nearest_even(isa: str) -> None:
    # Rows of one value have mean square 1, so with eps 0 the output is the weight, and only its rounding is seen:
    # every upper half with the lower halves around a tie, subnormals, infinities and NaN included.
    upper = torch.arange(0, 1 << 16, 5, dtype=torch.int64)
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    bits = ((upper[:, None] << 16) | lower).flatten()
    weight = torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32).view(torch.float32)
    got = cpu.rmsnorm(torch.ones(1, len(weight), dtype=torch.bfloat16), weight, 0.0, isa=isa)[0]
    wanted = weight.to(torch.bfloat16)
    assert torch.equal(got.isnan(), wanted.isnan())
    assert torch.equal(got[~got.isnan()].view(torch.int16), wanted[~wanted.isnan()].view(torch.int16))


@pytest.mark.parametrize("isa", cpu.isas())
@pytest.mark.parametrize("cols", [1, 3, 7, 8, 9, 16, 37, 64, 65])
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_output_is_written_and_no_alignment_is_needed(isa: str, cols: int, dtype: torch.dtype) -> None:
    rows = 3
    x, weight = torch.randn(1 + rows * cols).to(dtype)[1:], torch.ones(1 + cols)[1:]  # as in a mapped file
    guarded = torch.full((1 + rows * cols + 64,), 77.0, dtype=dtype)
    out = guarded[1 : 1 + rows * cols]
    code = {torch.float32: _core.FLOAT32, torch.bfloat16: _core.BFLOAT16}[dtype]
    _core.kernels(isa).rmsnorm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), rows, cols, EPS, code, _core.FLOAT32)
    assert torch.equal(out.view(rows, cols), cpu.rmsnorm(x.view(rows, cols), weight, EPS, isa=isa))
    assert guarded[0] == 77
    assert (guarded[1 + rows * cols :] == 77).all()


@pytest.mark.parametrize("isa", cpu.isas())
def test_a_row_does_not_depend_on_its_neighbours(isa: str) -> None:
    x, weight = inputs((5, 191), torch.float32, torch.float32)
    together = cpu.rmsnorm(x, weight, EPS, isa=isa)
    for row in range(5):
        assert torch.equal(together[row : row + 1], cpu.rmsnorm(x[row : row + 1], weight, EPS, isa=isa))


def test_an_instruction_set_that_is_not_here_is_refused_by_name() -> None:
    x, weight = inputs((2, 7), torch.float32, torch.float32)
    absent = next(isa for isa in ("neon", "avx512") if isa not in cpu.isas())
    with pytest.raises(BackendError, match=f"'{absent}' was asked for; this machine and build offer .*scalar"):
        cpu.rmsnorm(x, weight, EPS, isa=absent)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(2, 7), torch.ones(8)),
        (torch.ones(2, 7), torch.ones(1, 7)),
        (torch.ones(()), torch.ones(())),
        (torch.ones(7, 2).T, torch.ones(7)),
        (torch.ones(2, 7), torch.ones(14)[::2]),
        (torch.ones(2, 7, dtype=torch.float64), torch.ones(7)),
        (torch.ones(2, 7), torch.ones(7, dtype=torch.float16)),
        (torch.ones(2, 7, device="meta"), torch.ones(7)),
    ],
    ids=["size", "rank", "scalar", "transposed", "strided weight", "float64", "float16 weight", "device"],
)
def test_a_tensor_that_does_not_fit_is_refused(x: Tensor, weight: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"^rmsnorm: "):
        cpu.rmsnorm(x, weight, EPS)
