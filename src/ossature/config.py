"""What `config.json` and `generation_config.json` say, checked once and frozen.

`ModelConfig` has the keys of the published `config.json` under their own names. Two more spellings are read: `rope_parameters`
(transformers 5) and the keys of OpenAI's `original/config.json`. A key that cannot change the numbers is accepted; any other
unknown key is reported in one line; a missing, mistyped or impossible value raises `ConfigError`.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, cast

from ossature.errors import ConfigError, notice

__all__ = ["FULL", "SLIDING", "GenerationConfig", "Layout", "ModelConfig", "RopeScaling"]

Layout = Literal["huggingface", "original"]

SLIDING, FULL = "sliding_attention", "full_attention"

# Lowest and highest value of every number, both allowed; the type of the pair is the type of the value. The upper bounds lie
# far above any published model and keep what a config can make us allocate or list small.
_RANGES: dict[str, tuple[int, int] | tuple[float, float]] = {
    "vocab_size": (2, 1 << 24),
    "hidden_size": (1, 1 << 17),
    "intermediate_size": (1, 1 << 20),
    "num_hidden_layers": (1, 1024),
    "num_attention_heads": (1, 1 << 14),
    "num_key_value_heads": (1, 1 << 14),
    "head_dim": (2, 1 << 12),
    "num_local_experts": (1, 1 << 14),
    "num_experts_per_tok": (1, 1 << 14),
    "sliding_window": (1, 1 << 30),
    "max_position_embeddings": (1, 1 << 30),
    "rms_norm_eps": (1e-12, 1.0),
    "rope_theta": (1.0, 1e12),
    "swiglu_alpha": (1e-6, 1e6),
    "swiglu_limit": (1e-6, 1e6),
    "bos_token_id": (0, 1 << 24),
    "pad_token_id": (0, 1 << 24),
    "factor": (1.0, 1e6),
    "original_max_position_embeddings": (1, 1 << 30),
    "beta_fast": (1e-6, 1e6),
    "beta_slow": (1e-6, 1e6),
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
}

_REQUIRED = tuple(_RANGES)[: tuple(_RANGES).index("swiglu_alpha")]

# key in the file -> field, where the two differ
_SPELLINGS = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok", "torch_dtype": "dtype"}

# key -> the only value that describes this architecture, and what any other value would mean
_FIXED: dict[str, tuple[object, str]] = {
    "model_type": ("gpt_oss", "another architecture"),
    "hidden_act": ("silu", "another activation (the experts' clamped SwiGLU is the one called silu here)"),
    "tie_word_embeddings": (False, "one matrix for embedding and unembedding"),
    "attention_bias": (True, "no biases in attention"),
}

# Keys that published files carry and that do not change what the model computes.
_WITHOUT_EFFECT = frozenset(
    "_name_or_path architectures attention_dropout auto_map chunk_size_feed_forward id2label initial_context_length "
    "initializer_range is_encoder_decoder label2id output_attentions output_hidden_states output_router_logits problem_type "
    "return_dict router_aux_loss_coef transformers_version use_cache".split()
)

_ORIGINAL_KEYS = (
    "num_hidden_layers num_experts experts_per_token vocab_size hidden_size intermediate_size swiglu_limit head_dim "
    "num_attention_heads num_key_value_heads sliding_window initial_context_length rope_theta rope_scaling_factor "
    "rope_ntk_alpha rope_ntk_beta"
).split()
_ORIGINAL_ROPE = {
    "initial_context_length": "original_max_position_embeddings",
    "rope_scaling_factor": "factor",
    "rope_ntk_alpha": "beta_slow",
    "rope_ntk_beta": "beta_fast",
}

_DTYPES = ("bfloat16", "float16", "float32")
_MOST_UNKNOWN_KEYS = 64  # a file with more is some other file, not one with a typo


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """YaRN: context stretched by `factor` from `original_max_position_embeddings` positions.

    beta_fast, beta_slow   rotations within the original context at which a dimension is kept, or wholly interpolated
    truncate               round the two correction dimensions to whole numbers (gpt-oss: False)
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float
    truncate: bool

    def __post_init__(self) -> None:
        for field in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"):
            _check_number(field, getattr(self, field), f"rope_scaling.{field}")
        if type(self.truncate) is not bool:
            raise ConfigError(f"rope_scaling.truncate must be true or false, not {self.truncate!r}.")
        if self.beta_fast <= self.beta_slow:
            raise ConfigError(
                f"rope_scaling.beta_fast ({self.beta_fast}) must be greater than rope_scaling.beta_slow ({self.beta_slow})."
            )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The sizes and constants of one gpt-oss model. Raises ConfigError when a value is mistyped or impossible."""

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
        for field in (*_REQUIRED, "swiglu_alpha", "swiglu_limit"):
            _check_number(field, getattr(self, field), field)
        for field in ("bos_token_id", "pad_token_id"):
            if getattr(self, field) is not None:
                _check_number(field, getattr(self, field), field)
        self._check_together()

    def _check_together(self) -> None:
        """The rules that tie two values to each other."""
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        ids = [i for i in (*self.eos_token_id, self.bos_token_id, self.pad_token_id) if i is not None]
        layers, experts = self.num_hidden_layers, self.num_local_experts
        packed = self.quantization == "mxfp4"
        rules = (
            (
                heads % kv_heads == 0,
                f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv_heads})",
            ),
            (self.head_dim % 2 == 0, f"head_dim ({self.head_dim}) must be even: RoPE turns pairs of dimensions"),
            (
                self.num_experts_per_tok <= experts,
                f"num_experts_per_tok ({self.num_experts_per_tok}) must not exceed num_local_experts ({experts})",
            ),
            (
                len(self.layer_types) == layers,
                f"layer_types has {len(self.layer_types)} entries, num_hidden_layers is {layers}: one entry a layer",
            ),
            (
                all(kind in (SLIDING, FULL) for kind in self.layer_types),
                f"layer_types may hold {SLIDING!r} and {FULL!r}, not {sorted(set(self.layer_types) - {SLIDING, FULL})[:1]}",
            ),
            (self.dtype in (None, *_DTYPES), f"dtype must be one of {', '.join(_DTYPES)}, not {self.dtype!r}"),
            (self.quantization in (None, "mxfp4"), f"quantization must be 'mxfp4' or None, not {self.quantization!r}"),
            (
                not packed or (self.hidden_size % 32 == 0 and self.intermediate_size % 32 == 0),
                f"hidden_size ({self.hidden_size}) and intermediate_size ({self.intermediate_size}) must be multiples of 32, "
                "one MXFP4 block, when the experts are packed",
            ),
            (
                all(0 <= i < self.vocab_size for i in ids),
                f"token ids {ids} must lie below vocab_size ({self.vocab_size})",
            ),
        )
        for holds, sentence in rules:
            if not holds:
                raise ConfigError(f"{sentence}.")

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, layout: Layout = "huggingface") -> Self:
        """Read a parsed `config.json` of the Hugging Face or the `original` layout.

        Unknown keys are reported with `errors.notice`. Raises ConfigError. What the original layout leaves to the architecture
        (alternating windows beginning with a sliding layer, epsilon 1e-5, YaRN without truncation) is filled in here.
        """
        if layout == "original":
            raw = _from_original(raw)
        fields = _read_fields(raw)
        missing = [key for key in (*_REQUIRED, "layer_types", "rope_scaling") if key not in fields]
        if missing:
            raise ConfigError(f"{', '.join(missing)}: missing. Is this the config.json of a gpt-oss model?")
        return cls(**fields)  # pyright: ignore[reportArgumentType]  # each value was checked against its field just above

    def to_dict(self, *, layout: Layout = "huggingface") -> dict[str, object]:
        """The `config.json` of this model; `from_dict` gives the same config back, but the original layout has no token ids and
        no dtype. Raises ConfigError for a model that the original layout cannot describe.
        """
        if layout == "original":
            return _to_original(self)
        scaling = self.rope_scaling
        raw: dict[str, object] = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss"}
        raw |= {key: fixed for key, (fixed, _) in _FIXED.items()}
        raw |= {field: getattr(self, field) for field in (*_REQUIRED, "swiglu_alpha", "swiglu_limit")}
        raw["layer_types"] = list(self.layer_types)
        raw["rope_scaling"] = {"rope_type": "default"}
        if scaling is not None:
            raw["rope_scaling"] = {"rope_type": "yarn"} | {f: getattr(scaling, f) for f in RopeScaling.__slots__}
        if self.dtype is not None:
            raw["dtype"] = self.dtype
        if self.quantization is not None:
            raw["quantization_config"] = {"quant_method": self.quantization}
        if self.eos_token_id:
            raw["eos_token_id"] = self.eos_token_id[0] if len(self.eos_token_id) == 1 else list(self.eos_token_id)
        ids = {"bos_token_id": self.bos_token_id, "pad_token_id": self.pad_token_id}
        return raw | {key: value for key, value in ids.items() if value is not None}

    def window(self, layer: int) -> int:
        """Keys that layer `layer` sees, the query itself included; 0 = all."""
        return self.sliding_window if self.layer_types[layer] == SLIDING else 0


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How answers are drawn when the caller does not say: the keys of `generation_config.json` that apply here."""

    do_sample: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    eos_token_id: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Self:
        """Read a parsed `generation_config.json`; keys that are set and have no effect here are reported. Raises ConfigError."""
        fields: dict[str, object] = {}
        for key, value in raw.items():
            if value is None or key in ("_from_model_config", "transformers_version", "use_cache"):
                continue
            if key == "do_sample":
                if type(value) is not bool:
                    raise ConfigError(f"do_sample must be true or false, not {value!r}.")
                fields[key] = value
            elif key == "eos_token_id":
                fields[key] = _token_ids(value)
            elif key in cls.__slots__:
                fields[key] = _check_number(key, value, key)
            else:
                notice(f"generation_config.json: {key!r} has no effect here")
        return cls(**fields)  # pyright: ignore[reportArgumentType]  # each value was checked against its field just above

    def to_dict(self) -> dict[str, object]:
        """A `generation_config.json`; `from_dict` gives the same values back."""
        raw: dict[str, object] = {field: getattr(self, field) for field in self.__slots__}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items() if v is not None and v != ()}


