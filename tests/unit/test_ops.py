"""The operations on numbers that can be checked by hand, what they refuse, and where rows are stored."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ossature import mxfp4, ops
from ossature.errors import ShapeError
from ossature.ops import ExpertMatrix, Rows, cpu, dequantize, grad, reference

ALPHA, LIMIT = 1.702, 7.0


def own_rows(tokens: int, window: int = 0) -> Rows:
    """One sequence whose keys are its own rows."""
    row = torch.arange(tokens)
    return Rows(row, torch.zeros_like(row), row[None].int(), 1, window)


@pytest.mark.parametrize("swiglu", [grad.swiglu, reference.swiglu], ids=["torch", "reference"])
@pytest.mark.parametrize(
    ("gate", "up", "expected"),
    [
        (0.0, 3.0, 0.0),
        (1.0, 0.0, 1 / (1 + math.exp(-1.702))),  # 0.845796
        (10.0, -9.0, -42 / (1 + math.exp(-11.914))),  # -41.99972: 7 · sigmoid(11.914) · (-7 + 1)
        (-10.0, 1.0, -10 / (1 + math.exp(17.02)) * 2),  # a gate is not clamped from below
        (7.0, 8.0, 7 / (1 + math.exp(-11.914)) * 8),
    ],
)
def test_swiglu_of_single_numbers(swiglu: Callable[..., Tensor], gate: float, up: float, expected: float) -> None:
    pair = torch.tensor([[gate, up]], dtype=torch.float64)
    assert swiglu(pair, alpha=ALPHA, limit=LIMIT).item() == pytest.approx(expected, rel=1e-12)


def test_swiglu_reads_gates_from_even_columns_and_the_linear_branch_from_odd_ones() -> None:
    got = grad.swiglu(torch.tensor([[1.0, 0.0, 0.0, 5.0, 1.0, 1.0]]), alpha=ALPHA, limit=LIMIT)
    assert got.flatten().tolist() == pytest.approx([0.8457958, 0.0, 2 * 0.8457958])


@pytest.mark.parametrize("attention", [grad.attention, reference.attention], ids=["torch", "reference"])
@pytest.mark.parametrize(("score", "sink"), [(0.0, 0.0), (1.5, -2.0), (-30.0, 4.0), (25.0, 24.0)])
def test_one_key_shares_the_softmax_with_the_sink(attention: Callable[..., Tensor], score: float, sink: float) -> None:
    scale = 0.5  # q · k · scale = score
    q = torch.tensor([[[score / scale, 0.0]]], dtype=torch.float64)
    k = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    v = torch.tensor([[[2.0, -3.0]]], dtype=torch.float64)
    got = attention(q, k, v, torch.tensor([sink], dtype=torch.float64), own_rows(1), scale=scale)
    share = math.exp(score) / (math.exp(score) + math.exp(sink))
    assert got.flatten().tolist() == pytest.approx([2 * share, -3 * share], rel=1e-12)


@pytest.mark.parametrize(("window", "last_seen"), [(0, 0), (1, 8), (3, 6), (9, 0), (20, 0)])
def test_a_row_sees_the_last_window_keys_and_its_own_is_one_of_them(window: int, last_seen: int) -> None:
    pattern = ops.attention_pattern(
        torch.zeros(9, 1, 2), torch.zeros(9, 1, 2), torch.zeros(1), own_rows(9, window), scale=1.0
    )
    seen = (pattern[8, 0, :-1] > 0).nonzero().flatten().tolist()
    assert seen == list(range(last_seen, 9))
    assert pattern[8, 0, -1] == pytest.approx(1 / (len(seen) + 1))  # the sink counts as one more equal score


def test_query_heads_share_key_heads_in_order() -> None:
    k = torch.zeros(1, 2, 4)
    v = torch.tensor([[[1.0] * 4, [2.0] * 4]])
    got = ops.attention(torch.zeros(1, 6, 4), k, v, torch.full((6,), -100.0), own_rows(1), scale=1.0)
    assert got[0, :, 0].tolist() == [1, 1, 1, 2, 2, 2]


def test_route_weighs_the_chosen_experts_alone_and_names_the_best_first() -> None:
    index, weight = ops.route(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), 2)
    assert index.tolist() == [[1, 3]]
    assert weight.flatten().tolist() == pytest.approx([math.e / (math.e + 1), 1 / (math.e + 1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_code_at_every_scale_is_the_number_that_numpy_decodes(dtype: torch.dtype) -> None:
    pairs = np.arange(256, dtype=np.uint8).reshape(16, 16)  # all pairs of codes, 16 bytes a block
    scales = np.arange(255, dtype=np.uint8)
    blocks = np.broadcast_to(pairs, (255, 16, 16)).copy()
    got = dequantize(torch.from_numpy(blocks), torch.from_numpy(scales[:, None].repeat(16, axis=1)), dtype)
    expected = torch.from_numpy(mxfp4.decode(blocks, scales[:, None].repeat(16, axis=1)))
    assert torch.equal(got, expected.to(dtype))
    assert torch.equal(got.float(), expected)  # bfloat16 holds every one of them
    assert torch.equal(got.signbit(), expected.signbit())


def test_packed_and_dense_experts_are_the_same_matrices() -> None:
    blocks, scales = mxfp4.encode(np.random.default_rng(0).standard_normal((3, 7, 64), np.float32))
    dense = torch.from_numpy(mxfp4.decode(blocks, scales)).mT
    bias = torch.zeros(3, 7)
    packed = ExpertMatrix(bias, torch.from_numpy(blocks), torch.from_numpy(scales))
    for left, right in zip(packed.matrices([2, 0], torch.float32), (dense[2].T, dense[0].T), strict=True):
        assert torch.equal(left, right)
    for left, right in zip(ExpertMatrix(bias, weight=dense).matrices([1], torch.bfloat16), (dense[1].T,), strict=True):
        assert torch.equal(left, right.bfloat16())


def test_asking_for_the_stages_of_the_experts_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x, index = torch.randn(9, 64, generator=generator), torch.randint(0, 3, (9, 1), generator=generator)
    gate_up = ExpertMatrix(torch.randn(3, 192), weight=torch.randn(3, 64, 192, generator=generator))
    down = ExpertMatrix(torch.randn(3, 64), weight=torch.randn(3, 96, 64, generator=generator))
    weight = torch.full((9, 1), 0.75)
    stages: dict[str, Tensor] = {}
    got = ops.experts(x, index, weight, gate_up, down, alpha=ALPHA, limit=LIMIT, stages=stages)
    assert torch.equal(got, ops.experts(x, index, weight, gate_up, down, alpha=ALPHA, limit=LIMIT))
    assert stages["neurons"].shape == (9, 1, 96)
    assert torch.equal(stages["expert_out"][:, 0] * 0.75, got)


def test_the_gradient_path_and_the_dispatch_agree_on_who_computes() -> None:
    x, weight = torch.randn(3, 7), torch.ones(7, requires_grad=True)
    assert ops.rmsnorm(x, weight, 1e-5).requires_grad
    with torch.no_grad():
        assert not ops.rmsnorm(x, weight, 1e-5).requires_grad
    assert ops.rmsnorm(x.double(), weight.detach(), 1e-5).dtype == torch.float64  # no kernel takes float64


def test_what_the_kernel_does_not_take_is_computed_all_the_same() -> None:
    x, weight = torch.randn(3, 7), torch.ones(7)
    expected = ops.rmsnorm(x, weight, 1e-5)
    assert torch.equal(ops.rmsnorm(x.T.contiguous().T, weight, 1e-5), expected)
    assert torch.allclose(ops.rmsnorm(x, weight.half(), 1e-5), expected, rtol=1e-6)
    assert ops.rmsnorm(x.half(), weight, 1e-5).dtype == torch.float16


def test_backends_names_every_operation_once_with_a_reason() -> None:
    lines = ops.backends()
    assert [line.op for line in lines] == ["embed", "rmsnorm", "linear", "rope", "attention", "route", "experts"]
    assert all(line.backend and line.reason for line in lines)
    assert lines[1].backend == (f"cpu ({cpu.isa})" if cpu.available else "torch")


@pytest.mark.parametrize(
    ("op", "call"),
    [
        ("rmsnorm", lambda: ops.rmsnorm(torch.ones(3, 8), torch.ones(7), 1e-5)),
        ("rmsnorm", lambda: ops.rmsnorm(torch.ones(8), torch.ones(8), 1e-5)),
        ("linear", lambda: ops.linear(torch.ones(3, 8), torch.ones(8, 5))),
        ("rope", lambda: ops.rope(torch.ones(3, 2, 8), torch.ones(3, 8), torch.ones(3, 8))),
        ("attention", lambda: _attention(sinks=torch.ones(2))),
        ("attention", lambda: _attention(v=torch.ones(3, 1, 4))),
        ("experts", lambda: _experts(torch.ones(3, 1))),
    ],
)
def test_shapes_that_do_not_go_together_are_named(op: str, call: Callable[[], Tensor]) -> None:
    with pytest.raises(ShapeError, match=rf"^{op}: these shapes do not go together: .*\(3, |^{op}: .*\(8,"):
        call()


def _attention(v: Tensor | None = None, sinks: Tensor | None = None) -> Tensor:
    q, k = torch.ones(3, 6, 4), torch.ones(3, 2, 4)
    sinks = torch.ones(6) if sinks is None else sinks
    return ops.attention(q, k, k if v is None else v, sinks, own_rows(3), scale=1.0)


def _experts(weight: Tensor) -> Tensor:
    matrix = ExpertMatrix(torch.ones(2, 4), weight=torch.ones(2, 4, 4))
    index = torch.zeros(3, 2, dtype=torch.long)
    return ops.experts(torch.ones(3, 4), index, weight, matrix, matrix, alpha=ALPHA, limit=LIMIT)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 20)), min_size=1, max_size=4),
    window=st.sampled_from([0, 1, 3, 8]),
    block_size=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_the_rectangles_of_a_batch_show_each_row_exactly_the_keys_it_sees(
    lengths: list[tuple[int, int]], window: int, block_size: int, seed: int
) -> None:
    sequences = [(new, new + before) for new, before in lengths]
    width = -(-max(context for _, context in sequences) // block_size)
    order = torch.randperm(len(sequences) * width, generator=torch.Generator().manual_seed(seed))
    table = order.view(len(sequences), width).int()
    positions = torch.cat([torch.arange(context - new, context) for new, context in sequences])
    sequence = torch.repeat_interleave(torch.tensor([new for new, _ in sequences]))
    rows = Rows(positions, sequence, table, block_size, window)
    padded = rows.padded
    seen_by = {}
    for s, queries in enumerate(padded.query):
        for place, row in enumerate(queries.tolist()):
            seen_by.setdefault(row, padded.key[s][padded.mask[s, place]].tolist())
    assert padded.query.flatten()[padded.keep].tolist() == list(range(len(positions)))
    for row, (s, position) in enumerate(zip(sequence.tolist(), positions.tolist(), strict=True)):
        first = max(0, position - window + 1) if window else 0
        wanted = [int(table[s, p // block_size]) * block_size + p % block_size for p in range(first, position + 1)]
        assert rows.key_rows(s, position).tolist() == wanted
        assert seen_by[row] == wanted
        assert int(rows.own[row]) == wanted[-1]
