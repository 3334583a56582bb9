"""Every operation of every backend against the reference in float64, next to what transformers' eager code loses.

The rule: the error of a backend is at most twice that of eager code in the same dtype, plus a few units in the last
place. The reference itself is held against the eager code in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.gpt_oss import modeling_gpt_oss as eager

from ossature import mxfp4
from ossature.ops import ExpertMatrix, Rows, reference
from tests import network

DTYPES = [torch.float32, torch.bfloat16]
TINY = {torch.float32: 2e-7, torch.bfloat16: 1e-5}  # in units of the largest value
ALPHA, LIMIT = 1.702, 7.0


def error(got: Tensor, exact: Tensor) -> float:
    """Largest difference, in units of the largest exact value."""
    return float((got.double() - exact).abs().max() / exact.abs().max())


def assert_as_good_as_eager(got: Tensor, eager_result: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert got.shape == exact.shape
    assert error(got, exact) <= 2 * error(eager_result, exact) + TINY[dtype]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.op("linear")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "size_in", "size_out"), [(1, 2880, 191), (33, 96, 144), (2, 2880, 7), (7, 1, 3)])
def test_linear(backend: ModuleType, tokens: int, size_in: int, size_out: int, dtype: torch.dtype) -> None:
    x, weight, bias = noise(tokens, size_in).to(dtype), noise(size_out, size_in).to(dtype), noise(size_out).to(dtype)
    for b in (bias, None):
        exact = reference.linear(x.double(), weight, b)
        assert_as_good_as_eager(backend.linear(x, weight, b), F.linear(x, weight, b), exact, dtype)


@pytest.mark.op("embed")
@pytest.mark.parametrize("dtype", DTYPES)
def test_embed_takes_rows_and_rounds_at_most_once(backend: ModuleType, dtype: torch.dtype) -> None:
    weight = noise(331, 96)
    ids = torch.tensor([330, 0, 7, 7])
    assert torch.equal(backend.embed(ids, weight, dtype), reference.embed(ids, weight).to(dtype))


@pytest.mark.op("rope")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(1, 6, 24), (33, 5, 64), (3, 1, 2)])
def test_rope(backend: ModuleType, tokens: int, heads: int, head_dim: int, dtype: torch.dtype) -> None:
    x, angle = noise(tokens, heads, head_dim).to(dtype), noise(tokens, head_dim // 2) * 20
    cos, sin = angle.cos() * 1.3466, angle.sin() * 1.3466
    exact = reference.rope(x.double(), cos, sin)
    plain = eager._apply_rotary_emb(x, cos[:, None].to(dtype), sin[:, None].to(dtype))
    assert_as_good_as_eager(backend.rope(x, cos, sin), plain, exact, dtype)


@pytest.mark.op("route")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "experts", "k"), [(1, 7, 3), (33, 32, 4), (5, 128, 4), (4, 3, 3), (9, 6, 1)])
def test_route(backend: ModuleType, tokens: int, experts: int, k: int, dtype: torch.dtype) -> None:
    logits = (noise(tokens, experts) * 3).to(dtype)
    index, weight = backend.route(logits, k)
    exact_index, exact = reference.route(logits.double(), k)
    assert torch.equal(logits.gather(1, index), logits.gather(1, exact_index))  # the same logits, where two are equal
    plain = torch.topk(logits, k, dim=-1).values.softmax(dim=1, dtype=dtype)
    assert_as_good_as_eager(weight, plain, exact, dtype)


@dataclass
class Sequences:
    """Keys and values of several sequences, and where a cache would have put them."""

    q: Tensor
    k: list[Tensor]  # one (context, kv_heads, head_dim) a sequence
    v: list[Tensor]
    queries: list[int]  # a sequence
    rows: Rows
    stored_k: Tensor
    stored_v: Tensor

    def to(self, dtype: torch.dtype) -> "Sequences":
        k, v = [t.to(dtype) for t in self.k], [t.to(dtype) for t in self.v]
        return Sequences(
            self.q.to(dtype), k, v, self.queries, self.rows, self.stored_k.to(dtype), self.stored_v.to(dtype)
        )


HEADS, KV_HEADS = 6, 2


def sequences(
    queries: Sequence[int], contexts: Sequence[int], window: int, *, head_dim: int, gain: float = 1.0
) -> Sequences:
    """Sequences of `contexts` tokens, of which the last `queries` are asked.

    Full layers go into blocks of 5 in a shuffled pool, window layers into rings just long enough. Every row that no
    sequence holds is NaN, so that a backend which reads it cannot pass.
    """
    count, seed = len(queries), sum(contexts) + window
    q = noise(sum(queries), HEADS, head_dim, seed=seed) * gain
    k = [noise(c, KV_HEADS, head_dim, seed=seed + 1 + s) * gain for s, c in enumerate(contexts)]
    v = [noise(c, KV_HEADS, head_dim, seed=seed + 9 + s) for s, c in enumerate(contexts)]
    block = window + max(queries) if window else 5
    width = 1 if window else -(-max(contexts) // block) + 1
    shuffled = torch.randperm(count * width + 2, generator=torch.Generator().manual_seed(seed))[: count * width]
    table = shuffled.view(count, width).int()
    stored_k, stored_v = (torch.full(((count * width + 2) * block, KV_HEADS, head_dim), torch.nan) for _ in "kv")
    for s, context in enumerate(contexts):
        for position in range(context):
            row = int(table[s, position // block % width]) * block + position % block
            stored_k[row], stored_v[row] = k[s][position], v[s][position]
    positions = torch.cat([torch.arange(c - n, c) for n, c in zip(queries, contexts, strict=True)])
    sequence = torch.arange(count).repeat_interleave(torch.tensor(queries))
    rows = Rows(positions, sequence, table, block, window)
    return Sequences(q, k, v, list(queries), rows, stored_k, stored_v)


def eager_attention(case: Sequences, sinks: Tensor, scale: float) -> Tensor:
    """Sequence by sequence through transformers' eager function, with a mask made here."""
    layer: Any = SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, sinks=sinks, training=False)
    out: list[Tensor] = []
    for q, k, v in zip(case.q.split(case.queries), case.k, case.v, strict=True):
        at = torch.arange(len(k))
        now = at[len(k) - len(q) :, None]
        hidden = (at > now) | ((at <= now - case.rows.window) if case.rows.window else False)
        mask = torch.zeros(hidden.shape, dtype=q.dtype).masked_fill(hidden, torch.finfo(q.dtype).min)
        query, key, value = (t.transpose(0, 1)[None] for t in (q, k, v))
        out.append(eager.eager_attention_forward(layer, query, key, value, mask[None, None], scaling=scale)[0][0])
    return torch.cat(out)


