"""Token ids in, events out: a total parser of what a harmony model says.

It reads ids, not text, so that nothing a model writes as text can act as a control token. Every stream of ids gives
events; what makes no message comes out as Malformed with its raw text.
"""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ossature.chat.events import Delta, End, Event, Malformed, MessageEnd, MessageStart
from ossature.chat.header import Header, Segment, read_header
from ossature.chat.tokenizer import Tokenizer

__all__ = ["Parser"]

_ENDS: dict[str, End] = {"<|end|>": "end", "<|return|>": "return", "<|call|>": "call"}
_NO_MESSAGE = "the header has no <|message|>, and nothing in it can be its content"
_NO_AUTHOR = "the author is neither a role nor a tool"
_BETWEEN = "not inside a message"
_STRAY = "a control token that means nothing inside a message"


class Parser:
    """Reads one stream, id by id. No method raises, whatever the ids are.

    tools  names of the offered functions: a call that leaves out `functions.` is then understood all the same
    start  "assistant": the stream continues a prompt ending in <|start|>assistant
           "conversation": it begins with <|start|>
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        tools: Iterable[str] = (),
        start: Literal["assistant", "conversation"] = "assistant",
    ) -> None:
        self._tokenizer = tokenizer
        self._tools = frozenset(tools)
        self._index = 0
        self._events: list[Event] = []
        self._state: _Between | _OpenHeader | _OpenMessage
        self._state = _OpenHeader(_Raw("")) if start == "assistant" else _Between(_Raw(""))

    def push(self, id_: int) -> list[Event]:
        """The events that one more id completes."""
        data = self._tokenizer.text_bytes(id_)
        if data is not None:
            self._text(data)
        else:
            self._control(self._tokenizer.special_text(id_))
        return self._take()

    def close(self) -> list[Event]:
        """The events still due at the end of the stream. Closing twice gives nothing more."""
        self._interrupt()
        self._state = _Between(_Raw(""))
        return self._take()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _text(self, data: bytes) -> None:
        if isinstance(self._state, _OpenMessage):
            self._delta(self._state, self._state.decoder.decode(data))
        else:
            self._state.raw.add_text(data)

    def _control(self, token: str) -> None:
        state = self._state
        if token == "<|start|>":
            self._interrupt()
            self._state = _OpenHeader(_Raw(token))
        elif token == "<|endoftext|>":
            self._interrupt()
            self._malformed(token, _BETWEEN)
            self._state = _Between(_Raw(""))
        elif isinstance(state, _OpenHeader):
            self._control_in_header(state, token)
        elif isinstance(state, _OpenMessage):
            self._control_in_message(state, token)
        else:
            self._control_between(state, token)

    def _control_in_header(self, header: "_OpenHeader", token: str) -> None:
        if token in _ENDS:
            self._end_header(header.raw, _ENDS[token])
            self._state = _Between(_Raw(""))
            return
        header.raw.add_control(token)
        if token == "<|message|>":
            self._open_message(header.raw)

    def _control_in_message(self, message: "_OpenMessage", token: str) -> None:
        if token in _ENDS:
            self._end_message(message, _ENDS[token])
            self._state = _Between(_Raw(""))
        elif token == "<|channel|>":  # a new message whose <|end|><|start|>assistant was forgotten
            self._end_message(message, "cut")
            self._state = _OpenHeader(_Raw("", token))
        else:
            self._delta(message, message.decoder.decode(b"", final=True))
            self._malformed(token, _STRAY)

    def _control_between(self, between: "_Between", token: str) -> None:
        if token in ("<|channel|>", "<|message|>"):  # a message whose <|start|>, perhaps also its role, was forgotten
            header = _OpenHeader(between.raw)
            if not _names_the_assistant(between.raw):
                self._interrupt()
                header = _OpenHeader(_Raw(""))
            self._state = header
            self._control_in_header(header, token)
            return
        between.raw.add_control(token)
        if token in _ENDS:
            self._interrupt()
            self._state = _Between(_Raw(""))

    def _interrupt(self) -> None:
        """End what is open, as the stream ends here or something else begins."""
        state = self._state
        if isinstance(state, _OpenMessage):
            self._end_message(state, "cut")
        elif isinstance(state, _OpenHeader):
            self._end_header(state.raw, "cut")
        elif raw := state.raw.written():
            self._malformed(raw, state.reason)

    def _open_message(self, raw: "_Raw") -> None:
        header = read_header(raw.segments(), complete=True, tools=self._tools)
        self._state = _Between(raw, _NO_AUTHOR) if header is None else self._start(header, raw.written())

    def _end_header(self, raw: "_Raw", end: End) -> None:
        """A header ended without <|message|>: what stands after its fields may be the content."""
        header = read_header(raw.segments(), complete=False, tools=self._tools)
        text = raw.written()
        if header is not None and header.rest:
            message = self._start(header, text.removesuffix(header.rest))
            self._delta(message, header.rest)
            self._end_message(message, end)
            return
        text += "" if end == "cut" else f"<|{end}|>"
        if text:
            self._malformed(text, _NO_AUTHOR if header is None else _NO_MESSAGE)

    def _start(self, header: Header, raw: str) -> "_OpenMessage":
        self._events.append(
            MessageStart(
                index=self._index,
                kind=header.kind,
                role=header.role,
                name=header.name,
                channel=header.channel,
                recipient=header.recipient,
                content_type=header.content_type,
                header=raw,
            )
        )
        self._index += 1
        return _OpenMessage(self._index - 1, header)

    def _delta(self, message: "_OpenMessage", text: str) -> None:
        if text:
            message.texts.append(text)
            self._events.append(Delta(message.index, message.header.kind, text))

    def _end_message(self, message: "_OpenMessage", end: End) -> None:
        self._delta(message, message.decoder.decode(b"", final=True))
        header = message.header
        text = "".join(message.texts)
        self._events.append(MessageEnd(message.index, header.kind, text, header.recipient, header.content_type, end))

    def _malformed(self, raw: str, reason: str) -> None:
        self._events.append(Malformed(self._index, raw, reason))
        self._index += 1


def _names_the_assistant(raw: "_Raw") -> bool:
    """Whether `raw` is empty or no more than the beginning of an assistant's header."""
    text = raw.written()
    header = read_header([Segment("<|start|>", text)], complete=True, tools=())
    return header is not None and header.role == "assistant" and not header.rest


class _Raw:
    """A piece of the stream: runs of text bytes, each with the control token before it ("" for none)."""

    def __init__(self, first: str, *others: str) -> None:
        self._runs = [(control, bytearray()) for control in (first, *others)]

    @property
    def first(self) -> str:
        return self._runs[0][0]

    def add_text(self, data: bytes) -> None:
        self._runs[-1][1].extend(data)

    def add_control(self, token: str) -> None:
        self._runs.append((token, bytearray()))

    def segments(self) -> list[Segment]:
        return [Segment(control, run.decode("utf-8", errors="replace")) for control, run in self._runs]

    def written(self) -> str:
        return "".join([segment.control + segment.text for segment in self.segments()])


@dataclass(frozen=True, slots=True)
class _Between:
    """Between messages. `raw` is what stands there: nothing, if all is well."""

    raw: _Raw
    reason: str = _BETWEEN


@dataclass(frozen=True, slots=True)
class _OpenHeader:
    """In a header. `raw` begins with <|start|>, or with "" if <|start|>assistant was the end of the prompt."""

    raw: _Raw


class _OpenMessage:
    """In the content of a message."""

    def __init__(self, index: int, header: Header) -> None:
        self.index = index
        self.header = header
        self.texts: list[str] = []
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
