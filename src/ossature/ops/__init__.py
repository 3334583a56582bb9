"""The operations of the network: one signature each, and the whole dispatch on one screen.

A compiled kernel runs where it exists, the tensors are on the CPU and no gradient is asked for. Everything else is
plain torch (`grad`). `reference` is the oracle and is never dispatched to. `backends()` says which and why.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ossature.errors import ShapeError
from ossature.ops import cpu, grad, reference
from ossature.ops.expert_matrix import ExpertMatrix, dequantize
from ossature.ops.rows import Rows

__all__ = [
    "Backend",
    "ExpertMatrix",
    "Rows",
    "attention",
    "attention_pattern",
    "backends",
    "dequantize",
    "embed",
    "experts",
    "linear",
    "reference",
    "rmsnorm",
    "rope",
    "route",
]


def embed(token_ids: Tensor, weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Rows of weight (vocab, hidden) for token_ids (tokens,) int64 → (tokens, hidden) in `dtype`."""
    return grad.embed(token_ids, weight, dtype)


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (tokens, hidden) over its root mean square, times weight (hidden,); float32 inside, dtype of x outside."""
    _require(x.ndim == 2 and weight.shape == x.shape[1:], "rmsnorm", x=x, weight=weight)
    if _needs_grad(x, weight) or not _has_kernel(x, weight):
        return grad.rmsnorm(x, weight, eps)
    return cpu.rmsnorm(x.contiguous(), weight, eps)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (tokens, in), weight (out, in), bias (out,) or None → (tokens, out), dtype of x."""
    _require(x.ndim == 2 and weight.ndim == 2 and x.shape[1] == weight.shape[1], "linear", x=x, weight=weight)
    return grad.linear(x, weight, bias)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim/2) of x (tokens, heads, head_dim) by cos, sin (tokens, head_dim/2) float32."""
    _require(x.ndim == 3 and cos.shape == (x.shape[0], x.shape[2] // 2), "rope", x=x, cos=cos, sin=sin)
    return grad.rope(x, cos, sin)


def attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """Causal attention with one learned sink logit a head.

    q      (tokens, heads, head_dim)          float32 | bfloat16
    k, v   (stored rows, kv_heads, head_dim)  same dtype; `rows` says where each query finds its keys
    sinks  (heads,) in logit units: joins the softmax unscaled, has no value row

    Returns (tokens, heads, head_dim), dtype of q. Source: openai/gpt-oss torch/model.py `sdpa`.
    """
    _require(q.ndim == 3 and k.shape == v.shape and sinks.shape == q.shape[1:2], "attention", q=q, k=k, v=v)
    return grad.attention(q, k, v, sinks, rows, scale=scale)


def attention_pattern(q: Tensor, k: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """Probabilities (tokens, heads, keys + 1) float32, the sink last: a side computation that `attention` never reads.

    Keys run from the first that any row of the sequence sees; those a row does not see are 0.
    """
    return grad.attention_pattern(q, k, sinks, rows, scale=scale)


def route(logits: Tensor, num_experts_per_tok: int) -> tuple[Tensor, Tensor]:
    """logits (tokens, experts) → chosen index (tokens, k) int64, best first, and softmax over the chosen, float32."""
    return grad.route(logits, num_experts_per_tok)


def experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: ExpertMatrix,
    down: ExpertMatrix,
    *,
    alpha: float,
    limit: float,
    stages: dict[str, Tensor] | None = None,
) -> Tensor:
    """Weighted sum over the chosen experts of down(swiglu(gate_up(x))), biases included.

    x (tokens, hidden); index (tokens, k) int64; weight (tokens, k) float32; gate_up and down: `ExpertMatrix`
    alpha, limit: of the clamped SwiGLU. `stages`, where given, receives the buffers between the products.

    Returns (tokens, hidden), dtype of x.
    """
    _require(x.ndim == 2 and index.shape == weight.shape, "experts", x=x, index=index, weight=weight)
    return grad.experts(x, index, weight, gate_up, down, alpha=alpha, limit=limit, stages=stages)


class Backend(NamedTuple):
    """Who computes an operation on this machine when no gradient is asked for, and why."""

    op: str
    backend: str
    reason: str


def backends() -> list[Backend]:
    """One line an operation, in the order of the forward pass, for `ossature info`."""
    kernel = Backend("rmsnorm", f"cpu ({cpu.isa})", cpu.reason) if cpu.available else _torch("rmsnorm", cpu.reason)
    plain = "plain torch: no compiled kernel yet"
    return [
        _torch("embed", plain),
        kernel,
        *(_torch(op, plain) for op in ("linear", "rope", "attention")),
        _torch("route", "plain torch by design: small, and researchers change it"),
        _torch("experts", plain),
    ]


def _torch(op: str, reason: str) -> Backend:
    return Backend(op, "torch", reason)


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _has_kernel(*tensors: Tensor) -> bool:
    return cpu.available and all(t.is_cpu and t.dtype in (torch.float32, torch.bfloat16) for t in tensors)


def _require(condition: bool, op: str, **tensors: Tensor) -> None:
    if not condition:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"{op}: these shapes do not go together: {shapes}. `help(ossature.ops.{op})` lists what does.")
