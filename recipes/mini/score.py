"""Right or wrong: what the model said against what a conversation knows to be true, and tables of it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.mini.conversation import EFFORTS, Answer, Conversation, Message

__all__ = ["Question", "Verdict", "is_right", "judge", "questions", "table"]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of a conversation and the assistant message that answers it.

    A conversation whose last turn calls a function has two: the request, and the request with the call and its result.
    """

    messages: tuple[Message, ...]
    expected: Message


@dataclass(frozen=True, slots=True)
class Verdict:
    """`valid`: the answer has the form it should have. `right`: it is also true. `reason`: what is wrong, or empty."""

    valid: bool
    right: bool
    reason: str


def questions(conversation: Conversation) -> list[Question]:
    """The prompts of the last turn, in order."""
    messages = conversation.messages
    last_user = max(place for place, message in enumerate(messages) if message["role"] == "user")
    return [
        Question(messages[:place], message)
        for place, message in enumerate(messages)
        if place > last_user and message["role"] == "assistant"
    ]


def judge(
    conversation: Conversation,
    question: Question,
    *,
    analysis: str | None,
    final: str | None,
    tool_calls: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """The model's reply to one question of `questions(conversation)`. `tool_calls` are OpenAI tool calls.

    Valid: reasoning, then either a final text or one call of an offered function whose arguments are a JSON object.
    """
    if not analysis:
        return Verdict(False, False, "no reasoning")
    if tool_calls:
        return _judge_call(conversation, question, tool_calls, final)
    if not final:
        return Verdict(False, False, "no answer")
    if "tool_calls" in question.expected:
        return Verdict(True, False, f"answered {final!r} where a call was needed")
    if is_right(conversation.answer, final):
        return Verdict(True, True, "")
    return Verdict(True, False, f"{final!r} for {conversation.answer.value!r}")


def _judge_call(
    conversation: Conversation, question: Question, tool_calls: Sequence[Mapping[str, Any]], final: str | None
) -> Verdict:
    if len(tool_calls) > 1 or final:
        return Verdict(False, False, "more than one call, or a call and an answer")
    name, text = tool_calls[0]["function"]["name"], tool_calls[0]["function"]["arguments"]
    if name not in {tool["function"]["name"] for tool in conversation.tools}:
        return Verdict(False, False, f"{name} was not offered")
    try:
        arguments = json.loads(text)
    except ValueError:
        return Verdict(False, False, f"arguments are no JSON: {text}")
    if not isinstance(arguments, dict):
        return Verdict(False, False, f"arguments are no object: {text}")
    if "tool_calls" not in question.expected:
        return Verdict(True, False, f"called {name} where an answer was needed")
    wanted = question.expected["tool_calls"][0]["function"]
    if name == wanted["name"] and _same(arguments, json.loads(wanted["arguments"])):
        return Verdict(True, True, "")
    return Verdict(True, False, f"{name}({text}) for {wanted['name']}({wanted['arguments']})")


def _same(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Equal values of equal types, in any order: 3 is not "3", nor true 1."""
    return given == wanted and all(type(given[key]) is type(wanted[key]) for key in wanted)


def is_right(answer: Answer, final: str) -> bool:
    """Whether a final text says what it should (see `Answer`)."""
    numbers = re.findall(r"(?<![\w-])-?\d+", final)
    if answer.kind == "number":
        return bool(numbers) and numbers[-1] == answer.value
    if answer.kind == "numbers":
        return numbers == re.findall(r"-?\d+", answer.value)
    if answer.kind == "exact":
        return final.strip().removesuffix(".") == answer.value.removesuffix(".")
    return _says(final, answer.value) and not any(_says(final, other) for other in answer.forbidden)


def _says(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def table(verdicts: Iterable[tuple[Conversation, Verdict]]) -> str:
    """Percentages as a Markdown table: for each task and kind right answers per effort, valid ones, and the count."""
    groups: dict[str, list[tuple[str, Verdict]]] = defaultdict(list)
    for conversation, verdict in verdicts:
        for name in (conversation.task, f"{conversation.task}/{conversation.kind}", "~all"):
            groups[name].append((conversation.reasoning_effort, verdict))
    lines = [f"| task | {' | '.join(EFFORTS)} | format valid | answers |", "|---|" + "---:|" * (len(EFFORTS) + 2)]
    for name, found in sorted(groups.items()):
        cells = [_percent([verdict.right for effort, verdict in found if effort == wanted]) for wanted in EFFORTS]
        cells += [_percent([verdict.valid for _, verdict in found]), str(len(found))]
        lines.append(f"| {name.removeprefix('~')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(found: Sequence[bool]) -> str:
    return f"{sum(found) / len(found):.1%}" if found else "–"
