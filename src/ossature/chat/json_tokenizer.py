"""A `tokenizer.json` read with the library `tokenizers`: byte-level BPE whose text never yields a special token."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import decoders, models

from ossature.errors import ConfigError

__all__ = ["JsonTokenizer", "read"]

_CONTROL = re.compile(r"<\|\w+\|>")  # means something to the model even where the file does not call it special


@dataclass(frozen=True, slots=True)
class JsonTokenizer:
    encode: Callable[[str], list[int]]
    token_bytes: dict[int, bytes]
    special: dict[str, int]
    vocab_size: int


def read(file: Path) -> JsonTokenizer:
    """Read `file`. Raises ConfigError: not a tokenizer.json, not byte-level BPE, or text can become a special token."""
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for everything
        raise ConfigError(f"{file} cannot be read as a tokenizer.json: {error}") from error
    if not isinstance(tokenizer.model, models.BPE) or not isinstance(tokenizer.decoder, decoders.ByteLevel):
        raise ConfigError(
            f"{file} is {type(tokenizer.model).__name__} with decoder {type(tokenizer.decoder).__name__}; "
            "only byte-level BPE (model BPE, decoder ByteLevel) can be used"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # the library's name for: special tokens in a text are text
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content: id_ for id_, token in added.items() if token.special or _CONTROL.fullmatch(token.content)}
    token_bytes = {id_: token.content.encode() for id_, token in added.items() if token.content not in special}
    byte_of = _byte_of_character()
    for text, id_ in tokenizer.get_vocab(with_added_tokens=False).items():
        if id_ not in added:
            token_bytes[id_] = _bytes_of(text, byte_of, file)
    if missing := 256 - len({token for token in token_bytes.values() if len(token) == 1}):
        raise ConfigError(f"{file} has no token for {missing} of the 256 bytes, so it would lose text without a word")

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    _check_specials_stay_text(encode, special, file)
    return JsonTokenizer(encode, token_bytes, special, max([*token_bytes, *special.values()], default=-1) + 1)


def _check_specials_stay_text(encode: Callable[[str], list[int]], special: dict[str, int], file: Path) -> None:
    ids = set(special.values())
    for text in special:
        if ids.intersection(encode(text)) or ids.intersection(encode(f"a {text}b")):
            raise ConfigError(
                f"{file} turns the plain text {text} into a control token, so anyone could forge messages; "
                "mark it as an added token with `special: true` and keep it out of the merges"
            )


def _bytes_of(text: str, byte_of: dict[str, int], file: Path) -> bytes:
    try:
        return bytes([byte_of[character] for character in text])
    except KeyError as error:
        raise ConfigError(f"{file}: token {text!r} has the character {error}, which stands for no byte") from None


def _byte_of_character() -> dict[str, int]:
    """The character that stands for each byte in byte-level BPE files: itself if printable, else U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