def _check_number(field: str, value: object, key: str) -> int | float:
    """Value of `field`, written `key` in the file, as the type and in the range that `_RANGES` gives."""
    low, high = _RANGES[field]
    if isinstance(low, int):
        if type(value) is not int:
            raise ConfigError(f"{key} must be a whole number, not {_shown(value)}.")
    elif type(value) not in (int, float) or not math.isfinite(cast(float, value)):
        raise ConfigError(f"{key} must be a number, not {_shown(value)}.")
    number = cast("int | float", value)
    if not low <= number <= high:
        raise ConfigError(f"{key} is {_shown(value)}; it must lie between {low} and {high}.")
    return number if isinstance(low, int) else float(number)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _token_ids(value: object) -> tuple[int, ...]:
    ids = cast("list[object]", value) if isinstance(value, list) else [value]
    if len(ids) > 1024:
        raise ConfigError(f"eos_token_id lists {len(ids)} tokens; at most 1024 are read.")
    return tuple(int(_check_number("bos_token_id", i, "eos_token_id")) for i in ids)


def _read_fields(raw: Mapping[str, object]) -> dict[str, object]:
    """The fields that a Hugging Face `config.json` sets, checked one by one; keys that agree may appear twice."""
    fields: dict[str, object] = {}
    unknown: list[str] = []
    for key, value in raw.items():
        field = _SPELLINGS.get(key, key)
        if key in _FIXED:
            fixed, meaning = _FIXED[key]
            if value != fixed or type(value) is not type(fixed):
                raise ConfigError(f"{key} is {_shown(value)}, which would mean {meaning}; gpt-oss has {fixed!r}.")
        elif field in _RANGES and field in ModelConfig.__slots__:
            if value is None and field in ("bos_token_id", "pad_token_id"):
                continue
            _set(fields, field, _check_number(field, value, key), key)
        elif reader := _READERS.get(field):
            if value is not None or key in ("rope_scaling", "layer_types"):
                for name, item in reader(key, value).items():
                    _set(fields, name, item, key)
        elif key not in _WITHOUT_EFFECT:
            unknown.append(key)
    _report_unknown(unknown)
    return fields


