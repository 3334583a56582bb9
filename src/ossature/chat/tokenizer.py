"""Text to token ids and back, from a directory's `tokenizer.json` or the bundled o200k_harmony vocabulary.

Text never becomes a control token: `encode` treats "<|start|>" like any other nine characters. Control tokens are
placed by id, and only by the renderer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ossature.chat import json_tokenizer, rank_tokenizer, vocabulary
from ossature.errors import ConfigError, MessageError

__all__ = ["Control", "Tokenizer", "load_tokenizer"]


@dataclass(frozen=True, slots=True)
class Control:
    """Ids of the tokens that structure a harmony conversation."""

    start: int
    end: int
    message: int
    channel: int
    constrain: int
    call: int
    return_: int


class Tokenizer:
    """One vocabulary.

    name        str             "o200k_harmony" or the path of the tokenizer.json
    special     dict[str, int]  every special token by its string; the ids never come out of `encode`
    vocab_size  int             ids are 0 ≤ id < vocab_size
    """

    def __init__(
        self,
        name: str,
        *,
        encode: Callable[[str], list[int]],
        token_bytes: Mapping[int, bytes],
        special: Mapping[str, int],
        vocab_size: int,
    ) -> None:
        self.name = name
        self.special = dict(special)
        self.vocab_size = vocab_size
        self._encode = encode
        self._bytes = token_bytes
        self._special_text = {id_: text for text, id_ in self.special.items()}

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text, in time linear in its length. Raises MessageError for a lone surrogate."""
        check_unicode(text)
        return self._encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; invalid UTF-8 becomes U+FFFD. Never raises: see `decode_bytes`."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of `ids`. A special token gives its string, an id without a token `<|reserved_ID|>`; never raises."""
        return b"".join([self._bytes_of(id_) for id_ in ids])

    def text_bytes(self, id_: int) -> bytes | None:
        """Bytes of one ordinary token; None for a special token and for an id outside the vocabulary."""
        return self._bytes.get(id_)

    def special_text(self, id_: int) -> str:
        """The string of a special token; `<|reserved_ID|>` for an id that has no token at all."""
        return self._special_text.get(id_) or f"<|reserved_{id_}|>"

    @cached_property
    def control(self) -> Control:
        """Ids of the harmony control tokens. Raises ConfigError if the vocabulary lacks one."""
        names = ("start", "end", "message", "channel", "constrain", "call", "return")
        missing = [f"<|{name}|>" for name in names if f"<|{name}|>" not in self.special]
        if missing:
            raise ConfigError(
                f"tokenizer {self.name} has no {', '.join(missing)}, which the harmony format needs; "
                "use the tokenizer of a gpt-oss checkpoint or `o200k_harmony`"
            )
        return Control(*(self.special[f"<|{name}|>"] for name in names))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end what the model samples: <|return|>, <|call|> and, where it exists, <|endoftext|>."""
        ends = (self.control.return_, self.control.call)
        return (*ends, self.special["<|endoftext|>"]) if "<|endoftext|>" in self.special else ends

    def _bytes_of(self, id_: int) -> bytes:
        found = self._bytes.get(id_)
        return self.special_text(id_).encode() if found is None else found


def check_unicode(text: str) -> None:
    """Raise MessageError if `text` is not Unicode text (a lone surrogate has no UTF-8 form)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"character {error.start} of a text is the lone surrogate U+{ord(text[error.start]):04X}, which is not "
            "Unicode text; decode the input with errors='replace' before sending it"
        ) from None


def load_tokenizer(name_or_directory: str | Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer called "o200k_harmony", or the one that fits the checkpoint in a directory.

    vocab_size  rows of the checkpoint's embedding, if known. A directory without `tokenizer.json` has none of its own
                (OpenAI's `original` layout); with vocab_size 201088 the bundled o200k_harmony fits it.

    Raises ConfigError: no tokenizer there, one that cannot be read or trusted, or one with ids ≥ vocab_size.
    """
    if name_or_directory == "o200k_harmony":
        tokenizer = _bundled()
    else:
        directory = Path(name_or_directory)
        file = directory / "tokenizer.json"
        if file.is_file():
            tokenizer = _from_json(file)
        elif directory.is_dir() and vocab_size == vocabulary.VOCAB_SIZE:
            tokenizer = _bundled()
        elif directory.is_dir():
            raise ConfigError(
                f"{directory} has no tokenizer.json. Copy the one the checkpoint was published with into it; "
                "for gpt-oss itself, `load_tokenizer('o200k_harmony')` gives the bundled vocabulary"
            )
        else:
            raise ConfigError(f"no tokenizer {directory}: give a directory with a tokenizer.json, or `o200k_harmony`")
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"tokenizer {tokenizer.name} has ids up to {tokenizer.vocab_size - 1}, but the checkpoint has only "
            f"{vocab_size} embedding rows; the tokenizer belongs to another checkpoint"
        )
    return tokenizer


def _bundled() -> Tokenizer:
    tokens = vocabulary.tokens_in_rank_order()
    return Tokenizer(
        "o200k_harmony",
        encode=rank_tokenizer.encoder(tokens, vocabulary.SPLIT_PATTERN),
        token_bytes=dict(enumerate(tokens)),
        special=vocabulary.SPECIAL,
        vocab_size=vocabulary.VOCAB_SIZE,
    )


def _from_json(file: Path) -> Tokenizer:
    read = json_tokenizer.read(file)
    return Tokenizer(
        str(file), encode=read.encode, token_bytes=read.token_bytes, special=read.special, vocab_size=read.vocab_size
    )
