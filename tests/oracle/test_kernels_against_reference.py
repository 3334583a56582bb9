"""What only the compiled kernels have: int8 weights, tiles, splits of a context, one order of summation.

The kernels' shapes and dtypes are in test_ops_against_reference.py; here are the sizes at which a kernel takes another
path: a group of rows or tokens that is not full, tiles from so many tokens on, a context of more than one split.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ossature.errors import BackendError, ShapeError
from ossature.ops import ExpertMatrix, Int8Matrix, Rows, cpu, linear, reference
from tests.oracle.test_ops_against_reference import (
    ALPHA,
    DTYPES,
    LIMIT,
    assert_as_good_as_eager,
    bank,
    chosen,
    error,
    noise,
)

ISAS = cpu.isas()


def rounded_to_int8(x: Tensor) -> Tensor:
    """x (tokens, cols) as the kernels round it: the largest magnitude of 32 values becomes 127."""
    blocks = x.float().unflatten(-1, (-1, 32))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    return ((blocks / scale).round() * scale).flatten(-2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "size_in", "size_out"), [(1, 2880, 35), (3, 96, 83), (5, 32, 7), (2, 160, 64)])
def test_int8_weights_meet_int8_activations(
    isa: str, tokens: int, size_in: int, size_out: int, dtype: torch.dtype
) -> None:
    x, bias = noise(tokens, size_in).to(dtype), noise(size_out)
    weight = Int8Matrix.quantize(noise(size_out, size_in))
    got = cpu.linear(x, weight, bias, isa=isa, one_order=True)
    exact = reference.linear(rounded_to_int8(x).double(), weight.dequantize().double(), bias)
    # A value on the edge between two integers may go either way: one unit in one of its 32.
    assert error(got, exact) <= {torch.float32: 1e-3, torch.bfloat16: 5e-3}[dtype]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_token_that_is_not_finite_stays_so_and_alone_in_int8(isa: str, wrong: float) -> None:
    x, weight = noise(3, 96), Int8Matrix.quantize(noise(35, 96))
    expected = cpu.linear(x, weight, isa=isa)
    x[1, 40] = wrong
    got = cpu.linear(x, weight, isa=isa)
    assert not got[1].isfinite().any()
    assert torch.equal(got[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [5, 6, 16, 17, 31, 33, 70])
@pytest.mark.parametrize(("size_in", "size_out"), [(96, 48), (160, 64), (64, 83), (2880, 16)])
def test_many_tokens_are_as_exact_as_eager(isa: str, size_in: int, size_out: int, tokens: int) -> None:
    x, weight, bias = noise(tokens, size_in).bfloat16(), noise(size_out, size_in).bfloat16(), noise(size_out).bfloat16()
    exact = reference.linear(x.double(), weight, bias)
    eager = torch.nn.functional.linear(x, weight, bias)
    assert_as_good_as_eager(cpu.linear(x, weight, bias, isa=isa), eager, exact, torch.bfloat16)
    int8 = Int8Matrix.quantize(weight)
    exact = reference.linear(x.double(), int8.dequantize().double(), bias)
    assert error(cpu.linear(x, int8, bias, isa=isa), exact) < 0.02


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("how", ["random", "one by all", "the same by all"])
def test_many_tokens_on_an_expert_are_as_exact_as_eager(isa: str, how: str) -> None:
    every = bank(5, 96, 128)
    x, index, weight = noise(45, 96).bfloat16(), chosen(45, 5, 3, how), noise(45, 3).softmax(-1)
    got = cpu.experts(x, index, weight, *every.packed, alpha=ALPHA, limit=LIMIT, isa=isa)
    exact = reference.experts(x.double(), index, weight, *every.packed, alpha=ALPHA, limit=LIMIT)
    eager = every.eager(torch.bfloat16)(x, index, weight.bfloat16())
    assert_as_good_as_eager(got, eager, exact, torch.bfloat16)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "hidden", "inner"), [(1, 2880, 96), (3, 96, 160), (70, 64, 128)])
def test_experts_meet_int8_activations(isa: str, tokens: int, hidden: int, inner: int, dtype: torch.dtype) -> None:
    every = bank(5, hidden, inner)
    x, index, weight = noise(tokens, hidden).to(dtype), chosen(tokens, 5, 3, "random"), noise(tokens, 3).softmax(-1)
    stages: dict[str, Tensor] = {}
    mixture = {"alpha": ALPHA, "limit": LIMIT, "isa": isa, "int8": True}
    cpu.experts(x, index, weight, *every.packed, **mixture, stages=stages, one_order=True)
    gate_up, expert = every.packed[0], int(index[-1, 1])
    sums = reference.linear(
        rounded_to_int8(x[-1:]).double(), gate_up.matrix(expert, torch.float64), gate_up.bias[expert]
    )
    neurons = reference.swiglu(sums, alpha=ALPHA, limit=LIMIT)
    # As for a dense matrix: a value on the edge between two integers may go either way.
    assert error(stages["neurons"][-1, 1:2], neurons) <= {torch.float32: 1e-3, torch.bfloat16: 5e-3}[dtype]
    exact = reference.experts(x.double(), index, weight, *every.packed, alpha=ALPHA, limit=LIMIT)
    assert error(cpu.experts(x, index, weight, *every.packed, **mixture), exact) < 0.02


def long_context(tokens: int, start: int, window: int, heads: int, dim: int) -> tuple[Tensor, Tensor, Tensor, Rows]:
    end = start + tokens
    width = -(-end // 16)
    q, k, v = noise(tokens, heads, dim), noise(width * 16, heads // 8, dim, seed=1), noise(width * 16, heads // 8, dim)
    table = torch.randperm(width, generator=torch.Generator().manual_seed(3)).int()[None]
    return q, k, v, Rows(torch.arange(start, end), torch.zeros(tokens, dtype=torch.long), table, 16, window)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [64, 40])
@pytest.mark.parametrize(
    ("tokens", "start", "window"), [(1, 511, 0), (1, 512, 0), (1, 1300, 0), (3, 1022, 0), (2, 600, 128), (70, 480, 0)]
)
def test_contexts_of_several_splits(
    isa: str, tokens: int, start: int, window: int, dim: int, dtype: torch.dtype
) -> None:
    q, k, v, rows = long_context(tokens, start, window, 16, dim)
    q, k, v, sinks = q.to(dtype), k.to(dtype), v.to(dtype), noise(16)
    exact = reference.attention(q.double(), k.double(), v.double(), sinks, rows, scale=dim**-0.5)
    got = cpu.attention(q, k, v, sinks, rows, scale=dim**-0.5, isa=isa)
    assert error(got, exact) < {torch.float32: 2e-6, torch.bfloat16: 2**-8}[dtype]


def linear_rows(isa: str, form: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight = noise(83, 160)
    stored = Int8Matrix.quantize(weight) if form == "int8" else weight.to(getattr(torch, form))
    return lambda x: cpu.linear(x.to(dtype), stored, isa=isa, one_order=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_in_one_order_a_row_does_not_depend_on_the_others(isa: str, form: str, dtype: torch.dtype) -> None:
    product, x = linear_rows(isa, form, dtype), noise(37, 160)
    together = product(x)
    for rows in (slice(0, 1), slice(3, 5), slice(8, 11), slice(20, 37)):
        assert torch.equal(product(x[rows]), together[rows])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_one_order_a_token_does_not_depend_on_the_others(isa: str, int8: bool, dtype: torch.dtype) -> None:
    every = bank(5, 96, 128)
    x, index, weight = noise(45, 96).to(dtype), chosen(45, 5, 3, "random"), noise(45, 3).softmax(-1)

    def product(rows: slice) -> Tensor:
        return cpu.experts(
            x[rows].contiguous(),
            index[rows],
            weight[rows],
            *every.packed,
            alpha=ALPHA,
            limit=LIMIT,
            isa=isa,
            one_order=True,
            int8=int8,
        )

    together = product(slice(None))
    for rows in (slice(0, 1), slice(3, 5), slice(8, 11), slice(20, 45)):
        assert torch.equal(product(rows), together[rows])


@pytest.mark.parametrize("isa", ISAS)
def test_a_query_does_not_depend_on_its_batch_or_on_the_threads(isa: str) -> None:
    q, k, v, rows = long_context(70, 980, 0, 16, 64)
    sinks, scale, before = noise(16), 0.125, cpu.threads()

    def one(i: int) -> Tensor:
        alone = Rows(rows.positions[i : i + 1], rows.sequence_of_row[i : i + 1], rows.block_table, 16, 0)
        return cpu.attention(q[i : i + 1], k, v, sinks, alone, scale=scale, isa=isa)[0]

    together = cpu.attention(q, k, v, sinks, rows, scale=scale, isa=isa)
    try:
        for threads in (1, 3):
            cpu.set_threads(threads)
            for i in (0, 33, 69):
                assert torch.equal(one(i), together[i])
    finally:
        cpu.set_threads(before)


@pytest.mark.parametrize("isa", ISAS)
def test_asking_for_the_stages_changes_no_bit_and_shows_them(isa: str) -> None:
    every = bank(5, 96, 64)
    x, index, weight = noise(9, 96), chosen(9, 5, 3, "random"), noise(9, 3).softmax(-1)
    stages: dict[str, Tensor] = {}
    without = cpu.experts(x, index, weight, *every.packed, alpha=ALPHA, limit=LIMIT, isa=isa)
    with_stages = cpu.experts(x, index, weight, *every.packed, alpha=ALPHA, limit=LIMIT, isa=isa, stages=stages)
    assert torch.equal(without, with_stages)
    down = every.packed[1]
    expert = int(index[4, 1])
    out = reference.linear(stages["neurons"][4, 1:2], down.matrix(expert, torch.float32), down.bias[expert])
    assert (stages["expert_out"][4, 1] - out[0]).abs().max() < 1e-5
    assert torch.allclose((stages["expert_out"] * weight[..., None]).sum(1), without, atol=1e-5)


def through_second_product(neurons: Tensor, down: ExpertMatrix, isa: str) -> Tensor:
    """down times neurons (inner,), as experts whose first product is its bias: gate · sigmoid(0) · (1 + 1) = gate."""
    inner, hidden = len(neurons), down.bias.shape[1]
    blocks, scales = torch.zeros(1, 2 * inner, hidden // 32, 16).byte(), torch.full((1, 2 * inner, hidden // 32), 127)
    bias = torch.stack((neurons.float(), torch.ones(inner)), dim=-1).view(1, 2 * inner)
    x, index, weight = torch.zeros(1, hidden, dtype=neurons.dtype), torch.zeros(1, 1).long(), torch.ones(1, 1)
    stages: dict[str, Tensor] = {}
    gate_up = ExpertMatrix(bias, blocks, scales.byte())
    cpu.experts(x, index, weight, gate_up, down, alpha=0.0, limit=1e30, isa=isa, stages=stages)
    return stages["expert_out"][0, 0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_scale_and_code_of_mxfp4_is_multiplied_exactly(isa: str, dtype: torch.dtype) -> None:
    # A row for each scale whose values are normal numbers of bfloat16, with all 16 codes, twice, in its block.
    scales = torch.arange(256).clamp(2, 251).to(torch.uint8)
    codes = torch.tensor([2 * i + ((2 * i + 1) << 4) for i in range(8)] * 2, dtype=torch.uint8)
    down = ExpertMatrix(torch.zeros(1, 256), codes.expand(1, 256, 1, 16).contiguous(), scales.view(1, 256, 1))
    expected = down.matrix(0, torch.float64)
    for column in range(32):
        neurons = torch.zeros(32, dtype=dtype)
        neurons[column] = 1 if column % 2 else -2
        exact = expected[:, column] * neurons[column].double()
        assert torch.equal(through_second_product(neurons, down, isa).to(dtype), exact.to(dtype))


def test_matrices_that_do_not_fit_each_other_are_refused() -> None:
    every, other = bank(4, 64, 96), bank(4, 96, 64)
    index, weight = torch.zeros(1, 1).long(), torch.ones(1, 1)
    for pair in ((every.packed[0], other.packed[1]), (other.packed[0], every.packed[1])):
        with pytest.raises(ShapeError, match="experts"):
            cpu.experts(noise(1, 64), index, weight, *pair, alpha=ALPHA, limit=LIMIT)


def test_one_order_is_refused_where_no_kernel_gives_it() -> None:
    with pytest.raises(BackendError, match="deterministic"):
        linear(noise(2, 32).double(), noise(3, 32).double(), one_order=True)


def test_an_expert_or_id_that_does_not_exist_is_refused() -> None:
    every = bank(4, 64, 96)
    weight = torch.ones(1, 1)
    for wrong in (-1, 4):
        with pytest.raises(ShapeError, match="experts"):
            cpu.experts(noise(1, 64), torch.tensor([[wrong]]), weight, *every.packed, alpha=ALPHA, limit=LIMIT)
        with pytest.raises(ShapeError, match="embed"):
            cpu.embed(torch.tensor([wrong]), noise(4, 8), torch.float32)