def _set(fields: dict[str, object], field: str, value: object, key: str) -> None:
    if field in fields and fields[field] != value:
        raise ConfigError(
            f"{key} gives {field} = {_shown(value)}, and another key of the file {_shown(fields[field])}."
        )
    fields[field] = value


def _report_unknown(unknown: list[str]) -> None:
    if len(unknown) > _MOST_UNKNOWN_KEYS or any(len(key) > 100 for key in unknown):
        raise ConfigError(f"{len(unknown)} unknown keys, {_shown(unknown[0])} the first: not a config.json of gpt-oss.")
    known = [*ModelConfig.__slots__, *_FIXED, *_SPELLINGS, *_READERS, *_WITHOUT_EFFECT]
    for key in unknown:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        notice(f"config.json: unknown key {key!r} is ignored; the nearest known key is {nearest!r}")


def _read_layer_types(key: str, value: object) -> dict[str, object]:
    if not isinstance(value, list) or not all(isinstance(kind, str) for kind in cast("list[object]", value)):
        raise ConfigError(f"{key} must be a list of strings, not {_shown(value)}.")
    return {"layer_types": tuple(cast("list[str]", value))}


def _read_dtype(key: str, value: object) -> dict[str, object]:
    if value not in _DTYPES:
        raise ConfigError(f"{key} must be one of {', '.join(_DTYPES)}, not {_shown(value)}.")
    return {"dtype": value}


