"""Conversations become batches: rendered in a process of their own, grouped by length, about equal in tokens."""

import itertools
import queue
import random
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ossature.chat import Tokenizer, load_tokenizer, render_training

from .conversation import Conversation
from .generate import generate

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

    name: str
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
    tokenizer: Path, *, seed: int, tokens: int, count: int, stages: tuple[Stage, ...]
) -> Iterator[tuple[str, list[Row]]]:
    """`count` batches of about `tokens` tokens, each with the name of its stage. The same seed gives the same ones."""
    context = get_context("spawn")
    channel = context.Queue(maxsize=64)
    producer = context.Process(target=_produce, args=(channel, tokenizer, seed, tokens, count, stages), daemon=True)
    producer.start()
    for _ in range(count):
        while True:
            try:
                yield channel.get(timeout=5)
                break
            except queue.Empty:
                if not producer.is_alive():
                    message = f"the data process ended with exit code {producer.exitcode}"
                    raise RuntimeError(message) from None
    producer.join()


def _produce(channel: Any, directory: Path, seed: int, tokens: int, count: int, stages: tuple[Stage, ...]) -> None:
    tokenizer = load_tokenizer(directory)
    shuffle = random.Random(seed)
    index = itertools.count()
    made = 0
    while made < count:
        stage = next(stage.name for stage in stages if made < stage.until * count)
        pool = [render_row(generate(seed, next(index), stage=stage), tokenizer) for _ in range(_POOL)]
        groups = _grouped(pool, tokens)
        shuffle.shuffle(groups)
        for group in groups[: count - made]:
            channel.put((stage, group))
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