CASES = {
    "one token": ([1], [1]),
    "one token after many": ([1], [33]),
    "a prompt": ([33], [33]),
    "window - 1": ([7], [7]),
    "window": ([8], [8]),
    "window + 1": ([9], [9]),
    "a late chunk": ([5], [31]),
    "decoding together": ([1, 1, 1], [4, 29, 8]),
    "prefill and decode together": ([11, 1, 3], [11, 26, 20]),
}


@pytest.mark.op("attention")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [0, 1, 8])
@pytest.mark.parametrize(("queries", "contexts"), CASES.values(), ids=CASES)
def test_attention(
    backend: ModuleType, queries: list[int], contexts: list[int], window: int, dtype: torch.dtype
) -> None:
    case, sinks, scale = sequences(queries, contexts, window, head_dim=24).to(dtype), noise(HEADS).to(dtype), 24**-0.5
    got = backend.attention(case.q, case.stored_k, case.stored_v, sinks, case.rows, scale=scale)
    wide = case.to(torch.float64)
    exact = reference.attention(wide.q, wide.stored_k, wide.stored_v, sinks, case.rows, scale=scale)
    assert error(eager_attention(wide, sinks.double(), scale), exact) < 1e-14
    assert_as_good_as_eager(got, eager_attention(case, sinks, scale), exact, dtype)


