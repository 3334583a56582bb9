"""The vocabulary of `mini`: byte-level BPE without merges, whose ids are the 256 bytes and whole pieces of text.

A piece (a word with the space before it, a run of punctuation, a fixed sentence of the harmony skeleton) is one id if
it is in the vocabulary, and falls to its bytes if it is not. So the skeleton costs few ids, and any word that was not
chosen is spelled out, which is how the model can copy, reverse and recall words that it has never seen.

`python -m recipes.mini.tokenizer DIRECTORY` writes tokenizer.json, tokenizer_config.json and special_tokens_map.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from ossature.chat import Tokenizer as ChatTokenizer
from ossature.chat import render_training
from recipes.mini import words
from recipes.mini.generate import generate
from recipes.mini.tasks.table import COLUMNS

SIZE = 1024
SPECIAL = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
)  # fmt: skip
SKELETON = (
    r"You are ChatGPT, a large language model trained by OpenAI\.\nKnowledge cutoff: 2024-06",
    r"\nCurrent date: ",
    r"\n\nReasoning: ",
    r"\n\n# Valid channels: analysis, commentary, final\. Channel must be included for every message\.",
    r"\nCalls to these tools must go to the commentary channel: 'functions'\.",
    r"# Instructions\n\n",
    r"(?:\n\n)?# Tools\n\n## functions\n\nnamespace functions \{\n\n",
    r"\} // namespace functions",
    r"\}\) => any;\n\n",
    r"type (?=[A-Za-z0-9_-]+ = \()",
    r" = \(_: \{\n",
    r": number,\n",
    r": string,\n",
    r" to=functions\.",
    r" to=assistant",
)
"""Fixed phrases as regular expressions, each one piece wherever it stands."""
PATTERN = "|".join((*SKELETON, r" ?\p{L}+", r"\p{N}", r" ?[^\s\p{L}\p{N}]+", r"\s+"))
_SAMPLES = {"A": 2000, "B": 6000, "C": 12000}
HALF_KNOWN = 0.03
"""A form of a word at least this often, relative to the other form, counts as used."""
_SEED = 20_240_601


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Text to pieces, written in the characters that byte-level BPE uses for bytes."""
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build() -> Tokenizer:
    """The tokenizer: bytes first, then the chosen pieces (most frequent first), then the special tokens."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *chosen_pieces(SIZE - 256 - len(SPECIAL))]
    assert len(set(pieces)) == len(pieces) == SIZE - len(SPECIAL)
    model = models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return tokenizer


def chosen_pieces(count: int) -> list[str]:
    """The words that must be known, then the most frequent pieces of the corpus that may be.

    A word that is used both with and without a space before it is known in both forms or in neither, so that writing it
    again elsewhere never needs its spelling. The words of the letter tasks and of the table stay unknown.
    """
    frequency = piece_counts()
    spelled = {
        *words.COMMON_WORDS,
        *words.RARE_THINGS,
        *words.FOODS,
        *words.ANIMALS,
        *words.RARE_COLOURS,
        *words.RARE_NAMES,
    }
    spelled |= {word for column in COLUMNS for row in column.rows for word in row} - set(words.KNOWN_COLOURS)
    chosen = [form for name in words.KNOWN_NAMES for form in (name, f"Ġ{name}")]
    chosen += [f"Ġ{word}" for word in words.KNOWN_COLOURS + words.KNOWN_THINGS]
    groups: dict[tuple[str, ...], float] = {}
    for piece, times in frequency.items():
        word = piece.removeprefix("Ġ")
        if len(piece) == 1 or piece in chosen or (word.isalpha() and (len(word) == 1 or word in spelled)):
            continue
        forms = (word, f"Ġ{word}")
        rarer, commoner = sorted(frequency[form] for form in forms)
        if word.isalpha() and rarer > HALF_KNOWN * commoner:
            groups[tuple(form for form in forms if form not in chosen)] = (rarer + commoner) / 2
        else:
            groups[(piece,)] = times
    for forms, _ in sorted(groups.items(), key=lambda item: (-item[1], item[0])):
        if len(chosen) + len(forms) <= count:
            chosen += forms
    return chosen


def piece_counts() -> Counter[str]:
    """How often each piece of text stands in a sample of the training corpus."""
    counter = _PieceCounter()
    for stage, samples in _SAMPLES.items():
        for index in range(samples):
            sample = generate(_SEED, index, stage=stage)  # pyright: ignore[reportArgumentType]
            render_training(
                sample.messages,
                tokenizer=cast(ChatTokenizer, counter),
                tools=sample.tools,
                reasoning_effort=sample.reasoning_effort,
                current_date=sample.current_date,
            )
    return counter.counts


class _PieceCounter:
    """Stands where the renderer wants a tokenizer, and counts the pieces of what it is asked to encode."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.control = ChatTokenizer(
            "", encode=lambda _: [], token_bytes={}, special=dict.fromkeys(SPECIAL, 0), vocab_size=0
        ).control
        self._pieces = pre_tokenizer()

    def encode(self, text: str) -> list[int]:
        self.counts.update(piece for piece, _ in self._pieces.pre_tokenize_str(text))
        return []


def write(directory: Path) -> Path:
    """Write the three files into `directory` (made if missing); return the path of tokenizer.json."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tokenizer.json"
    build().save(str(file))
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 4096,
        **named,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / "special_tokens_map.json").write_text(json.dumps(named, indent=2) + "\n")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tokenizer files of mini.")
    parser.add_argument("directory", type=Path)
    print(write(parser.parse_args().directory))


if __name__ == "__main__":
    main()
