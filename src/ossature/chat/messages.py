"""OpenAI chat messages to harmony messages: checked, in order, nothing dropped unsaid.

One chat message may become several harmony messages (reasoning, preamble, calls), and a run of tool results is placed
call by call: the model makes one call, reads its result, makes the next.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ossature.chat import fields
from ossature.errors import MessageError

__all__ = ["HarmonyMessage", "read_messages"]

Role = Literal["system", "developer", "user", "assistant", "tool"]

_REASONING = ("thinking", "reasoning", "reasoning_content")
_KEYS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "channel", "tool_calls"}.union(_REASONING)),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}
_FINE_IF_EMPTY = frozenset({"refusal", "audio", "function_call", "annotations"})  # replies of the API carry them


@dataclass(frozen=True, slots=True)
class HarmonyMessage:
    """`author` stands after <|start|>: the role, `role:name`, or a tool's name. `train`: what the caller asked for."""

    role: Role
    author: str
    content: str
    recipient: str | None = None
    channel: str | None = None
    content_type: str | None = None
    train: bool | None = None


@dataclass(slots=True)
class _Call:
    """A tool call that waits for its result."""

    id: str | None
    name: str
    message: HarmonyMessage
    result: str | None = None


def read_messages(
    messages: Sequence[Mapping[str, object]],
    *,
    functions: Collection[str],
    builtin_tools: Collection[str],
    training: bool = False,
) -> list[HarmonyMessage]:
    """`messages` as harmony messages, developer messages still one by one.

    functions      names of the offered function tools; a call to one of them is never taken for a built-in tool
    builtin_tools  built-in tools offered in the system message
    training       whether messages may have the key `train`

    Raises MessageError naming the message and what is wrong with it.
    """
    reader = _Reader(functions, builtin_tools, training)
    for n, value in enumerate(fields.items(messages, "messages")):
        reader.read(fields.mapping(value, f"messages[{n}]"), f"messages[{n}]")
    reader.place_results()
    return reader.out


