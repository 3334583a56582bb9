"""The endless corpus of `mini`: `generate(seed, index)` is one conversation, the same on every machine.

`python -m recipes.mini.show` prints samples, token lengths and the share of every task.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from recipes.mini.conversation import EFFORTS, Conversation, Effort, Exchange, Message, Split, said, split_of
from recipes.mini.tasks.arithmetic import arithmetic
from recipes.mini.tasks.induction import induction
from recipes.mini.tasks.instructions import IDLE, obeyed
from recipes.mini.tasks.letters import letters
from recipes.mini.tasks.order import order
from recipes.mini.tasks.recall import recall, telling
from recipes.mini.tasks.table import table
from recipes.mini.tasks.talk import outside, talk
from recipes.mini.tasks.tools import other_tools, tools

Stage = Literal["A", "B", "C", "D"]
TASKS = ("arithmetic", "order", "letters", "recall", "induction", "table", "tools", "talk", "outside", "instructions")
_CLOSED = ("talk", "table")
"""Tasks without operands to hold out; of the table, phrasings are held out."""
_MIXTURES: dict[Stage, dict[str, float]] = {
    "A": {"recall": 0.28, "induction": 0.34, "arithmetic": 0.17, "letters": 0.11, "order": 0.03, "table": 0.02,
          "tools": 0.02, "talk": 0.02, "outside": 0.01},
    "B": {"recall": 0.28, "induction": 0.10, "arithmetic": 0.21, "letters": 0.12, "order": 0.06, "table": 0.05,
          "tools": 0.11, "talk": 0.02, "outside": 0.03, "instructions": 0.02},
    "C": {"recall": 0.26, "induction": 0.05, "arithmetic": 0.23, "letters": 0.12, "order": 0.06, "table": 0.05,
          "tools": 0.15, "talk": 0.02, "outside": 0.03, "instructions": 0.03},
    "D": {"recall": 0.36, "induction": 0.02, "arithmetic": 0.12, "letters": 0.08, "order": 0.18, "table": 0.04,
          "tools": 0.13, "talk": 0.02, "outside": 0.03, "instructions": 0.02},
}  # fmt: skip
_DIGITS: dict[Stage, int] = {"A": 1, "B": 2, "C": 3, "D": 3}
_FACTS: dict[Stage, int] = {"A": 3, "B": 4, "C": 6, "D": 6}
_LETTERS: dict[Stage, int] = {"A": 6, "B": 8, "C": 10, "D": 10}
_TOOLS: dict[Stage, int] = {"A": 1, "B": 2, "C": 3, "D": 3}
_UNSUITED: dict[str, tuple[str, ...]] = {
    "arithmetic": ("sum",),
    "order": ("sum",),
    "instructions": ("sum",),
    "letters": ("translate",),
    "recall": ("price", "search", "phone", "time", "weather"),
    "induction": ("search", "translate"),
    "table": ("translate", "search"),
    "outside": ("sum", "weather", "translate", "search", "time", "phone", "price"),
}
"""Families of tools that might be taken to answer a question of a task that is to be answered without one."""


def mixture(stage: Stage) -> dict[str, float]:
    """The share of each task: A format and copying, B all up to two digits, C all, D most of what is slow to learn."""
    return dict(_MIXTURES[stage])


def generate(
    seed: int,
    index: int,
    *,
    split: Split = "train",
    stage: Stage = "C",
    weights: Mapping[str, float] | None = None,
    effort: Effort | None = None,
) -> Conversation:
    """Sample number `index` of the stream `seed`.

    `weights` replaces the stage's mixture (`{"recall": 1}` draws only recall), `effort` fixes the reasoning effort.
    In the held-out half every problem (operands, words, facts, phrasing of the table) is one that no training sample
    has, but for small talk, where there is nothing to hold out.
    """
    rng = random.Random(f"{seed}/{split}/{stage}/{index}")
    shares = weights or _MIXTURES[stage]
    task = rng.choices(tuple(shares), tuple(shares.values()))[0]
    chosen: Effort = effort or rng.choice(EFFORTS)
    exchange = draw(rng, task, chosen, stage, split)
    tools_offered = exchange.tools
    if task != "tools" and stage != "A" and rng.random() < 0.05:
        tools_offered = _unneeded(rng, task)
    system = exchange.system
    if system is None and task != "instructions" and rng.random() < 0.10:
        system = rng.choice(IDLE)
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    messages += _earlier(rng, exchange, stage, split)
    messages += exchange.before
    messages.append({"role": "user", "content": exchange.user})
    messages += said(exchange.steps)
    date = (
        f"{rng.randint(2024, 2027)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}" if rng.random() < 0.2 else None
    )
    family, _, kind = exchange.task.partition("/")
    return Conversation(tuple(messages), tools_offered, chosen, date, family, kind, exchange.answer)


def draw(rng: random.Random, task: str, effort: Effort, stage: Stage, split: Split) -> Exchange:
    """Exchanges of a task until one is in the wanted half."""
    while True:
        exchange = _make(rng, task, effort, stage, split)
        if exchange.key and split_of(exchange.key) == split:
            return exchange
        if not exchange.key and (split == "train" or task in _CLOSED):
            return exchange


def _make(rng: random.Random, task: str, effort: Effort, stage: Stage, split: Split) -> Exchange:
    digits = max(_DIGITS[stage], 2) if split == "heldout" else _DIGITS[stage]
    if task == "arithmetic":
        return arithmetic(rng, effort, digits)
    if task == "order":
        return order(rng, effort, digits)
    if task == "letters":
        return letters(rng, effort, _LETTERS[stage])
    if task == "recall":
        few = telling if rng.random() < 0.06 else recall
        return few(rng, effort, _FACTS[stage])
    if task == "induction":
        return induction(rng, effort, _FACTS[stage])
    if task == "table":
        return table(rng, effort, split)
    if task == "tools":
        return tools(rng, effort, _TOOLS[stage])
    if task == "talk":
        return talk(rng, effort)
    if task == "outside":
        return outside(rng, effort)
    if task == "instructions":
        base = rng.choice(("arithmetic", "recall", "order"))
        while (exchange := _make(rng, base, effort, stage, split)).system is not None:
            pass
        return obeyed(rng, exchange)
    raise ValueError(f"no task {task!r}; the tasks are {', '.join(TASKS)}")


def _earlier(rng: random.Random, exchange: Exchange, stage: Stage, split: Split) -> list[Message]:
    """Earlier turns on other subjects: one in about a tenth of the samples, a long chat in one of seventy."""
    chance = rng.random()
    turns = 0
    if stage != "A" and chance < 0.11:
        turns = 1 if chance > 0.014 else rng.randint(2, 3) if exchange.tools else rng.randint(3, 6)
    subjects = ["letters", "talk", "order", "table"]
    if exchange.task.startswith(("arithmetic", "order", "letters", "talk", "table")):
        subjects += ["recall", "recall"]
    if not exchange.tools:
        subjects += ["arithmetic", "arithmetic"]
    messages: list[Message] = []
    for _ in range(turns):
        while (past := draw(rng, rng.choice(subjects), "low", stage, split)).system is not None:
            pass
        messages += past.before
        messages.append({"role": "user", "content": past.user})
        messages += said(past.steps)
    return messages


def _unneeded(rng: random.Random, task: str) -> tuple[dict[str, Any], ...]:
    """One or two tools that the question does not need."""
    return tuple(other_tools(rng, _UNSUITED.get(task, ()), rng.randint(1, 2)))
