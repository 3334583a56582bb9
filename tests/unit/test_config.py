"""config.json in every published spelling, and every way to get it wrong."""

import dataclasses
from typing import Any

import pytest

from ossature.config import FULL, SLIDING, GenerationConfig, ModelConfig, RopeScaling
from ossature.errors import ConfigError
from tests.published_configs import GENERATION, SIZES, huggingface, original, transformers_5
from tests.random_checkpoint import random_config, small_config


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_three_published_spellings_describe_one_model(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    published = ModelConfig.from_dict(huggingface(size))
    newer = ModelConfig.from_dict(transformers_5(size))
    openai = ModelConfig.from_dict(original(size), layout="original")
    assert newer == dataclasses.replace(published, dtype="bfloat16")
    assert openai == dataclasses.replace(published, eos_token_id=(), pad_token_id=None)
    assert capsys.readouterr().err == ""


def test_the_published_values_are_read() -> None:
    config = ModelConfig.from_dict(huggingface("20b"))
    assert (config.num_hidden_layers, config.num_local_experts, config.num_experts_per_tok) == (24, 32, 4)
    assert config.rope_scaling == RopeScaling(32.0, 4096, 32.0, 1.0, truncate=False)
    assert (config.rope_theta, config.swiglu_alpha, config.swiglu_limit) == (150000.0, 1.702, 7.0)
    assert isinstance(config.rope_theta, float)
    assert (config.quantization, config.dtype, config.eos_token_id, config.pad_token_id) == (
        "mxfp4",
        None,
        (200002,),
        199999,
    )
    assert [config.window(layer) for layer in range(4)] == [128, 0, 128, 0]


@pytest.mark.parametrize("seed", range(20))
def test_a_config_survives_writing_and_reading(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, Any] = [
        {},
        {"quantization": None, "hidden_size": 90, "dtype": None},
        {"rope_scaling": None, "eos_token_id": (3, 5), "bos_token_id": 1},
        {"layer_types": (FULL, FULL, SLIDING), "num_hidden_layers": 3, "eos_token_id": (7,), "pad_token_id": 0},
    ][seed % 4]
    config = random_config(seed, **changes)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert capsys.readouterr().err == ""


def test_the_original_layout_keeps_all_that_it_can_hold() -> None:
    config = small_config()
    read = ModelConfig.from_dict(config.to_dict(layout="original"), layout="original")
    assert read == dataclasses.replace(config, dtype=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rope_scaling": None}, "plain RoPE"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps = 1e-05"),
        ({"layer_types": (FULL, SLIDING, FULL)}, "layer_types"),
        ({"quantization": None}, "quantization = 'mxfp4'"),
        ({"swiglu_alpha": 1.5}, "swiglu_alpha = 1.702"),
    ],
)
def test_the_original_layout_refuses_what_it_cannot_say(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        small_config(**changes).to_dict(layout="original")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("num_hidden_layer", "num_hidden_layers"),
        ("swiglu_limits", "swiglu_limit"),
        ("sliding_windows", "sliding_window"),
        ("rope_teta", "rope_theta"),
        ("mup_multiplier", "num_experts"),
    ],
)
def test_an_unknown_key_is_one_line_naming_the_nearest_known_one(
    key: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ModelConfig.from_dict(huggingface("20b") | {key: 1})
    (line,) = capsys.readouterr().err.splitlines()
    assert repr(key) in line
    assert repr(nearest) in line


def test_an_unknown_key_cannot_write_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    ModelConfig.from_dict(huggingface("20b") | {"\x1b[2Jbad\nline": 1})
    (line,) = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line


REQUIRED = [
    key
    for key in huggingface("20b")
    if key in {field.name for field in dataclasses.fields(ModelConfig) if field.default is dataclasses.MISSING}
]


@pytest.mark.parametrize("key", [key for key in REQUIRED if key not in ("num_local_experts", "num_experts_per_tok")])
def test_a_missing_key_is_named(key: str) -> None:
    raw = huggingface("20b")
    del raw[key]
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize("key", original("20b"))
def test_a_missing_key_of_the_original_layout_is_named(key: str) -> None:
    raw = original("20b")
    del raw[key]
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        ModelConfig.from_dict(raw, layout="original")


def test_either_spelling_of_a_key_is_enough() -> None:
    raw = huggingface("20b")
    raw["num_experts"] = raw.pop("num_local_experts")
    del raw["num_experts_per_tok"]
    assert ModelConfig.from_dict(raw) == ModelConfig.from_dict(huggingface("20b"))


def _scaling(**changes: object) -> dict[str, object]:
    raw = huggingface("20b")["rope_scaling"] | changes
    return {"rope_scaling": {key: value for key, value in raw.items() if value != "remove"}}


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "a bool is no number": ({"vocab_size": True}, "vocab_size must be a whole number, not True"),
    "3.0 is no whole number": ({"num_hidden_layers": 3.0}, "num_hidden_layers must be a whole number, not 3.0"),
    "a string is no number": ({"rms_norm_eps": "1e-05"}, "rms_norm_eps must be a number, not '1e-05'"),
    "null for a size": ({"head_dim": None}, "head_dim must be a whole number, not None"),
    "a list for a size": ({"hidden_size": [2880]}, "hidden_size must be a whole number"),
    "zero": ({"hidden_size": 0}, "hidden_size is 0; it must lie between"),
    "negative": ({"sliding_window": -1}, "sliding_window is -1"),
    "infinity": ({"rope_theta": float("inf")}, "rope_theta is inf"),
    "not a number": ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    "10^9 layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "10^9 experts": ({"num_local_experts": 10**9}, "num_local_experts is 1000000000"),
    "a number of 5000 digits": ({"vocab_size": 10**5000}, "vocab_size is a number of 5001 digits"),
    "heads no multiple of kv heads": ({"num_key_value_heads": 7}, "num_attention_heads .64. must be a multiple"),
    "more experts chosen than there are": (
        {"num_experts_per_tok": 33, "experts_per_token": 33},
        "exceeds num_local_experts 32",
    ),
    "two spellings that disagree": ({"experts_per_token": 8}, "num_experts_per_tok"),
    "odd head_dim": ({"head_dim": 65}, "head_dim .65. must be even"),
    "too few layer types": ({"layer_types": [FULL] * 23}, "layer_types has 23 entries"),
    "an unknown layer type": ({"layer_types": ["chunked_attention"] * 24}, "'chunked_attention'"),
    "layer types that are no list": ({"layer_types": "full_attention"}, "layer_types must be a list"),
    "layer types that are numbers": ({"layer_types": [0] * 24}, "layer_types must be a list of strings"),
    "hidden size no multiple of 32": ({"hidden_size": 2890}, "hidden_size .2890. must be a multiple of 32"),
    "intermediate size no multiple of 32": ({"intermediate_size": 2890}, "intermediate_size .2890. must be a multiple"),
    "tied embeddings": ({"tie_word_embeddings": True}, "one matrix for embedding and unembedding"),
    "no attention biases": ({"attention_bias": False}, "attention without biases"),
    "0 for false": ({"tie_word_embeddings": 0}, "tie_word_embeddings is 0"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "another architecture": ({"model_type": "llama"}, "another architecture"),
    "another quantization": ({"quantization_config": {"quant_method": "gptq"}}, "asks for 'gptq'"),
    "quantization without a method": ({"quantization_config": {}}, "asks for None"),
    "quantization that is no object": ({"quantization_config": ["mxfp4"]}, "quantization_config asks for"),
    "an unknown dtype": ({"dtype": "float8"}, "dtype must be one of bfloat16"),
    "an unknown torch_dtype": ({"torch_dtype": ["bfloat16"]}, "torch_dtype must be one of bfloat16"),
    "two dtypes": ({"torch_dtype": "float16", "dtype": "bfloat16"}, "gives 'bfloat16' for dtype"),
    "an end outside the vocabulary": ({"eos_token_id": 201088}, "201088 must lie below vocab_size"),
    "an end that is no id": ({"eos_token_id": "</s>"}, "eos_token_id must be a whole number"),
    "a list of ends with a bool": ({"eos_token_id": [1, True]}, "eos_token_id must be a whole number, not True"),
    "endless ends": ({"eos_token_id": [1] * 2000}, "eos_token_id lists 2000"),
    "no scaling": ({"rope_scaling": None}, 'Plain RoPE is {"rope_type": "default"}'),
    "another scaling": (_scaling(rope_type="linear"), "must be 'yarn' or 'default', not 'linear'"),
    "scaling of no type": (_scaling(rope_type="remove"), "not absent"),
    "two types of scaling": (_scaling(type="linear"), "rope_scaling.rope_type must be"),
    "an attention factor": (_scaling(attention_factor=1.2), "rope_scaling.attention_factor is not part of gpt-oss"),
    "truncate not said": (_scaling(truncate="remove"), "rope_scaling.truncate: missing"),
    "truncate as a number": (_scaling(truncate=0), "rope_scaling.truncate must be true or false"),
    "factor below 1": (_scaling(factor=0.5), "rope_scaling.factor is 0.5"),
    "betas the wrong way round": (_scaling(beta_fast=1.0, beta_slow=32.0), "beta_fast .1.0. must be greater"),
    "original length as a float": (
        _scaling(original_max_position_embeddings=4096.0),
        "must be a whole number, not 4096.0",
    ),
    "two thetas": (_scaling(rope_theta=10000.0), "150000"),
    "two scalings": ({"rope_parameters": {"rope_type": "default"}}, "rope_scaling"),
    "hundreds of unknown keys": ({f"key_{i}": i for i in range(300)}, "300 unknown keys"),
    "an endless key": ({"k" * 10_000: 0}, "unknown keys"),
}


@pytest.mark.parametrize(("changes", "says"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModelConfig.from_dict(huggingface("20b") | changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_experts", "32"), ("rope_ntk_beta", True), ("initial_context_length", 4096.0), ("num_hidden_layers", 10**9)],
)
def test_the_original_layout_names_its_own_keys_in_errors(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        ModelConfig.from_dict(original("20b") | {key: value}, layout="original")


def test_a_config_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="head_dim"):
        small_config(head_dim=21)
    with pytest.raises(ConfigError, match="quantization"):
        small_config(quantization="nf4")
    with pytest.raises(ConfigError, match="truncate"):
        RopeScaling(2.0, 64, 32.0, 1.0, truncate=1)  # pyright: ignore[reportArgumentType]  # the mistake


def test_generation_settings_are_read_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    published = GenerationConfig.from_dict(GENERATION)
    assert published == GenerationConfig(
        eos_token_id=(200002, 199999, 200012), bos_token_id=199998, pad_token_id=199999
    )
    greedy = GenerationConfig.from_dict({"do_sample": False, "temperature": None, "eos_token_id": 5})
    assert greedy == GenerationConfig(do_sample=False, eos_token_id=(5,))
    assert all(GenerationConfig.from_dict(config.to_dict()) == config for config in (published, greedy))
    assert capsys.readouterr().err == ""


def test_a_generation_setting_without_effect_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    GenerationConfig.from_dict({"top_k": 50, "do_sample": True, "num_beams": None})
    (line,) = capsys.readouterr().err.splitlines()
    assert "'top_k'" in line


@pytest.mark.parametrize(
    "raw",
    [
        {"do_sample": 1},
        {"temperature": -1.0},
        {"top_p": "1"},
        {"eos_token_id": [None]},
        {f"k{i}": 1 for i in range(99)},
    ],
    ids=lambda raw: next(iter(raw)),
)
def test_generation_settings_that_cannot_be_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        GenerationConfig.from_dict(raw)
