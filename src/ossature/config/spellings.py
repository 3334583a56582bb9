"""From the keys of a published `config.json` to the fields of ModelConfig.

Three spellings are in circulation: `rope_scaling` + `rope_theta`, `rope_parameters` (transformers 5), and the keys of
OpenAI's `original/config.json`, which are turned into those of the first.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, cast

from ossature.config.rope import SCALING_BOUNDS, THETA, RopeScaling, read_rope
from ossature.config.values import TOKEN_ID, Bounds, check_number, check_token_ids, shown
from ossature.errors import ConfigError, notice

__all__ = ["BOUNDS", "DTYPES", "FIXED", "FULL", "OPTIONAL", "SLIDING", "Layout", "from_original", "read", "to_original"]

Layout: TypeAlias = Literal["huggingface", "original"]

SLIDING, FULL = "sliding_attention", "full_attention"
DTYPES = ("bfloat16", "float16", "float32")

# The upper bounds lie far above any published model; they keep small what a config can make us list or allocate.
BOUNDS: dict[str, Bounds] = {
    "vocab_size": (2, 1 << 24),
    "hidden_size": (1, 1 << 17),
    "intermediate_size": (1, 1 << 20),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 1 << 14),
    "num_key_value_heads": (1, 1 << 14),
    "head_dim": (2, 1 << 12),
    "num_local_experts": (1, 1 << 14),
    "num_experts_per_tok": (1, 1 << 14),
    "sliding_window": (1, 1 << 30),
    "max_position_embeddings": (1, 1 << 30),
    "rms_norm_eps": (1e-12, 1.0),
    "rope_theta": THETA,
    "swiglu_alpha": (1e-6, 1e6),
    "swiglu_limit": (1e-6, 1e6),
    "bos_token_id": TOKEN_ID,
    "pad_token_id": TOKEN_ID,
}

OPTIONAL = frozenset(("swiglu_alpha", "swiglu_limit", "bos_token_id", "pad_token_id"))

# key -> the only value that describes this architecture, and what another one would mean
FIXED: dict[str, tuple[object, str]] = {
    "model_type": ("gpt_oss", "another architecture"),
    "hidden_act": ("silu", "another activation (the experts' clamped SwiGLU goes by the name silu)"),
    "tie_word_embeddings": (False, "one matrix for embedding and unembedding"),
    "attention_bias": (True, "attention without biases"),
}

# key in the file -> field, where the two differ
_ALIASES = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok", "torch_dtype": "dtype"}

# Keys that published files carry and that do not change what the model computes.
_WITHOUT_EFFECT = frozenset(
    "_name_or_path architectures attention_dropout chunk_size_feed_forward id2label initial_context_length "
    "initializer_range is_encoder_decoder label2id output_attentions output_hidden_states output_router_logits "
    "problem_type return_dict router_aux_loss_coef transformers_version use_cache".split()
)

_MOST_UNKNOWN_KEYS = 64  # a file with more is another kind of file, not one with a typo


def read(raw: Mapping[str, object]) -> dict[str, object]:
    """The fields that a Hugging Face `config.json` sets, each checked. Raises ConfigError; reports unknown keys.

    Two keys may set one field when they agree.
    """
    fields: dict[str, object] = {}
    unknown: list[str] = []
    for key, value in raw.items():
        field = _ALIASES.get(key, key)
        if key in FIXED:
            _check_fixed(key, value)
        elif field not in _READERS:
            if key not in _WITHOUT_EFFECT:
                unknown.append(key)
        elif value is not None or field in _NEVER_NULL:
            for name, item in _READERS[field](key, value).items():
                if fields.setdefault(name, item) != item:
                    raise ConfigError(
                        f"{key} gives {shown(item)} for {name}, another key of the file {shown(fields[name])}."
                    )
    if missing := [
        field for field in (*BOUNDS, "layer_types", "rope_scaling") if field not in fields | dict.fromkeys(OPTIONAL)
    ]:
        raise ConfigError(f"{', '.join(missing)}: missing. Is this the config.json of a gpt-oss model?")
    _report(unknown)
    return fields


def _check_fixed(key: str, value: object) -> None:
    fixed, meaning = FIXED[key]
    if type(value) is not type(fixed) or value != fixed:
        raise ConfigError(f"{key} is {shown(value)}, which would mean {meaning}; gpt-oss has {fixed!r}.")


def _report(unknown: list[str]) -> None:
    if len(unknown) > _MOST_UNKNOWN_KEYS or any(len(key) > 100 for key in unknown):
        raise ConfigError(f"{len(unknown)} unknown keys, {shown(unknown[0])} the first: no config.json of gpt-oss.")
    known = [*_READERS, *_ALIASES, *FIXED, *_WITHOUT_EFFECT]
    for key in unknown:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        notice(f"config.json: the unknown key {key!r} is ignored; the nearest known one is {nearest!r}")


def _read_number(key: str, value: object) -> dict[str, object]:
    field = _ALIASES.get(key, key)
    return {field: check_number(value, BOUNDS[field], key)}


def _read_layer_types(key: str, value: object) -> dict[str, object]:
    kinds = cast("list[object]", value) if isinstance(value, list) else ()
    if not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(f"{key} must be a list of strings, not {shown(cast(object, value))}.")
    return {"layer_types": tuple(kinds)}


def _read_dtype(key: str, value: object) -> dict[str, object]:
    if value not in DTYPES:
        raise ConfigError(f"{key} must be one of {', '.join(DTYPES)}, not {shown(value)}.")
    return {"dtype": value}


def _read_quantization(key: str, value: object) -> dict[str, object]:
    method = cast("dict[str, object]", value).get("quant_method") if isinstance(value, dict) else value
    if method != "mxfp4":
        raise ConfigError(f"{key} asks for {shown(method)}; weights are read as 'mxfp4' or unquantised.")
    return {"quantization": "mxfp4"}


def _read_ends(key: str, value: object) -> dict[str, object]:
    return {"eos_token_id": check_token_ids(value, key)}


_READERS: dict[str, Callable[[str, object], dict[str, object]]] = {
    **dict.fromkeys(BOUNDS, _read_number),
    "layer_types": _read_layer_types,
    "rope_scaling": read_rope,
    "rope_parameters": read_rope,
    "dtype": _read_dtype,
    "quantization_config": _read_quantization,
    "eos_token_id": _read_ends,
}

# Readers that refuse null themselves: transformers has not always given it the same meaning.
_NEVER_NULL = BOUNDS.keys() - OPTIONAL | {"layer_types", "rope_scaling", "rope_parameters"}


_ORIGINAL_SCALING = {
    "initial_context_length": "original_max_position_embeddings",
    "rope_scaling_factor": "factor",
    "rope_ntk_alpha": "beta_slow",
    "rope_ntk_beta": "beta_fast",
}
_ORIGINAL = (
    "num_hidden_layers num_experts experts_per_token vocab_size hidden_size intermediate_size swiglu_limit head_dim "
    "num_attention_heads num_key_value_heads sliding_window initial_context_length rope_theta rope_scaling_factor "
    "rope_ntk_alpha rope_ntk_beta"
).split()


def from_original(raw: Mapping[str, object]) -> dict[str, object]:
    """The keys of `original/config.json` as those of a Hugging Face `config.json`. Raises ConfigError.

    What it leaves to the code is filled in: windows on every second layer from the first on, epsilon 1e-5, YaRN without
    truncation, MXFP4 experts.
    """
    if missing := [key for key in _ORIGINAL if key not in raw]:
        raise ConfigError(f"{', '.join(missing)}: missing. Is this gpt-oss's config.json of the original layout?")
    layers = int(check_number(raw["num_hidden_layers"], BOUNDS["num_hidden_layers"], "num_hidden_layers"))
    scaling = {field: check_number(raw[key], SCALING_BOUNDS[field], key) for key, field in _ORIGINAL_SCALING.items()}
    return {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": int(scaling["original_max_position_embeddings"] * scaling["factor"]),
        "layer_types": [FULL if layer % 2 else SLIDING for layer in range(layers)],
        "rope_scaling": {"rope_type": "yarn", "truncate": False, **scaling},
        "quantization_config": {"quant_method": "mxfp4"},
    } | {key: value for key, value in raw.items() if key not in _ORIGINAL_SCALING}


def to_original(fields: Mapping[str, object], scaling: RopeScaling) -> dict[str, object]:
    """The `original/config.json` for the fields of a ModelConfig, as far as it has keys for them."""
    return {
        key: getattr(scaling, _ORIGINAL_SCALING[key]) if key in _ORIGINAL_SCALING else fields[_ALIASES.get(key, key)]
        for key in _ORIGINAL
    }
