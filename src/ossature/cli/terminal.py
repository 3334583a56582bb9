"""What may be written to a terminal: whether it has colours, and text without control over it."""

import os
import re
from typing import TextIO

__all__ = ["has_colours", "printable"]

# C0 and C1 controls except tab and line feed, and the marks that reorder text. A model's answer, or a name in a
# checkpoint, could otherwise move the cursor, set the clipboard or hide what a line says.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str, stream: TextIO) -> str:
    """`text` for `stream`: a terminal gets control characters as visible escapes, a file or pipe as they are."""
    if not stream.isatty():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def has_colours(stream: TextIO) -> bool:
    """True for a terminal, unless NO_COLOR is set (https://no-color.org) or TERM is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
