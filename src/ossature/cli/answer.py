"""What a reply looks like: reasoning dimmed on stderr, the answer on stdout, both as they come."""

import json
from types import TracebackType
from typing import Self, TextIO

from ossature.chat import Delta, Event, MessageEnd, MessageStart
from ossature.cli.terminal import has_colours, printable
from ossature.errors import notice
from ossature.session import Reply, ReplyStream

__all__ = ["print_stream"]

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def print_stream(stream: ReplyStream, *, answer: TextIO, reasoning: TextIO) -> Reply:
    """Print an answer as it is made, then its tool calls (a line of JSON each) and what is odd about it."""
    with _Printer(answer, reasoning) as printer:
        for event in stream:
            printer.show(event)
    reply = stream.reply
    for call in reply.tool_calls:
        answer.write(printable(json.dumps(call, ensure_ascii=False), answer) + "\n")
    answer.flush()
    if reply.finish_reason == "length":
        notice(f"the answer stops after {reply.usage.completion_tokens} tokens, the most it may have")
    elif not (reply.final or reply.tool_calls):
        notice("the model ended its turn without an answer; ask again, with another --seed or --effort")
    if reply.malformed:
        notice(f"{len(reply.malformed)} part(s) of the output are no message; `ossature run --json` shows them")
    return reply


class _Printer:
    """Prints events as they come. As a context manager it leaves the terminal in order however that ends."""

    def __init__(self, answer: TextIO, reasoning: TextIO) -> None:
        self._answer = answer
        self._reasoning = reasoning
        self._colours = has_colours(reasoning)
        self._kind: str | None = None  # of the message that is being printed
        self._line_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def show(self, event: Event) -> None:
        """Print one event; tool calls and malformed items come with the whole reply, not here."""
        match event:
            case MessageStart(kind="analysis" | "preamble" | "final"):
                self._begin(event.kind)
            case Delta() if event.kind == self._kind and event.text:
                stream = self._stream()
                stream.write(printable(event.text, stream))
                stream.flush()
                self._line_open = not event.text.endswith("\n")
            case MessageEnd() if event.kind == self._kind:
                self._end()
            case _:
                pass

    def _stream(self) -> TextIO:
        return self._reasoning if self._kind == "analysis" else self._answer

    def _begin(self, kind: str) -> None:
        self._end()
        self._kind = kind
        if kind == "analysis" and self._colours:
            self._reasoning.write(DIM)

    def _end(self) -> None:
        if self._kind is None:
            return
        stream = self._stream()
        if self._kind == "analysis" and self._colours:
            stream.write(PLAIN)
        if self._line_open:
            stream.write("\n")
        stream.flush()
        self._kind, self._line_open = None, False
