"""What a model asks of a machine, by arithmetic from its config: bytes a decode step reads, products of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from ossature.checkpoint import bytes_by_part
from ossature.config import ModelConfig

__all__ = ["Traffic", "decode_traffic", "expected_experts", "prefill_operations"]

_FAST = 1 + 2 / 32  # bytes of an int8 weight and its share of a 16-bit scale for 32


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one decode step reads, all sequences of its batch together. Embedding rows are too few to count.

    experts      the matrices of the experts chosen by at least one sequence, in every layer
    dense        attention, router and norms
    unembedding  of the whole vocabulary
    cache        keys and values of what each sequence sees
    """

    experts: int
    dense: int
    unembedding: int
    cache: int

    @property
    def total(self) -> int:
        return self.experts + self.dense + self.unembedding + self.cache


def decode_traffic(
    config: ModelConfig,
    *,
    depths: Sequence[int],
    experts: float | None = None,
    numerics: str = "exact",
    cache_itemsize: int = 2,
) -> Traffic:
    """Bytes read by one step that adds one token to each of `len(depths)` sequences.

    depths          tokens that each sequence has before the step
    experts         distinct experts of a layer that the step's tokens chose, mean over the layers; None: expected of
                    uniform choice
    numerics        "exact": matrices as stored; "fast": the dense ones as int8 with a 16-bit scale for 32
    cache_itemsize  bytes of one cached number
    """
    stored = bytes_by_part(config)
    experts = expected_experts(config, len(depths)) if experts is None else experts
    dense, unembedding = stored["attention"] + stored["router"] + stored["norms"], stored["unembedding"]
    if numerics == "fast":
        itemsize = 4 if config.dtype == "float32" else 2
        dense, unembedding = round(dense * _FAST / itemsize), round(unembedding * _FAST / itemsize)
    seen = sum(_keys_seen(config, depth) for depth in depths)
    return Traffic(
        experts=round(stored["experts"] * experts / config.num_local_experts),
        dense=dense,
        unembedding=unembedding,
        cache=seen * 2 * config.num_key_value_heads * config.head_dim * cache_itemsize,
    )


def expected_experts(config: ModelConfig, tokens: int) -> float:
    """Distinct experts of a layer that `tokens` tokens choose, if each chooses uniformly and independently."""
    missed = 1 - config.num_experts_per_tok / config.num_local_experts
    return config.num_local_experts * (1 - missed**tokens)


def prefill_operations(config: ModelConfig, tokens: int) -> int:
    """Operations of the matrix products of one prompt, a multiplication and an addition being two.

    The unembedding is that of the last token only. Attention counts the keys that each token sees, no masked ones.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads * config.head_dim
    kv_heads = config.num_key_value_heads * config.head_dim
    attention = hidden * (2 * heads + 2 * kv_heads)
    experts = config.num_experts_per_tok * 3 * hidden * config.intermediate_size + hidden * config.num_local_experts
    seen = sum(_keys_seen(config, position) for position in range(tokens))
    products = tokens * config.num_hidden_layers * (attention + experts) + seen * 2 * heads
    return 2 * (products + hidden * config.vocab_size)


def _keys_seen(config: ModelConfig, position: int) -> int:
    """Keys that the query at `position` sees, its own included, all layers together."""
    keys = position + 1
    windows = (config.window(layer) for layer in range(config.num_hidden_layers))
    return sum(min(keys, window) if window else keys for window in windows)
