"""Every operation in plain torch: differentiable, fast enough to train with, and the path where no kernel fits.

Products and results have the dtype of `x`; norms, softmax, rotation and activation are computed in float32 (float64
when given float64), where bfloat16 would lose what the published reference keeps. Experts are products over tokens
sorted by expert, and the attention sink is one more key, so that both are dense products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ossature.ops.expert_matrix import ExpertMatrix
from ossature.ops.rows import Rows

__all__ = ["attention", "attention_pattern", "embed", "experts", "linear", "rmsnorm", "rope", "route", "swiglu"]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _take(x: Tensor, index: Tensor) -> Tensor:
    """x[index] along the first axis; the gradient of index_select is several times faster than that of indexing."""
    return x.index_select(0, index.flatten()).unflatten(0, index.shape)


def embed(token_ids: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """As `reference.embed`, in `dtype`."""
    return F.embedding(token_ids, weight).to(dtype)


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `reference.rmsnorm`, in the dtype of x; the gain is applied in float32, before rounding."""
    wide = _wide(x)
    return F.rms_norm(wide, weight.shape, weight.to(wide.dtype), eps).to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `reference.linear`, in the dtype of x."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `reference.rope`, in the dtype of x."""
    first, second = _wide(x).chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """As `reference.attention`, in the dtype of q.

    The sink becomes a key by two more coordinates: 1 in the sink's key, 0 in all others, and sink/scale in the query,
    as a rounded part and what the rounding left, so that bfloat16 loses nothing of it. The sink's value row is zero.
    So its gradient comes out of the same product as everybody's, and the mask stays boolean.
    """
    padded = rows.padded
    heads, head_dim = q.shape[1:]
    sequences, queries = padded.query.shape
    exact = sinks.to(torch.promote_types(q.dtype, torch.float32)) / scale
    rounded = exact.to(q.dtype)
    sink = torch.stack((rounded, (exact - rounded).to(q.dtype)), dim=-1)[None, :, None]
    query = torch.cat((_take(q, padded.query).transpose(1, 2), sink.expand(sequences, heads, queries, 2)), dim=-1)
    key = F.pad(_take(k, padded.key).transpose(1, 2), (0, 2, 0, 1))
    key[:, :, -1, -2:] = 1
    value = F.pad(_take(v, padded.key).transpose(1, 2), (0, 2, 0, 1))
    mask = F.pad(padded.mask, (0, 1), value=True)[:, None]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=True)
    return _take(out[..., :head_dim].transpose(1, 2).reshape(-1, heads, head_dim), padded.keep)


def attention_pattern(q: Tensor, k: Tensor, sinks: Tensor, rows: Rows, *, scale: float) -> Tensor:
    """Probabilities (tokens, heads, keys + 1), float32 or wider: keys from the first that any row sees, the sink last.

    A side computation for whoever asks to see it; `attention` never reads it. Keys a row does not see are 0.
    """
    padded = rows.padded
    group = q.shape[1] // k.shape[1]
    keys = _wide(k[padded.key]).repeat_interleave(group, dim=2)
    scores = torch.einsum("sqhd,skhd->sqhk", _wide(q[padded.query]), keys) * scale
    scores = scores.masked_fill(~padded.mask[:, :, None, :], float("-inf"))
    sink = sinks.to(scores.dtype)[None, None, :, None].expand(*scores.shape[:3], 1)
    return torch.cat((scores, sink), dim=-1).softmax(-1).flatten(0, 1)[padded.keep]


def route(logits: Tensor, num_experts_per_tok: int) -> tuple[Tensor, Tensor]:
    """As `reference.route`; the weights are float32 or wider."""
    top = torch.topk(_wide(logits), num_experts_per_tok, dim=-1, sorted=True)
    return top.indices, top.values.softmax(-1)


def swiglu(gate_up: Tensor, *, alpha: float, limit: float) -> Tensor:
    """As `reference.swiglu`, in the dtype of gate_up."""
    gate, up = _wide(gate_up).unflatten(-1, (-1, 2)).unbind(-1)
    gate, up = gate.clamp(max=limit), up.clamp(min=-limit, max=limit)
    return (gate * torch.sigmoid(alpha * gate) * (up + 1)).to(gate_up.dtype)


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
    """As `reference.experts`, in the dtype of x.

    `stages`, where given, receives `neurons` (tokens, k, intermediate), the activations between the two products, and
    `expert_out` (tokens, k, hidden), each chosen expert's output before its weight; asking changes no other bit.
    """
    tokens, chosen = index.shape
    order = index.flatten().argsort(stable=True)
    counts = torch.bincount(index.flatten(), minlength=gate_up.bias.shape[0]).tolist()
    hit = [expert for expert, count in enumerate(counts) if count]
    sizes = [counts[expert] for expert in hit]

    neurons: list[Tensor] = []
    gate_up_bias, down_bias = gate_up.bias.to(x.dtype), down.bias.to(x.dtype)
    inputs = _take(x, torch.div(order, chosen, rounding_mode="floor")).split(sizes)
    for expert, part, matrix in zip(hit, inputs, gate_up.matrices(hit, x.dtype), strict=True):
        neurons.append(F.linear(part, matrix, gate_up_bias[expert]))
    activated = swiglu(torch.cat(neurons), alpha=alpha, limit=limit)
    outputs: list[Tensor] = []
    for expert, part, matrix in zip(hit, activated.split(sizes), down.matrices(hit, x.dtype), strict=True):
        outputs.append(F.linear(part, matrix, down_bias[expert]))

    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    expert_out = _take(torch.cat(outputs), back).view(tokens, chosen, -1)
    if stages is not None:
        stages["neurons"] = _take(activated, back).view(tokens, chosen, -1)
        stages["expert_out"] = expert_out
    return (_wide(expert_out) * weight[..., None]).sum(1).to(x.dtype)
