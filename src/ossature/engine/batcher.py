"""The engine without its queues and threads: one step at a time, from the plan to the sampled ids."""

from contextlib import suppress
from dataclasses import dataclass

import torch

from ossature.engine.forward import forward
from ossature.engine.prefix import PrefixCache
from ossature.engine.scheduler import Piece, Scheduler
from ossature.engine.sequence import FinishReason, Sequence
from ossature.errors import OssatureError
from ossature.model import KVCache, Transformer

__all__ = ["Batcher", "EngineStats"]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Where the engine stands, and what it has done since it was made.

    waiting, running      sequences now
    blocks, free_blocks   of the pool; a block that only a cached prefix holds is not free, and is given up when needed
    prefix_entries, prefix_bytes   kept now
    prefix_hit_tokens     positions that were taken from the prefix cache instead of computed
    computed_tokens       rows of all forward passes, rejected proposals included
    sampled_tokens        by all sequences; drafted_tokens: proposed by speculation; accepted_tokens: that came true
    """

    waiting: int
    running: int
    blocks: int
    free_blocks: int
    prefix_entries: int
    prefix_bytes: int
    prefix_hit_tokens: int
    preemptions: int
    steps: int
    computed_tokens: int
    sampled_tokens: int
    drafted_tokens: int
    accepted_tokens: int


class Batcher:
    """A model, its cache, and the sequences that share them. For one thread at a time.

    idle    True if the last step found nothing to compute
    intact  False after a step that raised and left nothing to rely on; an interruption while the model computes leaves
            everything as it was
    """

    def __init__(self, model: Transformer, cache: KVCache, prefixes: PrefixCache | None, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.idle = False
        self.intact = True
        self._model = model
        self._cache = cache
        self._prefixes = prefixes
        self._counts = dict.fromkeys(("steps", "computed", "sampled", "drafted", "accepted"), 0)

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, int]]:
        """Compute one forward pass; returns each id that was sampled."""
        self.intact = False
        pieces = self.scheduler.plan()
        self.idle = not pieces
        made: list[tuple[Sequence, int]] = []
        if pieces:
            try:
                logits = forward(self._model, self._cache, pieces)
            except BaseException as error:
                for piece in pieces:
                    self.scheduler.preempt(piece.sequence)
                self._blame(pieces, error)
            else:
                made = self._take(pieces, logits)
        self.intact = True
        return made

    def end_all(self, reason: FinishReason, error: BaseException | None = None) -> None:
        """End every sequence, also where a step has left nothing to rely on."""
        for sequence in [*self.scheduler.running, *self.scheduler.waiting]:
            with suppress(*([] if self.intact else [Exception])):
                self.scheduler.finish(sequence, reason, error)

    def clear_prefixes(self) -> None:
        """Forget every cached prefix; blocks that no sequence holds are free then."""
        while self._prefixes and self._prefixes.evict():
            pass

    def stats(self) -> EngineStats:
        """Counters, also while a step is being computed."""
        scheduler, prefixes, counts = self.scheduler, self._prefixes, self._counts
        return EngineStats(
            waiting=len(scheduler.waiting),
            running=len(scheduler.running),
            blocks=self._cache.blocks,
            free_blocks=self._cache.free_blocks,
            prefix_entries=prefixes.entries if prefixes else 0,
            prefix_bytes=prefixes.nbytes if prefixes else 0,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            preemptions=scheduler.preemptions,
            steps=counts["steps"],
            computed_tokens=counts["computed"],
            sampled_tokens=counts["sampled"],
            drafted_tokens=counts["drafted"],
            accepted_tokens=counts["accepted"],
        )

    def _take(self, pieces: list[Piece], logits: list[torch.Tensor]) -> list[tuple[Sequence, int]]:
        """Sample from the logits, and let go of those sequences that end."""
        made: list[tuple[Sequence, int]] = []
        self._counts["steps"] += 1
        for piece, rows in zip(pieces, logits, strict=True):
            sequence = piece.sequence
            self._counts["computed"] += len(piece.ids) + len(piece.draft)
            try:
                ids = self._sample(piece, rows)
            except OssatureError as error:
                self.scheduler.finish(sequence, "failed", error)
                continue
            made += [(sequence, token) for token in ids]
            self.scheduler.computed(piece)
            if sequence.complete:
                stopped = sequence.ids[-1] in sequence.params.stop_ids
                self.scheduler.finish(sequence, "stop" if stopped else "length")
            elif ids and sequence.notify:
                sequence.notify()
        self._counts["sampled"] += len(made)
        return made

    def _sample(self, piece: Piece, logits: torch.Tensor) -> list[int]:
        """Ids sampled from rows of logits, up to the first that was not proposed."""
        ids: list[int] = []
        for row, proposed in zip(logits, [*piece.draft, None][: len(logits)], strict=True):
            ids.append(piece.sequence.take(row))
            if piece.sequence.complete or ids[-1] != proposed:
                break
        if piece.draft:
            accepted = sum(token == proposed for token, proposed in zip(ids, piece.draft, strict=False))
            piece.sequence.drafter.learn(len(piece.draft), accepted, length=len(piece.sequence.ids))
            self._counts["drafted"] += len(piece.draft)
            self._counts["accepted"] += accepted
        return ids

    def _blame(self, pieces: list[Piece], error: BaseException) -> None:
        """Find out who made a pass fail: edits are code of the caller, and must not end the sequences of others.

        Raises the error if it is an interruption, or if no edit can be the reason.
        """
        self.intact = not isinstance(error, Exception)
        edited = [piece.sequence for piece in pieces if piece.sequence.edits]
        if self.intact or not edited:
            raise error
        if len(pieces) == 1:
            self.scheduler.finish(edited[0], "failed", error)
            return
        for sequence in edited:
            sequence.suspect = True
