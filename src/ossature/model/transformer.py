"""The network, defined once: what answers a chat is what is served, fine-tuned and taken apart.

Modules and tensors have the names of the Hugging Face checkpoint; the values between them have the names of
`sites.py`. Activations are flat, (tokens, …), whether they are one prompt, a continuous batch or packed training rows.
Source: openai/gpt-oss torch/model.py.
"""

from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from ossature import ops
from ossature.config import ModelConfig
from ossature.errors import ShapeError
from ossature.model.batch import Batch
from ossature.model.cache import KVCache
from ossature.model.rope import rotation, yarn_frequencies
from ossature.model.sites import asks, check_layers, visit
from ossature.ops import ExpertMatrix, Int8Matrix, Rows

__all__ = ["Transformer"]


class At(Protocol):
    """Hands a named value of one layer to the batch's edits and captures; returns what to go on with."""

    def __call__(self, name: str, value: Tensor) -> Tensor: ...


def _pass_on(name: str, value: Tensor) -> Tensor:
    """What `At` is where nothing is edited or captured: most of the time, so that it costs nothing."""
    return value


class Norm(nn.Module):
    """RMSNorm with a plain gain."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.rmsnorm(x, self.weight, self.eps)


class Linear(nn.Linear):
    """A torch Linear, so that adapters find what they expect, computed by `ops.linear`.

    int8  the copy of `weight` that `numerics="fast"` reads in its place, or None
    """

    int8: Int8Matrix | None = None
    deterministic = False

    def forward(self, input: Tensor) -> Tensor:
        return ops.linear(input, self.weight, self.bias, int8=self.int8, one_order=self.deterministic)


class Attention(nn.Module):
    """Grouped-query attention with sinks; window or full by its layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        query, key = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, query)
        self.k_proj = Linear(config.hidden_size, key)
        self.v_proj = Linear(config.hidden_size, key)
        self.o_proj = Linear(query, config.hidden_size)
        self.sinks = nn.Parameter(torch.zeros(config.num_attention_heads))

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows, cache: KVCache | None, batch: Batch, at: At
    ) -> Tensor:
        q, k, v = (
            at(name, project(x).view(len(x), project.out_features // self.head_dim, self.head_dim))
            for name, project in (("q", self.q_proj), ("k", self.k_proj), ("v", self.v_proj))
        )
        q, k = at("rot_q", ops.rope(q, cos, sin)), at("rot_k", ops.rope(k, cos, sin))
        if cache is not None:
            k, v = cache.write(self.layer, k, v, rows)
        scale = self.head_dim**-0.5
        if asks(batch.captures, "pattern", self.layer):
            at("pattern", ops.attention_pattern(q, k, self.sinks, rows, scale=scale))
        z = at("z", ops.attention(q, k, v, self.sinks, rows, scale=scale))
        return self.o_proj(z.flatten(1))


class Experts(nn.Module):
    """All experts of a layer: two matrices each, MXFP4 blocks as published, or dense and transposed.

    packed: gate_up_proj_blocks (experts, 2·intermediate, hidden/32, 16), …_scales (experts, 2·intermediate, hidden/32),
            down_proj_blocks (experts, hidden, intermediate/32, 16), …_scales
    dense:  gate_up_proj (experts, hidden, 2·intermediate), down_proj (experts, intermediate, hidden)
    """

    deterministic = False
    int8 = False  # `numerics="fast"`: activations meet the packed matrices as int8
    streamed = False  # the matrices are more than the memory: what was chosen is read ahead

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.alpha, self.limit = config.swiglu_alpha, config.swiglu_limit
        self.packed = config.quantization == "mxfp4"
        experts, hidden, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        for name, size_in, size_out in (("gate_up_proj", hidden, 2 * inner), ("down_proj", inner, hidden)):
            if self.packed:
                groups = size_in // 32
                self.register_buffer(f"{name}_blocks", torch.zeros(experts, size_out, groups, 16, dtype=torch.uint8))
                self.register_buffer(f"{name}_scales", torch.zeros(experts, size_out, groups, dtype=torch.uint8))
            else:
                self.register_parameter(name, nn.Parameter(torch.zeros(experts, size_in, size_out)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(experts, size_out)))

    def projection(self, name: str) -> ExpertMatrix:
        """`gate_up_proj` or `down_proj` with its bias, in whichever form it is stored."""
        bias = getattr(self, f"{name}_bias")
        if self.packed:
            return ExpertMatrix(bias, getattr(self, f"{name}_blocks"), getattr(self, f"{name}_scales"))
        return ExpertMatrix(bias, weight=getattr(self, name))

    def forward(self, x: Tensor, index: Tensor, weight: Tensor, stages: dict[str, Tensor] | None) -> Tensor:
        gate_up, down = self.projection("gate_up_proj"), self.projection("down_proj")
        if self.streamed:
            ops.read_ahead(index, gate_up, down)
        return ops.experts(
            x,
            index,
            weight,
            gate_up,
            down,
            alpha=self.alpha,
            limit=self.limit,
            stages=stages,
            one_order=self.deterministic,
            int8=self.int8,
        )


class MLP(nn.Module):
    """The router and its experts."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_experts_per_tok = config.num_experts_per_tok
        self.router = Linear(config.hidden_size, config.num_local_experts)
        self.experts = Experts(config)

    def forward(self, x: Tensor, batch: Batch, at: At) -> Tensor:
        logits = at("router_logits", self.router(x))
        index, weight = ops.route(logits, self.num_experts_per_tok)
        index, weight = at("expert_index", index), at("expert_weights", weight)
        inner = [name for name in ("neurons", "expert_out") if asks(batch.captures, name, self.layer)]
        stages: dict[str, Tensor] | None = {} if inner else None
        out = self.experts(x, index, weight, stages)
        if stages is not None:
            for name in inner:
                at(name, stages[name])
        return out


class Layer(nn.Module):
    """Attention, then experts, each behind its norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config, layer)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows, cache: KVCache | None, batch: Batch) -> Tensor:
        at = _pass_on
        if batch.captures or batch.edits:
            at = partial(visit, batch.captures, batch.edits, self.layer)
        x = at("resid_pre", x)
        attended = self.self_attn(at("attn_in", self.input_layernorm(x)), cos, sin, rows, cache, batch, at)
        x = at("resid_mid", x + at("attn_out", attended))
        mixed = self.mlp(at("mlp_in", self.post_attention_layernorm(x)), batch, at)
        return at("resid_post", x + at("mlp_out", mixed))


