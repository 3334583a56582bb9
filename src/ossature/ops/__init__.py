"""The operations of the network: one signature each, and the whole dispatch on one screen.

A compiled kernel runs where it exists, the tensors are on the CPU and no gradient is asked for. Everything else is
plain torch (`grad`). `reference` is the oracle and is never dispatched to. `backends()` says which and why.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ossature.errors import BackendError, ShapeError
from ossature.ops import cpu, grad, reference
from ossature.ops.expert_matrix import ExpertMatrix, dequantize
from ossature.ops.int8_matrix import Int8Matrix
from ossature.ops.rows import Rows

__all__ = [
    "Backend",
    "ExpertMatrix",
    "Int8Matrix",
    "Rows",
    "attention",
    "attention_pattern",
    "backends",
    "dequantize",
    "embed",
    "experts",
    "linear",
    "read_ahead",
    "reference",
    "rmsnorm",
    "rope",
    "route",
]


def embed(token_ids: Tensor, weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Rows of weight (vocab, hidden) for token_ids (tokens,) int64 → (tokens, hidden) in `dtype`."""
    if _needs_grad(weight) or not _has_kernel(weight) or dtype not in cpu.DTYPES:
        return grad.embed(token_ids, weight, dtype)
    return cpu.embed(token_ids, weight, dtype)


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (tokens, hidden) over its root mean square, times weight (hidden,); float32 inside, dtype of x outside."""
    _require(x.ndim == 2 and weight.shape == x.shape[1:], "rmsnorm", x=x, weight=weight)
    if _needs_grad(x, weight) or not _has_kernel(x, weight):
        return grad.rmsnorm(x, weight, eps)
    return cpu.rmsnorm(x.contiguous(), weight, eps)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, int8: Int8Matrix | None = None, one_order: bool = False
) -> Tensor:
    """x (tokens, in), weight (out, in), bias (out,) or None → (tokens, out), dtype of x.

    int8       a copy of `weight` that takes its place wherever no gradient is asked for
    one_order  sum a row in one order, whatever the number of rows. Raises BackendError where no kernel does
    """
    _require(x.ndim == 2 and weight.ndim == 2 and x.shape[1] == weight.shape[1], "linear", x=x, weight=weight)
    stored = [weight] if bias is None else [weight, bias]
    if _needs_grad(x, *stored) or not _has_kernel(x, *stored):
        _require_any_order(one_order, "linear")
        return grad.linear(x, weight, bias)
    return cpu.linear(x.contiguous(), int8 or weight.contiguous(), bias, one_order=one_order)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim/2) of x (tokens, heads, head_dim) by cos, sin (tokens, head_dim/2) float32."""
    _require(x.ndim == 3 and cos.shape == (x.shape[0], x.shape[2] // 2), "rope", x=x, cos=cos, sin=sin)
    if _needs_grad(x) or not _has_kernel(x, cos, sin):
        return grad.rope(x, cos, sin)
    return cpu.rope(x.contiguous(), cos, sin)


def attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """Causal attention with one learned sink logit a head.

    q      (tokens, heads, head_dim)          float32 | bfloat16
    k, v   (stored rows, kv_heads, head_dim)  same dtype; `rows` says where each query finds its keys
    sinks  (heads,) in logit units: joins the softmax unscaled, has no value row

    Returns (tokens, heads, head_dim), dtype of q. Source: openai/gpt-oss torch/model.py `sdpa`.
    """
    _require(q.ndim == 3 and k.shape == v.shape and sinks.shape == q.shape[1:2], "attention", q=q, k=k, v=v)
    if not _needs_grad(q, k, v, sinks) and _has_kernel(q, k, v, sinks) and cpu.attention_fits(q, k):
        return cpu.attention(q.contiguous(), k.contiguous(), v.contiguous(), sinks, rows, scale=scale)
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
    one_order: bool = False,
    int8: bool = False,
) -> Tensor:
    """Weighted sum over the chosen experts of down(swiglu(gate_up(x))), biases included.

    x (tokens, hidden); index (tokens, k) int64; weight (tokens, k) float32; gate_up and down: `ExpertMatrix`
    alpha, limit: of the clamped SwiGLU. `stages`, where given, receives the buffers between the products.
    one_order: sum each token's products in one order, whatever the number of tokens; as in `linear`.
    int8: x and the activations are rounded to int8 in blocks of 32 where a compiled kernel gains by it.

    Returns (tokens, hidden), dtype of x.
    """
    _require(x.ndim == 2 and index.shape == weight.shape, "experts", x=x, index=index, weight=weight)
    given = (x, gate_up.bias, down.bias)
    if gate_up.is_packed and _has_kernel(*given) and not _needs_grad(weight, *given):
        return cpu.experts(
            x.contiguous(),
            index,
            weight,
            gate_up,
            down,
            alpha=alpha,
            limit=limit,
            stages=stages,
            one_order=one_order,
            int8=int8,
        )
    _require_any_order(one_order, "experts")
    return grad.experts(x, index, weight, gate_up, down, alpha=alpha, limit=limit, stages=stages)


def read_ahead(index: Tensor, *matrices: ExpertMatrix) -> None:
    """Ask the system to read the packed matrices of the experts in `index` from their file, and go on at once."""
    if cpu.available:
        for matrix in matrices:
            for tensor in (matrix.blocks, matrix.scales):
                if tensor is not None:
                    cpu.read_ahead(*(tensor[expert] for expert in index.unique().tolist()))


class Backend(NamedTuple):
    """Who computes an operation on this machine when no gradient is asked for, and why."""

    op: str
    backend: str
    reason: str


def backends() -> list[Backend]:
    """One line an operation, in the order of the forward pass, for `ossature info`."""
    compiled = ("embed", "rmsnorm", "linear", "rope", "attention", "experts")
    kernels = {op: Backend(op, f"cpu ({cpu.isa})" if cpu.available else "torch", cpu.reason) for op in compiled}
    route = Backend("route", "torch", "plain torch by design: small, and researchers change it")
    return [*(kernels[op] for op in compiled[:-1]), route, kernels["experts"]]


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _has_kernel(*tensors: Tensor) -> bool:
    return cpu.available and all(t.is_cpu and t.dtype in cpu.DTYPES for t in tensors)


def _require_any_order(one_order: bool, op: str) -> None:
    if one_order:
        raise BackendError(
            f"{op}: one summation order for every batch was asked for (deterministic=True), and no compiled kernel "
            f"takes these tensors: {cpu.reason}. It needs activations in float32 or bfloat16 on the CPU, packed "
            "experts, and no gradient."
        )


def _require(condition: bool, op: str, **tensors: Tensor) -> None:
    if not condition:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"{op}: these shapes do not go together: {shapes}. `help(ossature.ops.{op})` lists what does.")
