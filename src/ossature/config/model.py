"""The sizes and constants of one model."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from ossature.config import spellings
from ossature.config.rope import RopeScaling, write_rope
from ossature.config.spellings import BOUNDS, DTYPES, FIXED, FULL, SLIDING, Layout
from ossature.config.values import TOKEN_ID, check_number, shown
from ossature.errors import ConfigError

__all__ = ["ModelConfig"]

_MXFP4_BLOCK = 32


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A gpt-oss model under the keys of its published `config.json`. Raises ConfigError for values that cannot be.

    layer_types    "sliding_attention" | "full_attention", one a layer
    dtype          "bfloat16" | "float16" | "float32": of the stored matrices; None when the config does not say
    quantization   "mxfp4": the expert matrices are packed; None: they are stored in `dtype`
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_local_experts: int
    num_experts_per_tok: int
    sliding_window: int
    layer_types: tuple[str, ...]
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    dtype: str | None = None
    quantization: Literal["mxfp4"] | None = None
    eos_token_id: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for field, bounds in BOUNDS.items():
            value = getattr(self, field)
            if value is not None or field not in ("bos_token_id", "pad_token_id"):
                check_number(value, bounds, field)
        for token in self.eos_token_id:
            check_number(token, TOKEN_ID, "eos_token_id")
        for fault in self._faults():
            raise ConfigError(f"{fault}.")

    def _faults(self) -> Iterator[str]:
        """The rules between values that do not hold."""
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if heads % kv_heads:
            yield f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv_heads})"
        if self.head_dim % 2:
            yield f"head_dim ({self.head_dim}) must be even: RoPE turns pairs of dimensions"
        if self.num_experts_per_tok > self.num_local_experts:
            yield f"num_experts_per_tok ({self.num_experts_per_tok}) exceeds num_local_experts {self.num_local_experts}"
        if len(self.layer_types) != self.num_hidden_layers:
            yield f"layer_types has {len(self.layer_types)} entries for num_hidden_layers = {self.num_hidden_layers}"
        for kind in set(self.layer_types) - {SLIDING, FULL}:
            yield f"layer_types holds {shown(kind)}; expected {SLIDING!r} or {FULL!r}"
        if self.dtype not in (None, *DTYPES):
            yield f"dtype must be one of {', '.join(DTYPES)}, not {shown(self.dtype)}"
        if self.quantization not in (None, "mxfp4"):
            yield f"quantization must be 'mxfp4' or None, not {shown(self.quantization)}"
        for field in ("hidden_size", "intermediate_size"):
            if self.quantization and (size := getattr(self, field)) % _MXFP4_BLOCK:
                yield f"{field} ({size}) must be a multiple of {_MXFP4_BLOCK}, a block of the packed experts"
        for token in (*self.eos_token_id, self.bos_token_id, self.pad_token_id):
            if token is not None and token >= self.vocab_size:
                yield f"the special token id {token} must lie below vocab_size ({self.vocab_size})"

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, layout: Layout = "huggingface") -> Self:
        """Read a parsed `config.json` of either layout. Each unknown key is reported. Raises ConfigError."""
        fields = spellings.read(spellings.from_original(raw) if layout == "original" else raw)
        return cls(**fields)  # pyright: ignore[reportArgumentType]  # each was checked by the reader of its key

    def to_dict(self, *, layout: Layout = "huggingface") -> dict[str, object]:
        """The `config.json` of this model, from which `from_dict` gives it back.

        The original layout has no keys for token ids and dtype, which are lost. Raises ConfigError for a model that it
        cannot describe.
        """
        if layout == "original":
            return self._to_original()
        raw: dict[str, object] = {"architectures": ["GptOssForCausalLM"]}
        raw |= {key: fixed for key, (fixed, _) in FIXED.items()}
        raw |= {field: getattr(self, field) for field in BOUNDS}
        raw["layer_types"] = list(self.layer_types)
        raw["rope_scaling"] = write_rope(self.rope_scaling)
        raw["dtype"] = self.dtype
        raw["quantization_config"] = {"quant_method": self.quantization} if self.quantization else None
        ends = self.eos_token_id
        raw["eos_token_id"] = ends[0] if len(ends) == 1 else list(ends)
        return {key: value for key, value in raw.items() if value not in (None, [])}

    def _to_original(self) -> dict[str, object]:
        if self.rope_scaling is None:
            raise ConfigError(
                "the original layout always has YaRN, this model plain RoPE: use the Hugging Face layout."
            )
        raw = spellings.to_original({field: getattr(self, field) for field in self.__slots__}, self.rope_scaling)
        read = type(self).from_dict(raw, layout="original")
        kept = dataclasses.replace(self, dtype=None, eos_token_id=(), bos_token_id=None, pad_token_id=None)
        if lost := [field for field in self.__slots__ if getattr(read, field) != getattr(kept, field)]:
            raise ConfigError(
                f"the original layout implies {lost[0]} = {shown(getattr(read, lost[0]))}, and this model has "
                f"{shown(getattr(self, lost[0]))}: use the Hugging Face layout."
            )
        return raw

    def window(self, layer: int) -> int:
        """Keys that layer `layer` sees, the query itself included; 0 = all."""
        return self.sliding_window if self.layer_types[layer] == SLIDING else 0
