"""What a training sample is: a conversation, the truth about its last answer, and which half of the split it is in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Effort = Literal["low", "medium", "high"]
Split = Literal["train", "heldout"]
Message = dict[str, Any]

EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
HELD_OUT_SHARE = 12
"""One problem in this many is held out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a right final answer says.

    `number`: the last integer of the text is `value`. `numbers`: its integers are `value`'s, in order. `text`: the text
    contains `value` as a whole word and none of `forbidden`. `exact`: it equals `value` but for a full stop.
    """

    kind: Literal["number", "numbers", "text", "exact"]
    value: str
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A function call with its arguments and the text that the function returns."""

    name: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Step:
    """One assistant message: reasoning, then either a final text or a call."""

    thinking: str
    final: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and everything the assistant says to it. `task` is `family/kind`, as in `arithmetic/add2`.

    `key` names the problem for the held-out split; an empty one is in both halves (a greeting has no operands).
    """

    task: str
    key: str
    user: str
    steps: tuple[Step, ...]
    answer: Answer
    system: str | None = None
    before: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One sample: OpenAI chat messages (assistant ones with `thinking`), the options to render it, and the truth."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    reasoning_effort: Effort
    current_date: str | None
    task: str
    kind: str
    answer: Answer


def answered(task: str, key: str, user: str, thinking: str, final: str, answer: Answer) -> Exchange:
    """The exchange without tools: one question, one reasoning, one answer."""
    return Exchange(task, key, user, (Step(thinking, final),), answer)


def split_of(key: str) -> Split:
    """Which half a problem belongs to, from its own text alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return "heldout" if int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0 else "train"


def phrasings(text: str) -> tuple[str, ...]:
    """The templates of a text that separates them by bars, so that a list of them reads like prose."""
    return tuple(part for part in (part.strip() for part in text.split("|")) if part)


def phrase(rng: random.Random, templates: Sequence[str], /, **slots: object) -> str:
    """One of the templates, filled in, with the small liberties people take: no capital, no mark at the end, please."""
    text = rng.choice(templates)
    liberty = rng.random()
    capital, sentence = text[0].isalpha(), text[-1] in ".?" and (text[-2].isalpha() or text[-2] == "}")
    lowered = text[0].lower() + text[1:]
    if liberty < 0.10 and capital:
        text = lowered
    elif liberty < 0.18 and sentence:
        text = text[:-1]
    elif liberty < 0.22 and sentence and "lease" not in text:
        text = f"{text[:-1]}, please{text[-1]}"
    elif liberty < 0.26 and sentence and capital and "lease" not in text:
        text = f"Please tell me: {lowered}" if text[-1] == "?" else f"Please {lowered}"
    elif liberty < 0.28:
        text = rng.choice(("Hi! ", "Hello. ", "Hey! ", "Question: ")) + text
    return text.format(**slots)


def said(steps: Sequence[Step]) -> list[Message]:
    """The steps of the assistant as chat messages, with the tool messages between them."""
    messages: list[Message] = []
    for number, step in enumerate(steps, 1):
        if step.call is None:
            messages.append({"role": "assistant", "thinking": step.thinking, "content": step.final})
            continue
        function = {"name": step.call.name, "arguments": json.dumps(step.call.arguments, ensure_ascii=False)}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "thinking": step.thinking, "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": step.call.result})
    return messages
