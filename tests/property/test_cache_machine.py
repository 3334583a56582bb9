"""Any order of opening, extending, rewinding, keeping, resuming and closing leaves the logits of an uncached pass."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from ossature.model import Batch, KVCache, Prefix, Transformer
from tests import network
from tests.conftest import FULL

SLOTS, LONGEST, WINDOW = 3, 40, 4
TOLERANCE = 2e-5


def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=2, sliding_window=WINDOW, vocab_size=37)
    return network.ours(config, network.tensors(config))


MODEL = model()


class Cached(RuleBasedStateMachine):
    """A cache next to plain lists of the ids that each slot should hold."""

    slots = Bundle("slots")
    prefixes = Bundle("prefixes")

    @initialize(slack=st.integers(1, 9), block_size=st.integers(1, 9), spare=st.integers(0, 12))
    def start(self, slack: int, block_size: int, spare: int) -> None:
        self.slack, self.block_size = slack, block_size
        self.blocks = -(-LONGEST // block_size) + spare
        self.cache = KVCache(
            MODEL.config,
            max_sequences=SLOTS,
            max_tokens=LONGEST,
            slack=slack,
            block_size=block_size,
            blocks=self.blocks,
            dtype=torch.float32,
        )
        self.ids: dict[int, list[int]] = {}
        self.furthest: dict[int, int] = {}
        self.kept: dict[int, int] = {}  # positions of a slot that others may start from
        self.held: dict[Prefix, list[int]] = {}

    @rule(target=slots)
    def open(self) -> object:
        if len(self.ids) == SLOTS:
            return next(iter(self.ids))
        slot = self.cache.open()
        assert slot not in self.ids
        self.ids[slot], self.furthest[slot], self.kept[slot] = [], 0, 0
        return slot

    @rule(slot=consumes(slots))
    def close(self, slot: int) -> None:
        if slot in self.ids:
            self.cache.close(slot)
            del self.ids[slot], self.furthest[slot], self.kept[slot]

    @rule(target=prefixes, data=st.data(), slot=slots)
    def keep(self, data: st.DataObject, slot: int) -> object:
        least = max(1, self.furthest.get(slot, 0) - self.slack)
        if not least <= len(self.ids.get(slot, [])):
            return None
        length = data.draw(st.integers(least, len(self.ids[slot])))
        prefix = self.cache.keep(slot, length)
        self.held[prefix] = self.ids[slot][:length]
        self.kept[slot] = max(self.kept[slot], length)
        return prefix

    @rule(prefix=prefixes, slot=slots)
    def resume(self, prefix: Prefix | None, slot: int) -> None:
        if prefix is None or self.ids.get(slot, [0]):
            return
        if prefix.length % self.block_size and not self.cache.free_blocks:
            return
        self.cache.resume(slot, prefix)
        self.ids[slot] = list(self.held[prefix])
        self.furthest[slot] = self.kept[slot] = prefix.length

    @rule(prefix=consumes(prefixes))
    def drop(self, prefix: Prefix | None) -> None:
        if prefix is not None:
            del self.held[prefix]
            self.cache.drop(prefix)

    @rule(data=st.data(), slots=st.lists(slots, min_size=1, max_size=SLOTS, unique=True))
    def feed(self, data: st.DataObject, slots: list[int]) -> None:
        pieces: dict[int, list[int]] = {}
        starts: list[int] = []
        for slot in slots:
            room = min(self.slack, LONGEST - len(self.ids.get(slot, [])), self._free_rows(slot))
            if slot in self.ids and room > 0:
                piece = data.draw(st.lists(st.integers(0, 36), min_size=1, max_size=room))
                starts.append(self.cache.extend(slot, len(piece)))
                assert starts[-1] == len(self.ids[slot])
                pieces[slot] = piece
                self.ids[slot] = self.ids[slot] + piece
                self.furthest[slot] = max(self.furthest[slot], len(self.ids[slot]))
        if not pieces:
            return
        with torch.no_grad():
            got = MODEL(Batch.packed(list(pieces.values()), slots=list(pieces), starts=starts), self.cache)
        for slot, rows in zip(pieces, got.split([len(piece) for piece in pieces.values()]), strict=True):
            exact = network.prefill(MODEL, self.ids[slot])["logits", None][-len(rows) :]
            assert (rows - exact).abs().max() < TOLERANCE

    def _free_rows(self, slot: int) -> int:
        """Rows that this sequence can still take, from its last block and from the pool."""
        in_last = -len(self.ids.get(slot, [])) % self.block_size
        return in_last + self.cache.free_blocks * self.block_size

    @rule(data=st.data(), slot=slots)
    def rewind(self, data: st.DataObject, slot: int) -> None:
        if slot not in self.ids:
            return
        length = len(self.ids[slot])
        most = min(length - self.kept[slot], self.slack - (self.furthest[slot] - length))
        count = data.draw(st.integers(0, most))
        self.cache.rewind(slot, count)
        self.ids[slot] = self.ids[slot][: length - count]

    @invariant()
    def blocks_are_held_for_the_rows_there_are_and_no_more(self) -> None:
        if hasattr(self, "ids"):
            kept = {block for prefix in self.held for block in prefix.blocks}
            assert self.cache.free_blocks == self.blocks - len(kept | self.cache.held_blocks)
            assert all(self.cache.length(slot) == len(ids) for slot, ids in self.ids.items())
            if not self.held:
                most = sum(-(-len(ids) // self.block_size) for ids in self.ids.values())
                assert self.blocks - self.cache.free_blocks <= most  # fewer where some are shared


TestCached = Cached.TestCase
TestCached.settings = settings(max_examples=1000 if FULL else 100, stateful_step_count=30)