class Decoder(nn.Module):
    """Everything under the checkpoint's `model.` prefix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """The whole network; `dtype` is that of its activations, weights keep the type they are stored in.

    deterministic  a token's numbers do not depend on what else is in the batch, on chunks or on threads: every product
                   has one summation order, which costs speed where many rows are computed at once
    numerics       "exact", or "fast" where dense matrices have an int8 copy and experts take their activations as int8
    placement      of the weights: "mapped", "resident", or "streamed" where the experts come from the disk
    """

    inv_freq: Tensor
    numerics = "exact"
    placement = "mapped"

    def __init__(
        self, config: ModelConfig, *, dtype: torch.dtype = torch.bfloat16, deterministic: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.deterministic = deterministic
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        inv_freq, self.concentration = yarn_frequencies(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)  # float64
        for module in self.modules():
            if isinstance(module, Linear | Experts):
                module.deterministic = deterministic

    def forward(self, batch: Batch, cache: KVCache | None = None) -> Tensor:
        """Logits (len(batch.logits_rows), vocab_size), float32, or float64 where the activations are.

        With a cache, the batch's positions were reserved by `cache.extend`, and its keys and values are stored in it.
        Without one, each sequence of the batch is complete, from position 0.

        Raises ShapeError for a batch that breaks this, ConfigError for a site of a layer that the model has not.
        """
        check_layers(batch.captures, batch.edits, self.config.num_hidden_layers)
        at = partial(visit, batch.captures, batch.edits, None)
        rows = _own_rows(batch, self.config) if cache is None else cache.rows(batch.positions, batch.sequence_of_row)
        wide = torch.promote_types(self.dtype, torch.float32)
        cos, sin = rotation(batch.positions, self.inv_freq, self.concentration, dtype=wide)
        x = at("embed", ops.embed(batch.token_ids, self.model.embed_tokens.weight, dtype=self.dtype))
        for kind, layer in zip(self.config.layer_types, self.model.layers, strict=True):
            x = layer(x, cos, sin, rows[kind], cache, batch)
        x = at("final_norm", self.model.norm(x[batch.logits_rows]))
        return at("logits", self.lm_head(x).to(wide))


def _own_rows(batch: Batch, config: ModelConfig) -> dict[str, Rows]:
    """Without a cache a sequence's keys are the batch's own rows, in blocks of one."""
    _, sequence, counts = torch.unique_consecutive(batch.sequence_of_row, return_inverse=True, return_counts=True)
    starts = counts.cumsum(0) - counts
    complete = torch.arange(len(sequence), device=starts.device) - starts[sequence]
    if not torch.equal(batch.positions, complete):
        raise ShapeError(
            "without a cache, the positions of each sequence must run 0, 1, 2, …; give the cache that holds what came"
            f" before. Got positions {batch.positions.tolist()} for rows of lengths {counts.tolist()}"
        )
    width = torch.arange(int(counts.max()), device=starts.device)
    table = (starts[:, None] + width).clamp(max=len(sequence) - 1).int()
    return {
        "full_attention": Rows(batch.positions, sequence, table, 1, window=0),
        "sliding_attention": Rows(batch.positions, sequence, table, 1, window=config.sliding_window),
    }
