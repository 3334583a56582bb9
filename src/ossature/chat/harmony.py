"""Conversations to token ids in the harmony format, the only format gpt-oss understands.

`<|start|>{author}[ to={recipient}][<|channel|>{channel}][ {content type}]<|message|>{content}<|end|>`: control tokens
are placed by id, everything else is encoded as plain text. Source: openai/harmony; the deliberate differences are
listed in docs/harmony.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Unpack

from ossature.chat.messages import HarmonyMessage, read_messages
from ossature.chat.prompt import Options, Setting, developer_text, read_setting, system_text
from ossature.chat.tokenizer import Tokenizer

__all__ = ["Rendered", "render", "render_training"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A training example: `trained[i]` says whether the model itself would have sampled `ids[i]`."""

    ids: list[int]
    trained: list[bool]


def render(
    messages: Sequence[Mapping[str, object]],
    *,
    tokenizer: Tokenizer,
    **options: Unpack[Options],
) -> list[int]:
    """The prompt for OpenAI chat `messages`; ends with <|start|>assistant, ready for sampling.

    options  tools, builtin_tools, reasoning_effort, current_date, knowledge_cutoff, model_identity, response_format:
             see `ossature.chat.prompt.Options`

    Reasoning before the last `final` message is left out: those turns are over.
    Raises MessageError: something that has no rendering; ConfigError: a tokenizer without harmony's control tokens.
    """
    setting = read_setting(**options)
    conversation = _conversation(messages, setting, training=False)
    over = _finished(conversation)
    writer = _Writer(tokenizer)
    for n, message in enumerate(conversation):
        if n > over or message.channel != "analysis":
            writer.write(message)
    writer.open_assistant()
    return writer.ids


def render_training(
    messages: Sequence[Mapping[str, object]],
    *,
    tokenizer: Tokenizer,
    turns: Literal["last", "all"] = "last",
    **options: Unpack[Options],
) -> Rendered:
    """A conversation to learn from: what `render` gives, without the open end, and the mask of what is learnt.

    Learnt is what the model samples in the last turn (after the last user message): all that follows the
    <|start|>assistant of the prompt, with the <|start|>assistant of further messages of the same sampling run; tool
    results never. An assistant message's own `"train": true | false` overrules that. Reasoning of earlier turns is left
    out, as in a prompt, unless it is learnt itself. A learnt `final` message ends with <|return|>, and so does one that
    ends the conversation.

    turns    "last", or "all": every assistant message is learnt, in a context that keeps all reasoning (no prompt does)
    options  as for `render`, and so are the errors
    """
    setting = read_setting(**options)
    conversation = _conversation(messages, setting, training=True)
    users = [n for n, message in enumerate(conversation) if message.role == "user"]
    last_turn = users[-1] + 1 if users and turns == "last" else 0
    over = _finished(conversation[:last_turn])
    writer = _Writer(tokenizer)
    sampling = False  # whether the message before was sampled and did not end the sampling
    for n, message in enumerate(conversation):
        learnt = message.role == "assistant" and (n >= last_turn if message.train is None else message.train)
        if n <= over and message.channel == "analysis" and not learnt:
            continue
        is_final = message.role == "assistant" and message.channel == "final"
        done = is_final and (learnt or n == len(conversation) - 1)
        writer.write(message, learnt=learnt, opened_by_model=sampling, done=done)
        sampling = learnt and not done and message.recipient is None
    return Rendered(writer.ids, writer.trained)


def _conversation(
    messages: Sequence[Mapping[str, object]], setting: Setting, *, training: bool
) -> list[HarmonyMessage]:
    """The system message, one developer message of all instructions that open the chat, and the rest in order."""
    functions = {tool.name for tool in setting.tools}
    read = read_messages(messages, functions=functions, builtin_tools=setting.builtin_tools, training=training)
    opening = list(takewhile(lambda message: message.role == "developer", read))
    instructions = [message.content for message in opening if message.content]
    out = [HarmonyMessage("system", "system", system_text(setting))]
    if (text := developer_text(instructions, setting)) is not None:
        out.append(HarmonyMessage("developer", "developer", text))
    for message in read[len(opening) :]:
        if message.role != "developer":
            out.append(message)
        elif message.content:
            out.append(HarmonyMessage("developer", "developer", f"# Instructions\n\n{message.content}"))
    return out


def _finished(conversation: Sequence[HarmonyMessage]) -> int:
    """Index of the last `final` message: the turns up to there are over. -1 if there is none."""
    finals = (n for n in reversed(range(len(conversation))) if conversation[n].channel == "final")
    return next(finals, -1)


class _Writer:
    """The ids written so far, and which of them a model would have sampled."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids: list[int] = []
        self.trained: list[bool] = []
        self._encode = tokenizer.encode
        self._control = tokenizer.control

    def open_assistant(self) -> None:
        self._add([self._control.start, *self._encode("assistant")], learnt=False)

    def write(
        self, message: HarmonyMessage, *, learnt: bool = False, opened_by_model: bool = False, done: bool = False
    ) -> None:
        """Add one message. Text is encoded piece by piece, as openai-harmony does: ids at the seams depend on it."""
        control, encode = self._control, self._encode
        role = "assistant" if message.role == "assistant" else message.author
        self._add([control.start, *encode(role)], learnt=learnt and opened_by_model)
        body = encode(message.author[len(role) :])
        if message.recipient is not None:
            body += encode(f" to={message.recipient}")
        if message.channel is not None:
            body += [control.channel, *encode(message.channel)]
        if message.content_type is not None and message.content_type.startswith("<|constrain|>"):
            body += [*encode(" "), control.constrain, *encode(message.content_type.removeprefix("<|constrain|>"))]
        elif message.content_type is not None:
            body += encode(f" {message.content_type}")
        body += [control.message, *encode(message.content)]
        is_call = message.role == "assistant" and message.recipient is not None
        body.append(control.return_ if done else control.call if is_call else control.end)
        self._add(body, learnt=learnt)

    def _add(self, ids: list[int], *, learnt: bool) -> None:
        self.ids += ids
        self.trained += [learnt] * len(ids)
