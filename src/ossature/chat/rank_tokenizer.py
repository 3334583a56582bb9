r"""Byte-pair encoding over ranks with tiktoken, made safe for runs of white space of any length.

The split pattern ends in `\s+(?!\S)`, on which tiktoken's backtracking stack overflows (a panic, not an exception)
after about a million characters of white space. Such a run is one piece of the split by that same pattern, so it is cut
out here and encoded as the one piece it is: the ids are those the pattern asks for.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache

import tiktoken

__all__ = ["encoder"]

_LONG = 100_000  # far below the overflow, far above any real run
_SPACE = "\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode White_Space without \r and \n
_LONG_RUN = re.compile(f"(?<![{_SPACE}])[{_SPACE}]{{{_LONG},}}+")


def encoder(tokens: list[bytes], split_pattern: str) -> Callable[[str], list[int]]:
    """An encoder for Unicode text. `tokens[rank]` are the token bytes; text becomes ordinary tokens only."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("ranks", pat_str=split_pattern, mergeable_ranks=ranks, special_tokens={})

    @cache
    def unsplit() -> tiktoken.Encoding:
        return tiktoken.Encoding("ranks, unsplit", pat_str=r"(?s).+", mergeable_ranks=ranks, special_tokens={})

    def encode(text: str) -> list[int]:
        if len(text) < _LONG:
            return encoding.encode_ordinary(text)
        ids: list[int] = []
        for part, is_one_piece in _parts(text):
            ids += (unsplit() if is_one_piece else encoding).encode_ordinary(part)
        return ids

    return encode


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    r"""`text` cut around each long run of white space; True marks a run that the split pattern takes as one piece.

    A run before a line break belongs to `\s*[\r\n]+`, which does not overflow, and stays where it is. A run before
    other text leaves its last character to that text, as `\s+(?!\S)` does.
    """
    done = 0
    for run in _LONG_RUN.finditer(text):
        end = run.end()
        if end < len(text):
            if text[end] in "\r\n":
                continue
            end -= 1
        if done < run.start():
            yield text[done : run.start()], False
        yield text[run.start() : end], True
        done = end
    if done < len(text):
        yield text[done:], False
