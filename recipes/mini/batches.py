"""Conversations become batches: rendered, grouped by length, about equal in tokens."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ossature.chat import Tokenizer, render_training
from recipes.mini.conversation import Conversation
from recipes.mini.generate import Stage as Curriculum
from recipes.mini.generate import generate

__all__ = ["Row", "Stage", "batches", "render_row"]

_POOL = 512  # conversations sorted by length together


@dataclass(frozen=True, slots=True)
class Row:
    """One rendered conversation; `trained[i]` says whether ids[i] is the model's own to learn."""

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the curriculum: which mixture of tasks, up to which share of all batches (exclusive)."""

    name: Curriculum
    until: float


def render_row(conversation: Conversation, tokenizer: Tokenizer) -> Row:
    """A conversation as ids, with the marks of what is learned from it."""
    rendered = render_training(
        conversation.messages,
        tokenizer=tokenizer,
        tools=conversation.tools,
        reasoning_effort=conversation.reasoning_effort,
        current_date=conversation.current_date,
    )
    return Row(rendered.ids, rendered.trained)


def batches(
    tokenizer: Tokenizer,
    *,
    seed: int,
    tokens: int,
    count: int,
    stages: tuple[Stage, ...],
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Curriculum, list[Row]]]:
    """`count` batches of about `tokens` tokens, each with the name of its stage. The same seed gives the same ones.

    share   (rank, of how many): this worker's part of the conversations, all different
    """
    rank, workers = share
    shuffle = random.Random(f"{seed}/{rank}")
    index = itertools.count(rank, workers)
    made = 0
    while made < count:
        stage: Curriculum = next(stage.name for stage in stages if made < stage.until * count)
        pool = [render_row(generate(seed, next(index), stage=stage), tokenizer) for _ in range(_POOL)]
        groups = _grouped(pool, tokens)[: count - made]
        shuffle.shuffle(groups)
        for group in groups:
            yield stage, group
        made += len(groups)


def _grouped(pool: list[Row], tokens: int) -> list[list[Row]]:
    """Rows of similar length together: a batch is computed as a rectangle."""
    groups: list[list[Row]] = [[]]
    size = 0
    for row in sorted(pool, key=lambda row: len(row.ids)):
        if groups[-1] and size + len(row.ids) > tokens:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row.ids)
    return groups
