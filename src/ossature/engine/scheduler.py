"""Who computes what in the next forward pass, and who makes room for whom.

Every sequence that decodes takes part in every step; then prompts are computed, at most `chunk` rows of them a step, so
that a long prompt delays the others by a bounded time. Who came first has the claim: where the pool is full, cached
prefixes go first, then the youngest sequences give their blocks back and are computed again later, ids and draws
unchanged. Each sequence alone fits the pool, so the oldest always moves on.
"""

from bisect import insort
from dataclasses import dataclass

from ossature.engine.prefix import PrefixCache
from ossature.engine.sequence import FinishReason, Sequence
from ossature.engine.speculation import MOST
from ossature.model import KVCache

__all__ = ["Piece", "Scheduler"]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows of one sequence in one step.

    start    position of the first row
    ids      known ids, from `start`
    draft    proposed ids behind them, to be verified
    samples  True if `ids` are the last known ones: then they and the draft get logits
    """

    sequence: Sequence
    start: int
    ids: list[int]
    draft: list[int]
    samples: bool


class Scheduler:
    """The sequences that wait and those that run, both by age, and the cache that they share.

    read_ahead  a sequence with so many unread ids pauses until somebody reads them; None: none ever does
    """

    def __init__(
        self, cache: KVCache, prefixes: PrefixCache | None, *, chunk: int, read_ahead: int | None, speculation: bool
    ) -> None:
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prefix_hit_tokens = 0
        self._cache = cache
        self._prefixes = prefixes
        self._chunk = chunk
        self._read_ahead = read_ahead
        self._speculation = speculation

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence, or one that was preempted, wait for its turn."""
        sequence.state = "waiting"
        insort(self.waiting, sequence, key=_age)

    def plan(self) -> list[Piece]:
        """The next step, its rows reserved in the cache. Empty if nobody can use one."""
        suspect = next((s for s in (*self.running, *self.waiting) if s.suspect and not self._paused(s)), None)
        if suspect:
            return self._alone(suspect)
        pieces: dict[Sequence, Piece] = {}
        self._plan_decodes(pieces)
        self._plan_prompts(pieces)
        assert pieces or not any(not self._paused(s) for s in (*self.running, *self.waiting)), "nobody moves on"
        return list(pieces.values())

    def preempt(self, sequence: Sequence) -> None:
        """Take slot and blocks from a running sequence; it waits, and computes all its ids again later."""
        self._leave(sequence)
        self.add(sequence)
        self.preemptions += 1

    def finish(self, sequence: Sequence, reason: FinishReason, error: BaseException | None = None) -> None:
        """End a sequence that waits or runs, and give back all that it holds."""
        try:
            if sequence.state == "running":
                if reason in ("stop", "length"):
                    self._remember(sequence, sequence.computed)  # what a next turn of the conversation begins with
                self._leave(sequence)
            else:
                self.waiting.remove(sequence)
        finally:  # whatever happens here, nobody waits for it any more
            sequence.end(reason, error)

    def computed(self, piece: Piece) -> None:
        """Take note that a piece's rows are in the cache and its sequence has its new ids; rejected rows go."""
        sequence = piece.sequence
        held = min(piece.start + len(piece.ids) + len(piece.draft), len(sequence.ids) - piece.samples)
        self._cache.rewind(sequence.slot, self._cache.length(sequence.slot) - held)
        sequence.computed = held
        sequence.suspect &= not piece.samples
        if self._prefixes:
            for position in self._prefixes.positions(piece.start, held, prompt=sequence.prompt_tokens):
                self._remember(sequence, position)

    def _plan_decodes(self, pieces: dict[Sequence, Piece]) -> None:
        decoding = [s for s in self.running if s.pending == 1 and not self._paused(s)]
        most = MOST // len(decoding) if decoding and self._speculation else 0
        for sequence in decoding:
            if sequence.state == "running" and self._make_room(sequence, 1, pieces):
                pieces[sequence] = self._piece(sequence, 1, self._draft(sequence, most))

    def _plan_prompts(self, pieces: dict[Sequence, Piece]) -> None:
        room = self._chunk
        for sequence in list(self.running):
            if room and sequence.state == "running" and sequence.pending > 1 and not self._paused(sequence):
                room -= self._plan_prompt(sequence, room, pieces)
        while room and (sequence := self._admit()):
            room -= self._plan_prompt(sequence, room, pieces)

    def _plan_prompt(self, sequence: Sequence, room: int, pieces: dict[Sequence, Piece]) -> int:
        """Plan the next rows of a prompt, at most `room`; returns how many."""
        count = min(room, sequence.pending)
        if not self._make_room(sequence, count, pieces):
            return 0
        pieces[sequence] = self._piece(sequence, count, [])
        return count

    def _piece(self, sequence: Sequence, count: int, draft: list[int]) -> Piece:
        start = self._cache.extend(sequence.slot, count + len(draft))
        assert start == sequence.computed
        return Piece(sequence, start, sequence.ids[start : start + count], draft, samples=sequence.pending == count)

    def _draft(self, sequence: Sequence, most: int) -> list[int]:
        """Proposals that cost nobody a block and do not reach beyond the last id that the sequence may sample."""
        draft = sequence.drafter.draft(sequence.ids, min(most, sequence.limit - sequence.made - 1))
        while draft and self._cache.missing_blocks(sequence.slot, 1 + len(draft)) > self._cache.free_blocks:
            draft.pop()
        return draft

    def _alone(self, sequence: Sequence) -> list[Piece]:
        """A step with one sequence only, to see whether it is the one that makes steps fail."""
        for other in list(self.running):
            if other is not sequence:
                self.preempt(other)
        if sequence.state == "waiting":
            self._admit(sequence)
        pieces: dict[Sequence, Piece] = {}
        self._plan_prompt(sequence, self._chunk, pieces)
        return list(pieces.values())

    def _admit(self, chosen: Sequence | None = None) -> Sequence | None:
        """Give a slot, and what is cached of its beginning, to the one who waits longest; None if it has to go on."""
        sequence = chosen or next((s for s in self.waiting if not self._paused(s)), None)
        if sequence is None:
            return None
        while not (self._cache.free_slots and self._fits(sequence)):
            paused = [s for s in self.running if self._paused(s)]
            if not paused:
                return None
            self.preempt(paused[-1])
        self.waiting.remove(sequence)
        sequence.slot, sequence.state = self._cache.open(), "running"
        insort(self.running, sequence, key=_age)
        self._resume(sequence)
        return sequence

    def _fits(self, sequence: Sequence) -> bool:
        """True if the pool can hold all its ids beside those of the sequences that run, if no prefix is kept."""
        held = self._cache.held_blocks
        prefix = self._prefixes.find(sequence) if self._prefixes else None
        shared = prefix.blocks[: prefix.length // self._cache.block_size] if prefix else ()
        needed = self._cache.blocks_for(len(sequence.ids) + 1) - len(held.intersection(shared))
        promised = sum(self._cache.missing_blocks(s.slot, s.pending + 1) for s in self.running)
        # Alone it fits, as checked when it came, up to the one block that a last id, never computed, would begin.
        return not self.running or needed + promised <= self._cache.blocks - len(held)

    def _resume(self, sequence: Sequence) -> None:
        prefix = self._prefixes.find(sequence) if self._prefixes else None
        while prefix and not self._cache.free_blocks:  # for the copy of its last block
            assert self._prefixes
            self._prefixes.evict()
            prefix = self._prefixes.find(sequence)
        if prefix:
            self._cache.resume(sequence.slot, prefix)
            sequence.computed = prefix.length
            self.prefix_hit_tokens += prefix.length
            if not sequence.made:
                sequence.cached_tokens = prefix.length

    def _make_room(self, sequence: Sequence, count: int, pieces: dict[Sequence, Piece]) -> bool:
        """Free the blocks that `count` more rows need, by those who have less claim to them; False if none has."""
        while self._cache.missing_blocks(sequence.slot, count) > self._cache.free_blocks:
            if self._prefixes and self._prefixes.evict():
                continue
            victims = [s for s in self.running if s is not sequence and (self._paused(s) or _age(s) > _age(sequence))]
            if not victims:
                return False
            victim = max(victims, key=lambda s: (self._paused(s), _age(s)))
            pieces.pop(victim, None)
            self.preempt(victim)
        return True

    def _remember(self, sequence: Sequence, position: int) -> None:
        if self._prefixes and position:  # 0 where nothing was computed
            self._prefixes.remember(sequence, position)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._cache.close(sequence.slot)
        sequence.slot, sequence.computed = -1, 0

    def _paused(self, sequence: Sequence) -> bool:
        return self._read_ahead is not None and sequence.unread >= self._read_ahead


def _age(sequence: Sequence) -> int:
    return sequence.arrival