class _Reader:
    """Reads message by message; calls wait for the run of tool results that follows them."""

    def __init__(self, functions: Collection[str], builtin_tools: Collection[str], training: bool) -> None:
        self.out: list[HarmonyMessage] = []
        self._functions = functions
        self._builtin_tools = builtin_tools
        self._training = training
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_name: defaultdict[str | None, deque[_Call]] = defaultdict(deque)

    def read(self, message: Mapping[str, object], where: str) -> None:
        role = message.get("role")
        if not isinstance(role, str) or role not in _KEYS:
            raise MessageError(f"{where}.role is {role!r}; known are {', '.join(_KEYS)}")
        known = set(_KEYS[role])
        if role == "assistant":
            known.update(key for key in _FINE_IF_EMPTY if not message.get(key))
        if self._training:
            known.add("train")
        fields.check_keys(message, known, where)
        train = message.get("train")
        if train is not None and (not isinstance(train, bool) or (train and role != "assistant")):
            raise MessageError(f"{where}.train is {train!r}; it can be true or false, and true only for the assistant")
        if role == "tool":
            self._result(message, where)
            return
        self.place_results()
        if role == "assistant":
            self._assistant(message, train if isinstance(train, bool) else None, where)
        elif role == "user":
            self.out.append(HarmonyMessage("user", _author("user", message, where), _required_text(message, where)))
        else:
            self.out.append(HarmonyMessage("developer", "developer", _required_text(message, where)))

    def _assistant(self, message: Mapping[str, object], train: bool | None, where: str) -> None:
        author = _author("assistant", message, where)
        content = _text(message.get("content"), f"{where}.content")
        calls = [
            self._call(call, author, train, f"{where}.tool_calls[{n}]")
            for n, call in enumerate(fields.items(message.get("tool_calls") or [], f"{where}.tool_calls"))
        ]
        channel = message.get("channel")
        if channel is None:
            channel = "commentary" if calls else "final"
        if channel not in ("analysis", "commentary", "final") or (calls and channel == "final"):
            allowed = "analysis or commentary" if calls else "analysis, commentary or final"
            raise MessageError(f"{where}.channel is {channel!r}, but must be {allowed}")
        reasoning = _reasoning(message, where)
        if content is None and reasoning is None and not calls:
            raise MessageError(f"{where} has neither content nor tool_calls nor reasoning")
        if reasoning is not None:
            self.out.append(HarmonyMessage("assistant", author, reasoning, channel="analysis", train=train))
        if content is not None and not (calls and content == ""):
            self.out.append(HarmonyMessage("assistant", author, content, channel=str(channel), train=train))
        self._calls = calls
        for call in calls:
            self._by_name[call.name].append(call)
            if call.id is not None and self._by_id.setdefault(call.id, call) is not call:
                raise MessageError(f"{where}.tool_calls has the id {call.id!r} twice")

    def _call(self, value: object, author: str, train: bool | None, where: str) -> _Call:
        call = fields.mapping(value, where)
        fields.check_keys(call, {"id", "type", "function", "index"}, where)
        if call.get("type", "function") != "function":
            raise MessageError(f"{where}.type is {call.get('type')!r}; only calls of type 'function' can be rendered")
        id_ = fields.optional_string(call, "id", where)
        function = fields.member(call, "function", where)
        where = f"{where}.function"
        fields.check_keys(function, {"name", "arguments"}, where)
        name = fields.identifier(function.get("name"), f"{where}.name")
        arguments = function.get("arguments", "")
        if not isinstance(arguments, str):
            arguments = fields.compact_json(fields.mapping(arguments, f"{where}.arguments"), f"{where}.arguments")
        if name not in self._functions and name.split(".")[0] in self._builtin_tools:
            header = (name, "analysis", "code")
        else:
            header = (f"functions.{name}", "commentary", "<|constrain|>json")
        return _Call(id_, name, HarmonyMessage("assistant", author, arguments, *header, train=train))

    def _result(self, message: Mapping[str, object], where: str) -> None:
        id_ = fields.optional_string(message, "tool_call_id", where)
        name = fields.optional_string(message, "name", where)
        if id_ is None and name is None:
            raise MessageError(f"{where} has neither tool_call_id nor name, so it cannot be matched to a call")
        call = self._by_id.get(id_) if id_ is not None else self._next_of(name)
        if call is None or call.result is not None:
            asked = f"tool_call_id {id_!r}" if id_ is not None else f"name {name!r}"
            raise MessageError(
                f"{where}: {asked} is no unanswered call of the assistant message before the tool results"
            )
        if name not in (None, call.name, call.message.recipient):
            raise MessageError(f"{where}.name is {name!r}, but tool_call_id {id_!r} is a call of {call.name!r}")
        call.result = _required_text(message, where)

    def _next_of(self, name: str | None) -> _Call | None:
        """The first unanswered call of that name."""
        calls = self._by_name[name]
        while calls and calls[0].result is not None:
            calls.popleft()
        return calls[0] if calls else None

    def place_results(self) -> None:
        """Write the waiting calls, each followed by its result. A call without one stays: chats can break off there."""
        for call in self._calls:
            made = call.message
            self.out.append(made)
            if call.result is not None and made.recipient is not None:
                result = HarmonyMessage("tool", made.recipient, call.result, "assistant", made.channel)
                self.out.append(result)
        self._calls.clear()
        self._by_id.clear()
        self._by_name.clear()


def _author(role: str, message: Mapping[str, object], where: str) -> str:
    return role if message.get("name") is None else f"{role}:{fields.identifier(message['name'], f'{where}.name')}"


def _reasoning(message: Mapping[str, object], where: str) -> str | None:
    found = {text for key in _REASONING if (text := fields.optional_string(message, key, where))}
    if len(found) > 1:
        raise MessageError(f"{where} has several different reasoning texts under {', '.join(_REASONING)}; give one")
    return found.pop() if found else None


def _required_text(message: Mapping[str, object], where: str) -> str:
    text = _text(message.get("content"), f"{where}.content")
    if text is None:
        raise MessageError(f"{where} has no `content`")
    return text


def _text(content: object, where: str) -> str | None:
    """A string, or text parts joined by a line break."""
    if content is None or isinstance(content, str):
        return content
    texts: list[str] = []
    for n, value in enumerate(fields.items(content, where)):
        part = fields.mapping(value, f"{where}[{n}]")
        if part.get("type") != "text":
            raise MessageError(f"{where}[{n}].type is {part.get('type')!r}; the model reads parts of type 'text' only")
        fields.check_keys(part, {"type", "text"}, f"{where}[{n}]")
        texts.append(fields.optional_string(part, "text", f"{where}[{n}]") or "")
    return "\n".join(texts)
