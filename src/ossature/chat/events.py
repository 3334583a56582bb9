"""What the parser says about a stream of ids.

Every message is MessageStart, any number of Delta, MessageEnd. `index` numbers messages and malformed items together,
in the order in which they begin. Nothing is lost: `written(events)` is the whole stream, control tokens included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Delta", "End", "Event", "Kind", "Malformed", "MessageEnd", "MessageStart", "Role", "written"]

Kind = Literal["analysis", "preamble", "final", "tool_call"]
Role = Literal["system", "developer", "user", "assistant", "tool"]
End = Literal["end", "return", "call", "cut"]


@dataclass(frozen=True, slots=True)
class MessageStart:
    """A header is complete.

    kind          what the message is for: "tool_call" if an assistant message has a recipient, on whatever channel;
                  else by channel, where none is "final" and an unknown one is "analysis". Other roles are "analysis"
    name          author's name: the tool for role "tool"
    channel       as the model wrote it
    recipient     whom the message goes to: "functions.NAME", "python", …; completed to a known tool where possible
    content_type  "json", "code", …: without the <|constrain|> before it
    header        the header as it came, control tokens written out, from <|start|> to <|message|>
    """

    index: int
    kind: Kind
    role: Role
    name: str | None
    channel: str | None
    recipient: str | None
    content_type: str | None
    header: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The next text of a message: whole characters only, never empty."""

    index: int
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """A message is over. `text` is all its deltas; end="cut": something else began, or the stream ended, first."""

    index: int
    kind: Kind
    text: str
    recipient: str | None
    content_type: str | None
    end: End


@dataclass(frozen=True, slots=True)
class Malformed:
    """What is no message, or a control token that means nothing inside one. `raw` has control tokens written out."""

    index: int
    raw: str
    reason: str


Event = MessageStart | Delta | MessageEnd | Malformed


def written(events: Iterable[Event]) -> str:
    """The stream that `events` came from: text with its control tokens written out, invalid UTF-8 as U+FFFD."""
    out: list[str] = []
    for event in events:
        match event:
            case MessageStart():
                out.append(event.header)
            case Delta():
                out.append(event.text)
            case MessageEnd():
                out.append("" if event.end == "cut" else f"<|{event.end}|>")
            case Malformed():
                out.append(event.raw)
    return "".join(out)
