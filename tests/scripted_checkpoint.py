"""A checkpoint whose weights are set by hand, so that a real network says a given text: for tests of the command line.

Each token's embedding is a direction of its own, and the unembedding maps it to the token that follows in the script.
One attention head, looking at all tokens alike, notices whether the reasoning is over; that decides where a token that
stands in the script twice goes on. The experts add nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ossature.checkpoint import write_checkpoint
from ossature.checkpoint.names import Kind, tensors
from ossature.config import FULL, GenerationConfig, ModelConfig

__all__ = ["ANSWER", "ENDLESS", "TOOL_CALL", "write_scripted"]

REASONING = "<|channel|>analysis<|message|>Let me add them<|end|><|start|>assistant"
ANSWER = f"{REASONING}<|channel|>final<|message|>It is 95<|return|>"
ENDLESS = f"{REASONING}<|channel|>final<|message|> on and"  # and from there on and on
TOOL_CALL = "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}<|call|>"

SPECIAL = [f"<|{name}|>" for name in "startoftext endoftext return constrain channel start end message call".split()]
# The head's weight is 1 / (tokens + 1). With this gain it decides for prompts of 180 to 1200 tokens; a prompt has about
# 230, as most of it is spelled out in bytes.
GAIN = 300.0


@dataclass(frozen=True)
class Script:
    """A text in pieces of one token each."""

    pieces: list[str]

    @classmethod
    def of(cls, text: str) -> "Script":
        return cls(["assistant", *re.findall(r"<\|\w+\|>| ?\w+| ?[^\s\w<]+|\s+", text)])

    def reasoning_ends(self) -> int:
        """Index of the last piece of the reasoning, or of the first piece where there is none."""
        return self.pieces.index("<|end|>") - 1 if "<|end|>" in self.pieces else 0


def write_scripted(directory: Path, text: str = ANSWER, *, context: int = 4096, greedy: bool = True) -> Path:
    """Write a checkpoint that answers every prompt with `text`, in which no word may stand twice. Returns `directory`.

    A text that does not end in a control token goes on from its last word to its last but one, without end.
    """
    script = Script.of(text)
    tokenizer = _tokenizer(sorted(set(script.pieces) - set(SPECIAL)))
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary[_spelled(piece)] for piece in script.pieces]
    size = len(vocabulary)
    config = ModelConfig(
        vocab_size=size,
        hidden_size=-(-(size + 1) // 32) * 32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        num_local_experts=3,
        num_experts_per_tok=1,
        sliding_window=16,
        layer_types=(FULL,),
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        rope_scaling=None,
        dtype="bfloat16",
        quantization="mxfp4",
    )
    generation = GenerationConfig(do_sample=not greedy, eos_token_id=(vocabulary["<|return|>"],))
    write_checkpoint(directory, config, _weights(config, script, ids), generation=generation)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    return directory


def _tokenizer(words: list[str]) -> Tokenizer:
    """The 256 bytes, the words of the script whole, and the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *map(_spelled, words)])
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def _spelled(text: str) -> str:
    """Text in the characters that byte-level BPE uses for its bytes."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def _weights(config: ModelConfig, script: Script, ids: list[int]) -> dict[str, tuple[str, NDArray[np.generic]]]:
    values = {
        tensor.name: np.zeros(tensor.shape, np.uint8 if tensor.kind in (Kind.BLOCKS, Kind.SCALES) else np.float32)
        for tensor in tensors(config)
    }
    for name, value in values.items():
        if name.endswith("norm.weight"):
            value[:] = 1
        elif name.endswith("_scales"):
            value[:] = 127
    hidden, noticed = config.hidden_size, config.vocab_size  # the direction that says that the reasoning is over
    np.fill_diagonal(values["model.embed_tokens.weight"], 1)
    attention = "model.layers.0.self_attn"
    ends = script.reasoning_ends()
    values[f"{attention}.v_proj.weight"][0, ids[ends]] = (
        hidden**-0.5
    )  # a normalised one-hot row has this one value inverted
    values[f"{attention}.o_proj.weight"][noticed, 0] = 1
    follows = values["lm_head.weight"]
    before, after = ({}, {})
    for n, (token, successor) in enumerate(zip(ids, [*ids[1:], ids[-2]], strict=True)):
        if script.pieces[n] in ("<|return|>", "<|call|>"):
            continue
        assert (before if n < ends else after).setdefault(token, successor) == successor, (
            f"{script.pieces[n]!r} stands twice"
        )
    for token in before | after:
        first, second = before.get(token, after.get(token)), after.get(token, before.get(token))
        if first == second:
            follows[first, token] = 2
        else:
            follows[first, token], follows[second, token] = 0.5, 0.25
            follows[second, noticed] = GAIN
    return {name: (_dtype(value), _stored(value)) for name, value in values.items()}


def _dtype(value: NDArray[np.generic]) -> str:
    return "U8" if value.dtype == np.uint8 else "BF16"


def _stored(value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Float32 as the bits of bfloat16, cut off: the values here need no more."""
    return value if value.dtype == np.uint8 else (value.view(np.uint32) >> 16).astype(np.uint16)
