"""Held-out accuracy of a checkpoint: `python -m recipes.mini.evaluate -m DIR --json FILE`.

Every held-out conversation is rendered up to the last question, answered by greedy decoding in batches with the
defaults of `ossature.load`, and judged by `score.py`. No problem of these conversations is in the training stream.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ossature
from ossature import engine
from ossature.chat import Parser, render
from ossature.engine import SamplingParams
from ossature.session import Reply, ReplyStream, Session
from recipes.mini.conversation import EFFORTS, Conversation, Effort
from recipes.mini.generate import generate
from recipes.mini.score import Question, judge, questions

__all__ = ["SUITES", "Suite", "main", "measure", "table"]

_TOGETHER = 96  # prompts decoded in one batch
_LONGEST = 512  # new tokens
_SEED = 11


@dataclass(frozen=True, slots=True)
class Suite:
    """One row of the report: conversations of a task, of the named kinds only where kinds are named."""

    name: str
    task: str
    kinds: tuple[str, ...] = ()


SUITES = (
    Suite("addition, 2 digits", "arithmetic", ("add2",)),
    Suite("addition, 3 digits", "arithmetic", ("add3",)),
    Suite("subtraction, 2 digits", "arithmetic", ("sub2",)),
    Suite("subtraction, 3 digits", "arithmetic", ("sub3",)),
    Suite("compare, largest, smallest", "order", ("compare", "extreme")),
    Suite("sort", "order", ("sort",)),
    Suite("copy, spell", "letters", ("copy", "spell")),
    Suite("reverse", "letters", ("reverse",)),
    Suite("count letters", "letters", ("length", "count")),
    Suite("recall from the prompt", "recall", ("forward", "me")),
    Suite("recall asked backwards", "recall", ("backward",)),
    Suite("table of invented facts", "table"),
    Suite("tool calls", "tools"),
    Suite("who are you, small talk", "talk"),
    Suite("outside what it knows", "outside"),
    Suite("instructions", "instructions"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a suite came to at one effort; shares are of conversations, tokens the mean of an answer."""

    suite: str
    effort: Effort
    conversations: int
    right: float
    valid: float
    tokens: float


def main() -> None:
    """Read the options, evaluate, print a Markdown table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="mini", help="a checkpoint directory; default: the embedded model")
    parser.add_argument("--count", type=int, default=200, help="conversations a suite and effort")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    began = time.monotonic()
    rows = [asdict(row) for row in measure(ossature.load(options.model), options.count)]
    conversations = sum(row["conversations"] for row in rows)
    print(table(rows))
    print(f"\n{conversations} conversations in {time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"conversations": conversations, "rows": rows}, indent=1) + "\n")


def measure(
    session: Session, count: int, *, suites: Sequence[Suite] = SUITES, efforts: Sequence[Effort] = EFFORTS
) -> list[Row]:
    """Each suite at each effort, on the first `count` held-out conversations of its stream."""
    return [_row(session, suite, effort, count) for suite in suites for effort in efforts]


def _row(session: Session, suite: Suite, effort: Effort, count: int) -> Row:
    conversations = list(itertools.islice(_conversations(suite, effort), count))
    asked = [(number, question) for number, c in enumerate(conversations) for question in questions(c)]
    asked.sort(key=lambda pair: len(str(pair[1].messages)))
    right, valid, tokens = [True] * count, [True] * count, 0
    for start in range(0, len(asked), _TOGETHER):
        group = asked[start : start + _TOGETHER]
        replies = _answers(session, [(conversations[number], question) for number, question in group])
        for (number, question), reply in zip(group, replies, strict=True):
            verdict = judge(
                conversations[number], question, analysis=reply.analysis, final=reply.final, tool_calls=reply.tool_calls
            )
            valid[number] &= verdict.valid and not reply.malformed and reply.finish_reason != "length"
            right[number] &= verdict.right
            tokens += reply.usage.completion_tokens
    return Row(suite.name, effort, count, sum(right) / count, sum(valid) / count, round(tokens / len(asked), 1))


def _conversations(suite: Suite, effort: Effort) -> Iterator[Conversation]:
    seen = 0
    for index in itertools.count():
        if index > 100_000 and not seen:
            raise ValueError(f"no held-out conversation belongs to {suite.name!r}: {suite.task} has no such kind")
        conversation = generate(_SEED, index, split="heldout", weights={suite.task: 1.0}, effort=effort)
        if not suite.kinds or conversation.kind in suite.kinds:
            seen += 1
            yield conversation


def _answers(session: Session, asked: list[tuple[Conversation, Question]]) -> list[Reply]:
    """Greedy answers to several prompts, decoded together."""
    prompts = [
        render(
            question.messages,
            tokenizer=session.tokenizer,
            tools=conversation.tools,
            reasoning_effort=conversation.reasoning_effort,
            current_date=conversation.current_date,
        )
        for conversation, question in asked
    ]
    params = SamplingParams(temperature=0.0, max_new_tokens=_LONGEST, stop_ids=session.stop_ids)
    answers: list[list[int]] = [[] for _ in prompts]
    for number, token in engine.generate(session.model, prompts, params):
        answers[number].append(token)
    return [_reply(session, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def _reply(session: Session, prompt: list[int], answer: list[int]) -> Reply:
    parser = Parser(session.tokenizer)
    return ReplyStream(iter(answer), parser, prompt=prompt, stop_ids=session.stop_ids).finish()


def table(rows: list[dict[str, Any]]) -> str:
    """Right answers by effort, tokens of an answer by effort, and format valid over all efforts, as Markdown."""
    lines = [
        f"| held out | {' | '.join(EFFORTS)} | tokens an answer | format valid |",
        "|---|" + "---:|" * (len(EFFORTS) + 2),
    ]
    for suite in SUITES:
        mine = {row["effort"]: row for row in rows if row["suite"] == suite.name}
        cells = [f"{mine[effort]['right']:.1%}" for effort in EFFORTS]
        cells.append(" / ".join(f"{mine[effort]['tokens']:.0f}" for effort in EFFORTS))
        cells.append(f"{sum(row['valid'] for row in mine.values()) / len(mine):.2%}")
        lines.append(f"| {suite.name} | {' | '.join(cells)} |")
    means = [f"{sum(row['right'] for row in rows if row['effort'] == e) / len(SUITES):.1%}" for e in EFFORTS]
    valid = sum(row["valid"] for row in rows) / len(rows)
    return "\n".join([*lines, f"| mean of the rows | {' | '.join(means)} | | {valid:.2%} |"])


if __name__ == "__main__":
    main()
