"""Every operation in float32, written to be read: the oracle that all other backends are wrong against.

Nothing here is optimised, and nothing here runs unless a test or a person asks for it. Given float64, it computes
in float64, so that the error of float32 itself can be measured. Results come back in float32 (or float64), never
rounded to a smaller type: rounding is a backend's business.
"""

import torch
from torch import Tensor

from ossature.ops.expert_matrix import ExpertMatrix
from ossature.ops.rows import Rows

__all__ = ["attention", "attention_pattern", "embed", "experts", "linear", "rmsnorm", "rope", "route", "swiglu"]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def embed(token_ids: Tensor, weight: Tensor) -> Tensor:
    """Rows of `weight` (vocab, hidden) named by `token_ids` (tokens,) → (tokens, hidden)."""
    return _wide(weight[token_ids])


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last axis; x (tokens, hidden), weight (hidden,).

    Source: openai/gpt-oss torch/model.py `RMSNorm` (the gain is applied before any rounding).
    """
    x = _wide(x)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight.to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (tokens, in) times weight (out, in) transposed, plus bias (out,) → (tokens, out)."""
    x = _wide(x)
    y = x @ weight.to(x.dtype).T
    return y if bias is None else y + bias.to(x.dtype)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + head_dim/2) of x (tokens, heads, head_dim); cos, sin (tokens, head_dim/2)."""
    x = _wide(x)
    cos, sin = cos.to(x.dtype)[:, None, :], sin.to(x.dtype)[:, None, :]
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attention_pattern(q: Tensor, k: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> list[Tensor]:
    """One (heads, keys + 1) matrix a query row: softmax over its visible keys, oldest first, and the sink, last."""
    group = q.shape[1] // k.shape[1]
    patterns: list[Tensor] = []
    for query, position, sequence in zip(_wide(q), rows.positions, rows.sequence_of_row, strict=True):
        keys = _wide(k[rows.key_rows(int(sequence), int(position))]).to(query.dtype)
        scores = torch.einsum("hd,chd->hc", query, keys.repeat_interleave(group, dim=1)) * scale
        patterns.append(torch.cat((scores, sinks.to(scores.dtype)[:, None]), dim=-1).softmax(-1))
    return patterns


def attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """Causal attention with one learned sink logit a head: it joins the softmax and has no value row.

    q      (tokens, heads, head_dim)
    k, v   (stored rows, kv_heads, head_dim); `rows` says where each query finds its keys
    sinks  (heads,) in logit units: neither scaled nor rotated

    Returns (tokens, heads, head_dim). Source: openai/gpt-oss torch/model.py `sdpa`.
    """
    group = q.shape[1] // k.shape[1]
    out = torch.empty_like(_wide(q))
    for i, pattern in enumerate(attention_pattern(q, k, sinks, rows, scale=scale)):
        values = v[rows.key_rows(int(rows.sequence_of_row[i]), int(rows.positions[i]))].to(out.dtype)
        out[i] = torch.einsum("hc,chd->hd", pattern[:, :-1], values.repeat_interleave(group, dim=1))
    return out


def route(logits: Tensor, num_experts_per_tok: int) -> tuple[Tensor, Tensor]:
    """The chosen experts of each token, best first, and the softmax over their logits alone.

    logits (tokens, experts) → index (tokens, k) int64, weight (tokens, k). Source: openai/gpt-oss `MLPBlock`.
    """
    top = torch.topk(_wide(logits), num_experts_per_tok, dim=-1, sorted=True)
    return top.indices, top.values.softmax(-1)


def swiglu(gate_up: Tensor, *, alpha: float, limit: float) -> Tensor:
    """Clamped SwiGLU on interleaved columns: even ones are the gate, odd ones the linear branch.

    gate_up (…, 2·intermediate) → (…, intermediate). Source: openai/gpt-oss torch/model.py `swiglu`.
    """
    gate = gate_up[..., 0::2].clamp(max=limit)
    up = gate_up[..., 1::2].clamp(min=-limit, max=limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)  # +1: gpt-oss opens the linear branch at identity


def experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: ExpertMatrix,
    down: ExpertMatrix,
    *,
    alpha: float,
    limit: float,
) -> Tensor:
    """Weighted sum of the chosen experts' outputs.

    x (tokens, hidden); index, weight (tokens, k); gate_up (experts, 2·intermediate, hidden), down (experts, hidden,
    intermediate), both with biases → (tokens, hidden). Source: openai/gpt-oss torch/model.py `MLPBlock`.
    """
    x = _wide(x)
    out = torch.zeros_like(x)
    for token in range(x.shape[0]):
        for expert, share in zip(index[token].tolist(), weight[token].to(x.dtype), strict=True):
            hidden = gate_up.matrix(expert, x.dtype) @ x[token] + gate_up.bias[expert].to(x.dtype)
            neurons = swiglu(hidden, alpha=alpha, limit=limit)
            out[token] += share * (down.matrix(expert, x.dtype) @ neurons + down.bias[expert].to(x.dtype))
    return out
