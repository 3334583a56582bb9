"""The `config.json` of gpt-oss-20b and gpt-oss-120b as published, in the spellings in circulation."""

from typing import Any

__all__ = ["GENERATION", "SIZES", "huggingface", "original", "transformers_5"]

SIZES = {"20b": (24, 32), "120b": (36, 128)}  # layers, experts


def huggingface(size: str) -> dict[str, Any]:
    """The Hugging Face layout."""
    layers, experts = SIZES[size]
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": 200002,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "num_local_experts": experts,
        "output_router_logits": False,
        "pad_token_id": 199999,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "transformers_version": "4.55.0.dev0",
        "use_cache": True,
        "vocab_size": 201088,
    }


def transformers_5(size: str) -> dict[str, Any]:
    """The same as transformers 5 writes it: one object for all of RoPE, and more keys without effect."""
    raw = huggingface(size)
    raw["rope_parameters"] = raw.pop("rope_scaling") | {"rope_theta": raw.pop("rope_theta")}
    for key in ("experts_per_token", "initial_context_length"):
        del raw[key]
    return raw | {
        "_name_or_path": "",
        "bos_token_id": None,
        "chunk_size_feed_forward": 0,
        "dtype": "bfloat16",
        "id2label": {"0": "LABEL_0"},
        "is_encoder_decoder": False,
        "label2id": {"LABEL_0": 0},
        "output_attentions": False,
        "output_hidden_states": False,
        "problem_type": None,
        "return_dict": True,
        "swiglu_alpha": 1.702,
        "transformers_version": "5.23.0",
    }


def original(size: str) -> dict[str, Any]:
    """OpenAI's own layout."""
    layers, experts = SIZES[size]
    return {
        "num_hidden_layers": layers,
        "num_experts": experts,
        "experts_per_token": 4,
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "swiglu_limit": 7.0,
        "head_dim": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "sliding_window": 128,
        "initial_context_length": 4096,
        "rope_theta": 150000,
        "rope_scaling_factor": 32.0,
        "rope_ntk_alpha": 1,
        "rope_ntk_beta": 32,
    }


GENERATION = {
    "bos_token_id": 199998,
    "do_sample": True,
    "eos_token_id": [200002, 199999, 200012],
    "pad_token_id": 199999,
    "transformers_version": "4.55.0.dev0",
}
