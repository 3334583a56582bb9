"""Beginnings of earlier sequences, kept so that a later one with the same beginning need not compute it again.

A block of a full layer could be shared wherever the ids before it are the same. A window layer cannot: its ring holds
the last rows only, and those of an earlier position are gone. So an entry is a whole beginning, up to a position at
which the rows of every window layer were copied, and a sequence resumes at such a position or not at all.
"""

from array import array
from collections import OrderedDict
from hashlib import blake2b

from ossature.engine.sequence import Sequence
from ossature.model import KVCache, Prefix

__all__ = ["PrefixCache"]

# What the keys and values depend on besides the ids; digest of the whole blocks; the ids behind them. The numbers
# themselves, dtype and kernels, are those of the one model whose cache this is.
Key = tuple[tuple[object, ...], bytes, tuple[int, ...]]


class PrefixCache:
    """Prefixes of a cache by what they are of, the least recently used one the first to go.

    limit  bytes that the entries may hold: their copies of window layers, and the blocks that they keep
    every  positions between the entries of a long sequence
    """

    def __init__(self, cache: KVCache, *, limit: int, every: int) -> None:
        self._cache = cache
        self._limit = limit
        self._every = every
        self._entries: OrderedDict[Key, Prefix] = OrderedDict()
        self._tails: dict[tuple[tuple[object, ...], bytes], set[tuple[int, ...]]] = {}
        self._keepers: dict[int, int] = {}  # entries that keep each block
        self._window_bytes = 0

    @property
    def entries(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes held by the entries; a block that several keep counts once."""
        return self._window_bytes + len(self._keepers) * self._cache.block_bytes

    def find(self, sequence: Sequence) -> Prefix | None:
        """The longest kept beginning of a sequence's ids that leaves at least one to compute, for its logits."""
        ids, size = sequence.ids, self._cache.block_size
        context = sequence.context
        for whole in range((len(ids) - 1) // size, -1, -1):
            digest = self._digest(sequence, whole)
            tails = self._tails.get((context, digest))
            if not tails:
                continue
            rest = tuple(ids[whole * size : min(len(ids) - 1, (whole + 1) * size)])
            fitting = [tail for tail in tails if rest[: len(tail)] == tail]
            if fitting:
                key = (context, digest, max(fitting, key=len))
                self._entries.move_to_end(key)
                return self._entries[key]
        return None

    def positions(self, start: int, end: int, *, prompt: int) -> list[int]:
        """Where to remember a sequence that has come from `start` to `end` positions: (start, end].

        The end of the prompt is that before its last id, so that the same prompt finds all that it can use.
        """
        first = (start // self._every + 1) * self._every
        positions = {*range(first, end + 1, self._every)}
        if start < prompt - 1 <= end:
            positions.add(prompt - 1)
        return sorted(positions)

    def remember(self, sequence: Sequence, length: int) -> None:
        """Keep the first `length` positions of a sequence that has a slot."""
        whole, rest = divmod(length, self._cache.block_size)
        key = (sequence.context, self._digest(sequence, whole), tuple(sequence.ids[length - rest : length]))
        if key in self._entries:
            self._entries.move_to_end(key)
            return
        prefix = self._cache.keep(sequence.slot, length)
        self._entries[key] = prefix
        self._tails.setdefault(key[:2], set()).add(key[2])
        self._window_bytes += prefix.window.nbytes
        for block in prefix.blocks:
            self._keepers[block] = self._keepers.get(block, 0) + 1
        while self.nbytes > self._limit:
            self.evict()

    def evict(self) -> bool:
        """Drop the entry that was not used for longest. Returns False if there is none."""
        if not self._entries:
            return False
        key, prefix = self._entries.popitem(last=False)
        tails = self._tails[key[:2]]
        tails.remove(key[2])
        if not tails:
            del self._tails[key[:2]]
        self._window_bytes -= prefix.window.nbytes
        for block in prefix.blocks:
            self._keepers[block] -= 1
            if not self._keepers[block]:
                del self._keepers[block]
        self._cache.drop(prefix)
        return True

    def _digest(self, sequence: Sequence, blocks: int) -> bytes:
        """Hash of the ids of the first `blocks` blocks of a sequence, each chained to the one before."""
        digests, size = sequence.digests, self._cache.block_size
        while len(digests) < blocks:
            ids = array("q", sequence.ids[len(digests) * size : (len(digests) + 1) * size])
            digests.append(blake2b((digests[-1] if digests else b"") + ids.tobytes(), digest_size=32).digest())
        return digests[blocks - 1] if blocks else b""