@pytest.mark.op("attention")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sink", [-20.0, 5.0, 20.0])
@pytest.mark.parametrize("gain", [1.0, 3.0], ids=["scores near 1", "scores to 50"])
@pytest.mark.parametrize("head_dim", [24, 32, 64, 80])
def test_attention_with_large_sinks_and_scores(
    backend: ModuleType, head_dim: int, gain: float, sink: float, dtype: torch.dtype
) -> None:
    case, scale = sequences([33], [33], 8, head_dim=head_dim, gain=gain).to(dtype), head_dim**-0.5
    sinks = (sink + noise(HEADS)).to(dtype)
    got = backend.attention(case.q, case.stored_k, case.stored_v, sinks, case.rows, scale=scale)
    wide = case.to(torch.float64)
    exact = reference.attention(wide.q, wide.stored_k, wide.stored_v, sinks, case.rows, scale=scale)
    assert_as_good_as_eager(got, eager_attention(case, sinks, scale), exact, dtype)


@pytest.mark.op("attention")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_share_of_the_sink_is_as_exact_as_the_activations(backend: ModuleType, dtype: torch.dtype) -> None:
    # One key of score s against a sink S: the output is v · e^s / (e^s + e^S). With every v = 1 it is that share. A
    # sink rounded after it was divided by a scale such as 1/√24 would be off by up to 0.05 at 20, the share by 5 %.
    q, k, v = torch.zeros(1, HEADS, 24), torch.zeros(1, KV_HEADS, 24), torch.ones(1, KV_HEADS, 24)
    rows = Rows(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.zeros(1, 1).int(), 1, 0)
    sinks = torch.tensor([-20.0, -1.0, 0.0, 3.0, 10.0, 19.875])
    got = backend.attention(q.to(dtype), k.to(dtype), v.to(dtype), sinks.to(dtype), rows, scale=24**-0.5)
    share = 1 / (1 + sinks.double().exp())
    assert ((got[0] / share[:, None] - 1).abs() < {torch.float32: 3e-6, torch.bfloat16: 2**-8}[dtype]).all()


@pytest.mark.op("attention_pattern")
@pytest.mark.parametrize("window", [0, 8])
@pytest.mark.parametrize(("queries", "contexts"), CASES.values(), ids=CASES)
def test_attention_pattern(backend: ModuleType, queries: list[int], contexts: list[int], window: int) -> None:
    case, sinks, scale = sequences(queries, contexts, window, head_dim=24), noise(HEADS), 24**-0.5
    got = backend.attention_pattern(case.q, case.stored_k, sinks, case.rows, scale=scale)
    wide = case.to(torch.float64)
    exact = reference.attention_pattern(wide.q, wide.stored_k, sinks, case.rows, scale=scale)
    sequence, positions = case.rows.sequence_of_row, case.rows.positions
    for row, (ours, theirs) in enumerate(zip(got, exact, strict=True)):
        first_query = int(positions[sequence == sequence[row]][0])
        first_key = max(0, first_query - window + 1) if window else 0  # of the first column
        keys = theirs.shape[1] - 1
        start = int(positions[row]) + 1 - keys - first_key
        assert (ours[:, -1] - theirs[:, -1]).abs().max() < 1e-6
        assert (ours[:, start : start + keys] - theirs[:, :-1]).abs().max() < 1e-6
        assert (ours.sum(-1) - 1).abs().max() < 1e-6


@dataclass
class Bank:
    """Experts in all their forms: the packed and the dense matrices hold the same values."""

    packed: tuple[ExpertMatrix, ExpertMatrix]
    dense: tuple[ExpertMatrix, ExpertMatrix]
    size: int

    def eager(self, dtype: torch.dtype) -> nn.Module:
        (gate_up, down), (up_bias, down_bias) = (m.weight for m in self.dense), (m.bias for m in self.dense)
        assert gate_up is not None
        assert down is not None
        config = network.peer_config(
            num_local_experts=self.size, hidden_size=gate_up.shape[1], intermediate_size=down.shape[1]
        )
        config._experts_implementation = "eager"
        module = eager.GptOssExperts(config)
        module.load_state_dict(
            {"gate_up_proj": gate_up, "gate_up_proj_bias": up_bias, "down_proj": down, "down_proj_bias": down_bias}
        )
        return module.to(dtype).requires_grad_(False)


