"""What stands between <|start|> and <|message|>, read as generously as models write it.

`assistant to=functions.f<|channel|>commentary <|constrain|>json` is the rule. Models also put the recipient after the
channel, glue the content type to its neighbours, write a role, a channel or `to=` twice, and add words of their own.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ossature.chat.events import Kind, Role

__all__ = ["Header", "Segment", "read_header"]

_ROLE = re.compile(r"\s*(assistant|system|developer|user)(?:assistant)*(?![_.\-])")
_AUTHOR = re.compile(r"\s*([A-Za-z0-9_.\-]+)")
_NAME = re.compile(r":([A-Za-z0-9_.\-]+)")
_KNOWN_CHANNEL = re.compile(r"\s*(analysis|commentary|final)(?![a-z])")
_CHANNEL = re.compile(r"\s*(analysis|commentary|final|[A-Za-z0-9_.\-]+)")
_RECIPIENT = re.compile(r"to=\s*([A-Za-z0-9_.\-]*)")
_FIELD = re.compile(rf"\s*(?:{_RECIPIENT.pattern}|(json|code)(?![A-Za-z0-9_.\-]))")
_WORD = re.compile(r"\s*([A-Za-z0-9_.\-]+)\s*")
_GLUED = ("json", "code", "analysis", "commentary", "final")
_NO_TOOL = ("all", "user", "assistant")  # an assistant that writes to these calls nothing


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of a header up to its next control token, and the token before it.

    The first segment comes after <|start|>, or after "" if it continues a prompt ending in <|start|>assistant.
    """

    control: str
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header. `rest` is what is left of the last segment: the content, if <|message|> never came."""

    role: Role
    name: str | None
    channel: str | None
    recipient: str | None
    content_type: str | None
    rest: str

    @property
    def kind(self) -> Kind:
        if self.role != "assistant":
            return "analysis"
        if self.recipient is not None:
            return "tool_call"
        match self.channel:
            case None | "final":
                return "final"
            case "commentary":
                return "preamble"
            case _:
                return "analysis"


def read_header(segments: Sequence[Segment], *, complete: bool, tools: Collection[str]) -> Header | None:
    """The fields of a header, or None if its author is neither a role nor a tool.

    complete  <|message|> came, so every word belongs to the header
    tools     names of the offered functions, without `functions.`
    """
    role, name, first = _author(segments[0], tools)
    if role is None:
        return None
    reader = _Reader(role, complete)
    reader.read(Segment("", first))
    for segment in segments[1:]:
        reader.read(segment)
    recipient, content_type = _complete_recipient(reader.recipient, reader.content_type, tools)
    return Header(role, name, reader.channel, recipient, content_type, reader.rest.lstrip())


def _author(segment: Segment, tools: Collection[str]) -> tuple[Role | None, str | None, str]:
    """Role, name, and the text that follows them."""
    text = segment.text
    role: Role | None = "assistant" if segment.control == "" or not text.strip() else None
    name = None
    if found := _ROLE.match(text):
        role = _as_role(found[1])
        text = text[found.end() :]
    elif role is None and (found := _AUTHOR.match(text)):
        name = found[1]
        role = "tool" if "." in name or name == "python" or name in tools else None
        return role, name, text[found.end() :]
    if found := _NAME.match(text):
        name, text = found[1], text[found.end() :]
    return role, name, text


def _as_role(text: str) -> Role:
    match text:
        case "system" | "developer" | "user":
            return text
        case _:
            return "assistant"


class _Reader:
    """Takes the fields of a header from its segments, the first channel and the last recipient winning."""

    def __init__(self, role: Role, complete: bool) -> None:
        self.channel: str | None = None
        self.recipient: str | None = None
        self.content_type: str | None = None
        self.rest = ""
        self._complete = complete
        self._nobody = _NO_TOOL if role == "assistant" else ()

    def read(self, segment: Segment) -> None:
        text = segment.text
        if segment.control == "<|constrain|>" and (found := _WORD.match(text)):
            self.content_type, text = found[1], text[found.end() :]
        channel = _CHANNEL if segment.control == "<|channel|>" else _KNOWN_CHANNEL
        if (segment.control == "<|channel|>" or self.channel is None) and (found := channel.match(text)):
            self.channel = self.channel or found[1]
            text = text[found.end() :]
        text = self._recipients(text)
        if self._complete and (word := _WORD.fullmatch(text)):
            self.content_type, text = self.content_type or word[1], ""
        self.rest = text

    def _recipients(self, text: str) -> str:
        """Read `to=` and content types off the front, or, where all is header, a `to=` from anywhere."""
        end = 0
        while found := _FIELD.match(text, end):
            end = found.end()
            self._address(found[1])
            self.content_type = self.content_type or found[2]
        if self._complete:
            for found in _RECIPIENT.finditer(text, end):
                self._address(found[1])
        return text[end:]

    def _address(self, recipient: str | None) -> None:
        if recipient and recipient not in self._nobody:
            self.recipient = recipient


def _complete_recipient(
    recipient: str | None, content_type: str | None, tools: Collection[str]
) -> tuple[str | None, str | None]:
    """The recipient as `functions.NAME` if a known tool is meant, though not written so, and the content type."""
    if recipient is None:
        return None, content_type
    name = recipient.removeprefix("functions.").strip(".")
    if name in tools:
        return f"functions.{name}", content_type
    for glued in _GLUED:
        stem = name.removesuffix(glued).rstrip(".")
        if stem != name and stem in tools:
            return f"functions.{stem}", content_type or (glued if glued in ("json", "code") else None)
    return recipient, content_type
