"""The o200k_harmony vocabulary: how it is packed into the package, and its special tokens.

The 199,998 ranks are those of the published file `o200k_base.tiktoken`, whose lines are base64(token) SPACE rank with
the ranks counting up from 0. So only the token bytes carry information, and the packed form is the xz of all token
lengths (one byte each, in rank order) followed by all token bytes: 0.8 MB where the published file has 3.6 MB.
Source of the special tokens: openai/harmony, encoding HarmonyGptOss.
"""

import binascii
import hashlib
import lzma
from importlib import resources

from ossature.errors import ConfigError

__all__ = ["SPECIAL", "SPLIT_PATTERN", "VOCAB_SIZE", "pack", "published_file", "tokens_in_rank_order", "unpack"]

PUBLISHED_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
RANKS = 199_998
VOCAB_SIZE = 201_088  # rows of the model's embedding; harmony's own table names one id more, which no model has

_LETTER_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLIT_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _LETTER_END,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _LETTER_END,
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def _special_tokens() -> dict[str, int]:
    names = {
        199_998: "<|startoftext|>",
        199_999: "<|endoftext|>",
        200_002: "<|return|>",
        200_003: "<|constrain|>",
        200_005: "<|channel|>",
        200_006: "<|start|>",
        200_007: "<|end|>",
        200_008: "<|message|>",
        200_012: "<|call|>",
    }
    return {names.get(id_, f"<|reserved_{id_}|>"): id_ for id_ in range(RANKS, VOCAB_SIZE)}


SPECIAL = _special_tokens()


def pack(published: bytes) -> bytes:
    """The packed form of the published rank file. Raises ConfigError if `published` is any other file."""
    _check(published)
    tokens = [binascii.a2b_base64(line.split(b" ")[0]) for line in published.splitlines()]
    literals = {"lc": 4, "lp": 0, "pb": 0, "dict_size": 1 << 21}  # bytes without alignment; the text is 1.5 MB
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, **literals}]
    return lzma.compress(bytes(map(len, tokens)) + b"".join(tokens), format=lzma.FORMAT_XZ, filters=filters)


def tokens_in_rank_order() -> list[bytes]:
    """The 199,998 tokens; the index is the rank and the id. Raises ConfigError if the bundled file is damaged."""
    return unpack((resources.files("ossature") / "data" / "o200k_harmony.xz").read_bytes())


def unpack(packed: bytes) -> list[bytes]:
    """The tokens in rank order. Raises ConfigError unless they make the published file, by its sha256."""
    try:
        unpacked = memoryview(lzma.decompress(packed))
    except lzma.LZMAError as error:
        raise ConfigError(f"the bundled o200k_harmony.xz is damaged ({error}); reinstall ossature") from error
    tokens: list[bytes] = []
    start = RANKS
    for length in unpacked[:RANKS]:
        tokens.append(bytes(unpacked[start : start + length]))
        start += length
    _check(_publish(tokens))
    return tokens


def published_file() -> bytes:
    """The bytes of `o200k_base.tiktoken` as published, for tools that want that file (sha256 verified)."""
    return _publish(tokens_in_rank_order())


def _publish(tokens: list[bytes]) -> bytes:
    encode = binascii.b2a_base64
    return b"".join([b"%s %d\n" % (encode(token, newline=False), rank) for rank, token in enumerate(tokens)])


def _check(published: bytes) -> None:
    found = hashlib.sha256(published).hexdigest()
    if found != PUBLISHED_SHA256:
        raise ConfigError(
            f"the o200k_base rank file has sha256 {found}, expected {PUBLISHED_SHA256}; "
            "if this is the bundled vocabulary, reinstall ossature"
        )
