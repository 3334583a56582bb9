"""One answer: the parser's events as they come, and what they amount to."""

from array import array
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypedDict

from ossature.chat import Event, Malformed, MessageEnd, MessageStart, Parser

__all__ = ["FinishReason", "Reply", "ReplyStream", "ToolCall", "Usage"]

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


class CalledFunction(TypedDict):
    name: str
    arguments: str  # JSON text, as the model wrote it


class ToolCall(TypedDict):
    """A tool call as in OpenAI's chat completions."""

    id: str
    type: Literal["function"]
    function: CalledFunction


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. reasoning_tokens: the content of analysis messages with its end tokens, part of the completion."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered; several messages of a kind are joined by a line feed.

    analysis       reasoning, not meant to be shown as an answer
    preamble       what it says to the person before it calls a tool
    final          the answer; "" if it did not come to one
    tool_calls     complete calls only
    finish_reason  "stop", "tool_calls", "length" (max_new_tokens or the context ran out; a call cut off by that is in
                   `malformed`), or "cancelled" for a stream that its reader left
    malformed      parts of the output that are no message, with their raw text
    """

    analysis: str
    preamble: str
    final: str
    tool_calls: list[ToolCall]
    finish_reason: FinishReason
    usage: Usage
    malformed: list[Malformed]

    def message(self) -> dict[str, object]:
        """This answer as an assistant message, to append to the conversation that it answers."""
        said = self.final or self.preamble
        message: dict[str, object] = {"role": "assistant"}
        if self.analysis:
            message["thinking"] = self.analysis
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        if said or len(message) == 1:
            message["content"] = said
        return message


class ReplyStream:
    """Iterate once over the events of an answer; `reply` is what they amount to, also where the iteration ended early.

    The turn ends at a stop id. It also ends after a message on the final channel or a tool call that ended in another
    way, and where the model goes on in the name of somebody else: models add such things to a finished turn.
    """

    def __init__(self, ids: Iterator[int], parser: Parser, *, prompt: Sequence[int], stop_ids: Collection[int]) -> None:
        self._ids = ids
        self._parser = parser
        self._stop_ids = frozenset(stop_ids)
        self._prompt_tokens = len(prompt)
        self._digest = blake2b(array("q", prompt).tobytes(), digest_size=12)
        self._completion_tokens = 0
        self._reasoning_tokens = 0
        self._open: MessageStart | None = None
        self._texts: dict[str, list[str]] = {"analysis": [], "preamble": [], "final": []}
        self._tool_calls: list[ToolCall] = []
        self._malformed: list[Malformed] = []
        self._turn_is_over = False
        self._ran_out = False
        self._closed = False
        self._events = self._run()

    def __iter__(self) -> Generator[Event]:
        return self._events

    @property
    def reply(self) -> Reply:
        """The whole answer; before the last event, ends the iteration and gives the answer so far."""
        self._events.close()
        self._close()
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            reasoning_tokens=self._reasoning_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
        )
        return Reply(
            analysis="\n".join(self._texts["analysis"]),
            preamble="\n".join(self._texts["preamble"]),
            final="\n".join(self._texts["final"]),
            tool_calls=list(self._tool_calls),
            finish_reason=self._finish_reason(),
            usage=usage,
            malformed=list(self._malformed),
        )

    def finish(self) -> Reply:
        """Read what is left of the answer and return the whole of it."""
        for _ in self._events:
            pass
        return self.reply

    def _run(self) -> Generator[Event]:
        for token in self._ids:
            self._completion_tokens += 1
            self._reasoning_tokens += self._open is not None and self._open.kind == "analysis"
            self._digest.update(array("q", [token]).tobytes())
            for event in self._parser.push(token):
                self._take(event)
                yield event
            self._turn_is_over |= token in self._stop_ids
            if self._turn_is_over:
                break
        self._ran_out = not self._turn_is_over
        yield from self._close()

    def _close(self) -> list[Event]:
        """End the parser, once; what it still held comes out. Nobody computes on for an answer that is over."""
        if self._closed:
            return []
        self._closed = True
        if isinstance(self._ids, Generator):
            self._ids.close()
        was_over = self._turn_is_over
        events = self._parser.close()
        for event in events:
            self._take(event)
        self._turn_is_over = was_over  # a message that only the close has ended did not end the turn
        return events

    def _take(self, event: Event) -> None:
        match event:
            case MessageStart():
                self._open = event
                self._turn_is_over |= event.role != "assistant"
            case MessageEnd(kind="tool_call"):
                self._open = None
                self._take_call(event)
            case MessageEnd():
                self._turn_is_over |= self._open is not None and self._open.channel == "final"
                self._open = None
                if event.text:
                    self._texts[event.kind].append(event.text)
            case Malformed():
                self._malformed.append(event)
            case _:
                pass

    def _take_call(self, event: MessageEnd) -> None:
        if event.end == "cut" and self._closed and not self._turn_is_over:
            reason = f"a call to {event.recipient} that was cut off; its arguments are not complete"
            self._malformed.append(Malformed(index=event.index, raw=event.text, reason=reason))
            return
        self._turn_is_over = True
        # The same ids give the same call id, and a call in another turn has another prompt, so another id.
        call_id = f"call_{self._digest.hexdigest()}"
        name = (event.recipient or "").removeprefix("functions.")
        self._tool_calls.append(
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": event.text}}
        )

    def _finish_reason(self) -> FinishReason:
        if self._turn_is_over:
            return "tool_calls" if self._tool_calls else "stop"
        return "length" if self._ran_out else "cancelled"
