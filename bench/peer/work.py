"""The work that every side does, and how it is timed: the same calls for ours and for theirs."""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

__all__ = ["DECODE_B1", "DECODE_B8", "FIGURES", "PREFILL", "Side", "Work", "measure"]

DECODE_B1, DECODE_B8, PREFILL = "decode_b1", "decode_b8", "prefill_512"
FIGURES = (PREFILL, DECODE_B1, DECODE_B8)  # prefill first: it touches every expert, so that decoding finds all pages


class Side(Protocol):
    """A loaded model."""

    vocab_size: int

    def begin(self, sequences: int) -> None:
        """Empty the cache, which then holds so many sequences. Not timed."""
        ...

    def feed(self, ids: Sequence[Sequence[int]]) -> None:
        """Compute the next ids of every sequence and the logits of each one's last."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What one sample computes, with token ids drawn from `seed`.

    steps    timed steps of decoding one sequence
    steps_8  the same for a batch of 8
    prompt   ids of each sequence before the first step
    prefill  ids of the timed prompt
    warm_up  ids computed before anything is timed
    """

    seed: int = 0
    figures: tuple[str, ...] = FIGURES
    steps: int = 24
    steps_8: int = 8
    prompt: int = 16
    prefill: int = 512
    warm_up: int = 64

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """From what `to_dict` gave, by way of JSON."""
        options: dict[str, Any] = raw | {"figures": tuple(raw["figures"])}
        return cls(**options)


def measure(side: Side, work: Work) -> dict[str, float]:
    """Tokens a second of each figure; of a batch, of all its sequences together."""
    rng = random.Random(work.seed)

    def draw(sequences: int, count: int) -> list[list[int]]:
        return [[rng.randrange(side.vocab_size) for _ in range(count)] for _ in range(sequences)]

    def decode(sequences: int, steps: int) -> float:
        side.begin(sequences)
        side.feed(draw(sequences, work.prompt))
        for _ in range(2):
            side.feed(draw(sequences, 1))
        drawn = [draw(sequences, 1) for _ in range(steps)]
        started = time.perf_counter()
        for ids in drawn:
            side.feed(ids)
        return sequences * steps / (time.perf_counter() - started)

    def prefill() -> float:
        ids = draw(1, work.prefill)
        side.begin(1)
        started = time.perf_counter()
        side.feed(ids)
        return work.prefill / (time.perf_counter() - started)

    side.begin(1)
    side.feed(draw(1, work.warm_up))
    timed = {PREFILL: prefill, DECODE_B1: lambda: decode(1, work.steps), DECODE_B8: lambda: decode(8, work.steps_8)}
    return {figure: timed[figure]() for figure in FIGURES if figure in work.figures}