def _read_quantization(key: str, value: object) -> dict[str, object]:
    method = cast("dict[str, object]", value).get("quant_method") if isinstance(value, dict) else value
    if method != "mxfp4":
        raise ConfigError(f"{key} asks for {_shown(method)}; weights are read as MXFP4 ('mxfp4') or unquantised.")
    return {"quantization": "mxfp4"}


def _read_rope(key: str, value: object) -> dict[str, object]:
    """`rope_scaling` or `rope_parameters`: plain RoPE ('default') or YaRN, and in the second spelling theta."""
    if not isinstance(value, dict):
        raise ConfigError(f'{key} must be an object, not {_shown(value)}. Plain RoPE is {{"rope_type": "default"}}.')
    raw = {k: v for k, v in cast("dict[str, object]", value).items() if v is not None}
    fields: dict[str, object] = {"rope_scaling": None}
    if "rope_theta" in raw:
        fields["rope_theta"] = _check_number("rope_theta", raw.pop("rope_theta"), f"{key}.rope_theta")
    kinds = {str(raw.pop(name)) for name in ("rope_type", "type") if name in raw}
    if kinds not in ({"yarn"}, {"default"}):
        raise ConfigError(
            f"{key}.rope_type must be 'yarn' or 'default', not {' and '.join(sorted(kinds)) or 'absent'}."
        )
    wanted = RopeScaling.__slots__ if kinds == {"yarn"} else ()
    if extra := sorted(set(raw) - set(wanted)):
        raise ConfigError(f"{key}.{extra[0]} would change the rotation and is not part of gpt-oss; remove it.")
    if missing := [name for name in wanted if name not in raw]:
        raise ConfigError(f"{key}.{missing[0]}: missing.")
    if wanted:
        truncate = raw.pop("truncate")
        numbers = {name: _check_number(name, item, f"{key}.{name}") for name, item in raw.items()}
        fields["rope_scaling"] = RopeScaling(**numbers, truncate=truncate)  # pyright: ignore[reportArgumentType]
    return fields


_READERS = {
    "layer_types": _read_layer_types,
    "dtype": _read_dtype,
    "quantization_config": _read_quantization,
    "rope_scaling": _read_rope,
    "rope_parameters": _read_rope,
    "eos_token_id": lambda _key, value: {"eos_token_id": _token_ids(value)},
}


def _from_original(raw: Mapping[str, object]) -> dict[str, object]:
    """The keys of `original/config.json` as those of a Hugging Face `config.json`."""
    if missing := [key for key in _ORIGINAL_KEYS if key not in raw]:
        raise ConfigError(f"{', '.join(missing)}: missing. Is this the config.json of gpt-oss in the original layout?")
    scaling = {field: _check_number(field, raw[key], key) for key, field in _ORIGINAL_ROPE.items()}
    layers = int(_check_number("num_hidden_layers", raw["num_hidden_layers"], "num_hidden_layers"))
    rest = {key: value for key, value in raw.items() if key not in _ORIGINAL_ROPE}
    return {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": int(scaling["original_max_position_embeddings"] * scaling["factor"]),
        "layer_types": [FULL if layer % 2 else SLIDING for layer in range(layers)],
        "rope_scaling": {"rope_type": "yarn", "truncate": False, **scaling},
        "quantization_config": {"quant_method": "mxfp4"},
        **rest,
    }


def _to_original(config: ModelConfig) -> dict[str, object]:
    scaling = config.rope_scaling
    raw: dict[str, object] = {
        key: getattr(scaling, _ORIGINAL_ROPE[key], 0)
        if key in _ORIGINAL_ROPE
        else getattr(config, _SPELLINGS.get(key, key))
        for key in _ORIGINAL_KEYS
    }
    described = dataclasses.replace(config, dtype=None, eos_token_id=(), bos_token_id=None, pad_token_id=None)
    if scaling is None or (read := ModelConfig.from_dict(raw, layout="original")) != described:
        fields = (
            [] if scaling is None else [f for f in ModelConfig.__slots__ if getattr(read, f) != getattr(described, f)]
        )
        raise ConfigError(
            f"the original layout has no key for {', '.join(fields) or 'plain RoPE'}, fixed there; write the Hugging Face layout."
        )
    return raw