def bank(size: int, hidden: int, inner: int, *, gain: float = 2.0) -> Bank:
    packed: list[ExpertMatrix] = []
    dense: list[ExpertMatrix] = []
    for size_in, size_out in ((hidden, 2 * inner), (inner, hidden)):
        values = (noise(size, size_out, size_in) * gain * size_in**-0.5).numpy()
        blocks, scales = mxfp4.encode(values)
        bias = noise(size, size_out).bfloat16()
        weight = torch.from_numpy(np.ascontiguousarray(mxfp4.decode(blocks, scales).transpose(0, 2, 1)))
        packed.append(ExpertMatrix(bias, torch.from_numpy(blocks), torch.from_numpy(scales)))
        dense.append(ExpertMatrix(bias, weight=weight.bfloat16()))
    return Bank((packed[0], packed[1]), (dense[0], dense[1]), size)


def chosen(tokens: int, size: int, k: int, how: str) -> Tensor:
    """Indices (tokens, k), no expert twice in a row."""
    scores = noise(tokens, size).abs()
    if how == "one by all":
        scores[:, 2] = 99
    if how == "one by none":
        scores[:, 2] = -1
    if how == "the same by all":
        scores = scores[:1].expand(tokens, -1)
    return scores.topk(k, dim=-1).indices


HOW = ["random", "one by all", "one by none", "the same by all"]
# (tokens, size, k, hidden, inner)
SHAPES = [(1, 7, 3, 96, 64), (33, 7, 3, 96, 64), (5, 4, 1, 32, 160), (9, 5, 4, 64, 96), (3, 3, 2, 2880, 64)]


def check_experts(
    backend: ModuleType, every: Bank, matrices: tuple[ExpertMatrix, ExpertMatrix], index: Tensor, dtype: torch.dtype
) -> None:
    tokens, k = index.shape
    gate_up, down = matrices
    x, weight = noise(tokens, down.bias.shape[1]).to(dtype), noise(tokens, k).softmax(-1)
    got = backend.experts(x, index, weight, gate_up, down, alpha=ALPHA, limit=LIMIT)
    exact = reference.experts(x.double(), index, weight, gate_up, down, alpha=ALPHA, limit=LIMIT)
    plain = every.eager(torch.float64)(x.double(), index, weight.double())
    assert error(plain, exact) < 1e-14
    assert_as_good_as_eager(got, every.eager(dtype)(x, index, weight.to(dtype)), exact, dtype)


@pytest.mark.op("experts")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("tokens", "size", "k", "hidden", "inner"), SHAPES)
def test_packed_experts(
    backend: ModuleType, tokens: int, size: int, k: int, hidden: int, inner: int, how: str, dtype: torch.dtype
) -> None:
    every = bank(size, hidden, inner)
    check_experts(backend, every, every.packed, chosen(tokens, size, k, how), dtype)


@pytest.mark.op("experts", dense=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("tokens", "size", "k", "hidden", "inner"), SHAPES)
def test_dense_experts(
    backend: ModuleType, tokens: int, size: int, k: int, hidden: int, inner: int, how: str, dtype: torch.dtype
) -> None:
    every = bank(size, hidden, inner)
    check_experts(backend, every, every.dense, chosen(tokens, size, k, how), dtype)


@pytest.mark.op("experts")
def test_clamps_are_reached_on_both_sides_and_agree_there(backend: ModuleType) -> None:
    every = bank(4, 64, 96, gain=12)
    x, index, weight = noise(9, 64), chosen(9, 4, 2, "random"), noise(9, 2).softmax(-1)
    hidden = every.packed[0].matrix(int(index[0, 0]), torch.float32) @ x[0]
    assert hidden[0::2].max() > LIMIT
    assert hidden[0::2].min() < -LIMIT
    assert hidden[1::2].max() > LIMIT
    assert hidden[1::2].min() < -LIMIT
    got = backend.experts(x, index, weight, *every.packed, alpha=ALPHA, limit=LIMIT)
    exact = reference.experts(x.double(), index, weight, *every.packed, alpha=ALPHA, limit=LIMIT)
    plain = every.eager(torch.float32)(x, index, weight)
    assert_as_good_as_eager(got, plain, exact, torch.float32)
