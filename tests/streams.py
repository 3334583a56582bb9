"""Streams of ids for the parser: written as text with control tokens, and read back as events."""

import re
from collections.abc import Iterable

from ossature.chat import Event, MessageEnd, Parser, Tokenizer


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text` as a model samples it: what looks like a control token is one."""
    ids: list[int] = []
    for part in re.split(r"(<\|\w+\|>)", text):
        ids += [tokenizer.special[part]] if part in tokenizer.special else tokenizer.encode(part)
    return ids


def read(parser: Parser, ids: Iterable[int]) -> list[Event]:
    """All events of a stream, the closing ones included."""
    events = [event for id_ in ids for event in parser.push(id_)]
    return [*events, *parser.close()]


def texts(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Kind and text of every message."""
    return [(event.kind, event.text) for event in events if isinstance(event, MessageEnd)]
