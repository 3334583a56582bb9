"""Keys and values of earlier tokens: blocks from one pool for full layers, a ring a sequence for window layers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ossature.config import ModelConfig
from ossature.errors import ContextLengthError, ShapeError
from ossature.ops import Rows

__all__ = ["KVCache", "Prefix"]


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The first `length` positions of some sequence, kept so that another may start from them.

    blocks  of the pool, in order; the last may be filled beyond `length`, and only its rows below `length` count
    window  (window layers, 2, rows, kv_heads, head_dim): keys and values of the last `sliding_window - 1` positions, or
            of all where there are fewer
    """

    length: int
    blocks: tuple[int, ...]
    window: Tensor


class KVCache:
    """Room for `max_sequences` sequences of up to `max_tokens` positions each.

    Full layers take blocks of `block_size` rows from one pool as a sequence grows, through a block table of fixed
    width. Window layers keep the last `sliding_window + slack` rows of each sequence. A chunk of at most `slack` rows
    can be written at once, and `rewind` takes back up to `slack` rows.

    `keep` holds on to the beginning of a sequence, also after its slot is closed, and `resume` starts another sequence
    from there. A row that is kept is never written again: a slot writes behind what was kept of it and behind what it
    resumed from, and where that is within a block, the one who resumes gets a copy of the block.

    The memory is reserved, not touched: the system backs a page when its first row is written. Every method that takes
    a slot raises ShapeError for one that is not open.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        max_sequences: int,
        max_tokens: int,
        slack: int = 512,
        block_size: int = 64,
        blocks: int | None = None,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        """`blocks`: size of the pool, default enough for every sequence at its longest. Raises ShapeError below 1."""
        sizes = {"max_sequences": max_sequences, "max_tokens": max_tokens, "slack": slack, "block_size": block_size}
        for name, size in sizes.items():
            if size < 1:
                raise ShapeError(f"a cache with {name}={size} holds nothing; give 1 or more")
        self.config = config
        self.slack = slack
        self.block_size = block_size
        self.max_tokens = max_tokens
        width = -(-max_tokens // block_size)
        self.ring = config.sliding_window + slack
        blocks = max_sequences * width if blocks is None else blocks
        row = (config.num_key_value_heads, config.head_dim)
        stored = {"full_attention": blocks * block_size, "sliding_attention": max_sequences * self.ring}
        self._pool = [
            torch.empty(2, stored[kind], *row, dtype=dtype, device=device)  # [0] keys, [1] values
            for kind in config.layer_types
        ]
        self._tables = {
            "full_attention": torch.zeros(max_sequences, width, dtype=torch.int32, device=device),
            "sliding_attention": torch.arange(max_sequences, dtype=torch.int32, device=device)[:, None],
        }
        self._window_layers = [i for i, kind in enumerate(config.layer_types) if kind == "sliding_attention"]
        self.blocks = blocks
        self._free_blocks = list(reversed(range(blocks)))
        self._holders = [0] * blocks  # slots and prefixes that hold each block
        self._free_slots = list(reversed(range(max_sequences)))
        self._blocks: dict[int, list[int]] = {}
        self._length: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._kept: dict[int, int] = {}  # positions of each slot that may not be written again
        # On the host, for every slot: the first position that a batch may still compute, and the end of those reserved.
        self._computable = torch.zeros(max_sequences, 2, dtype=torch.int64, device="cpu")

    @property
    def free_blocks(self) -> int:
        """Blocks of the pool that no sequence and no prefix holds."""
        return len(self._free_blocks)

    @property
    def free_slots(self) -> int:
        """Sequences that can still be opened."""
        return len(self._free_slots)

    @property
    def held_blocks(self) -> set[int]:
        """Blocks that sequences hold; those that only prefixes hold are not among them."""
        return {block for blocks in self._blocks.values() for block in blocks}

    @property
    def block_bytes(self) -> int:
        """Memory of one block, in all full layers together."""
        full = (
            pool for pool, kind in zip(self._pool, self.config.layer_types, strict=True) if kind == "full_attention"
        )
        return sum(2 * self.block_size * pool[0, 0].numel() * pool.element_size() for pool in full)

    def missing_blocks(self, slot: int, count: int) -> int:
        """Blocks that `extend(slot, count)` would take from the pool."""
        return max(0, self.blocks_for(self.length(slot) + count) - len(self._blocks[slot]))

    def blocks_for(self, positions: int) -> int:
        """Blocks that so many positions of one sequence fill or begin."""
        return -(-positions // self.block_size)

    def length(self, slot: int) -> int:
        """Positions held for the sequence in `slot`."""
        self._require_open(slot)
        return self._length[slot]

    def open(self) -> int:
        """A slot for a new sequence. Raises ContextLengthError if all are taken."""
        if not self._free_slots:
            raise ContextLengthError(
                f"all {len(self._length)} slots of the cache are taken; close a sequence or make the cache with"
                " a larger max_sequences"
            )
        slot = self._free_slots.pop()
        self._blocks[slot] = []
        self._length[slot] = self._written[slot] = self._kept[slot] = 0
        return slot

    def close(self, slot: int) -> None:
        """Give the slot back, and its blocks where no prefix and no other sequence holds them."""
        self._require_open(slot)
        self._computable[slot] = 0
        for block in reversed(self._blocks.pop(slot)):
            self._let_go(block)
        del self._length[slot], self._written[slot], self._kept[slot]
        self._free_slots.append(slot)

    def extend(self, slot: int, count: int) -> int:
        """Make room for the next `count` positions of a sequence; returns the first of them.

        Raises ShapeError if count exceeds `slack`, ContextLengthError if the sequence or the pool is full; the cache is
        then as before.
        """
        self._require_open(slot)
        start = self._length[slot]
        end = start + count
        if not 0 < count <= self.slack:
            raise ShapeError(
                f"a chunk of {count} rows does not fit this cache, which takes 1 to {self.slack} at once (slack). "
                "Split the prompt, or make the cache with a larger slack."
            )
        if end > self.max_tokens:
            raise ContextLengthError(f"{end} positions were asked for; this cache holds {self.max_tokens} a sequence")
        missing = self.missing_blocks(slot, count)
        self._require_free(missing)
        for _ in range(missing):
            self._take(slot, self._free_blocks.pop())
        self._written[slot] = max(self._written[slot], end)
        self._set_length(slot, end)
        return start

    def rewind(self, slot: int, count: int) -> None:
        """Forget the last `count` positions, exactly: what follows is computed as if they had never been.

        Raises ShapeError where the ring no longer holds the rows needed, more than `slack` rows behind the furthest
        position ever written in this slot, and for positions that were kept or resumed from.
        """
        self._require_open(slot)
        length = self._length[slot] - count
        if count < 0 or length < 0:
            raise ShapeError(f"cannot rewind {count} positions: the sequence in slot {slot} holds {self._length[slot]}")
        if length < self._kept[slot]:
            raise ShapeError(
                f"cannot rewind {count} of {self._length[slot]} positions: others may start from the first"
                f" {self._kept[slot]} of them (keep, resume)"
            )
        behind = self._written[slot] - length
        if behind > self.slack:
            raise ShapeError(
                f"cannot rewind {count} of {self._length[slot]} positions: that is {behind} behind the furthest"
                f" position written, and window layers keep {self.slack} rows beyond their window (slack)"
            )
        blocks = self._blocks[slot]
        while len(blocks) > self.blocks_for(length):
            self._let_go(blocks.pop())
        self._set_length(slot, length)

    def keep(self, slot: int, length: int) -> Prefix:
        """Hold on to the first `length` positions of a sequence, until `drop`; copies the rows of its window layers.

        Raises ShapeError for more positions than the sequence has, or so few that the rings have moved on.
        """
        self._require_open(slot)
        oldest = max(1, self._written[slot] - self.slack)
        if not oldest <= length <= self._length[slot]:
            raise ShapeError(
                f"cannot keep {length} positions of slot {slot}: what is held of it lets {oldest} to"
                f" {self._length[slot]} be kept"
            )
        blocks = tuple(self._blocks[slot][: self.blocks_for(length)])
        for block in blocks:
            self._holders[block] += 1
        self._kept[slot] = max(self._kept[slot], length)
        self._set_length(slot, self._length[slot])
        rows = self._ring_rows(slot, length)
        layers = [self._pool[layer][:, rows] for layer in self._window_layers]
        return Prefix(length, blocks, torch.stack(layers) if layers else self._pool[0].new_empty(0))

    def drop(self, prefix: Prefix) -> None:
        """Let go of a prefix, once; its blocks are free where no sequence and no other prefix holds them."""
        for block in reversed(prefix.blocks):
            self._let_go(block)

    def resume(self, slot: int, prefix: Prefix) -> None:
        """Start an empty sequence as the one that the prefix was kept of: the next position is `prefix.length`.

        Raises ShapeError for a sequence that is not empty, ContextLengthError if no block is free for the copy of one
        that the prefix fills in part; the cache is then as before.
        """
        if self.length(slot):
            raise ShapeError(f"slot {slot} holds {self.length(slot)} positions; only an empty sequence can resume")
        whole, rest = divmod(prefix.length, self.block_size)
        self._require_free(1 if rest else 0)
        for block in prefix.blocks[:whole]:
            self._take(slot, block)
        if rest:
            self._take(slot, self._free_blocks.pop())
            source, target = (block * self.block_size for block in (prefix.blocks[whole], self._blocks[slot][whole]))
            for pool, kind in zip(self._pool, self.config.layer_types, strict=True):
                if kind == "full_attention":
                    pool[:, target : target + rest] = pool[:, source : source + rest]
        rows = self._ring_rows(slot, prefix.length)
        for number, layer in enumerate(self._window_layers):
            self._pool[layer][:, rows] = prefix.window[number]
        self._written[slot] = self._kept[slot] = prefix.length
        self._set_length(slot, prefix.length)

    def rows(self, positions: Tensor, sequence_of_row: Tensor) -> dict[str, Rows]:
        """Where a batch's rows and their keys are stored, for each kind of layer.

        Raises ShapeError for rows that `extend` did not reserve or that the rings no longer reach. On the CPU only:
        elsewhere, looking at the positions would make the host wait for the device.
        """
        if positions.device.type == "cpu":
            self._check_computable(positions, sequence_of_row)
        return {
            "full_attention": Rows(
                positions, sequence_of_row, self._tables["full_attention"], self.block_size, window=0
            ),
            "sliding_attention": Rows(
                positions, sequence_of_row, self._tables["sliding_attention"], self.ring, self.config.sliding_window
            ),
        }

    def write(self, layer: int, k: Tensor, v: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Store a batch's keys and values (tokens, kv_heads, head_dim) of one layer; returns all stored rows.

        Raises ShapeError for another dtype than the cache's, or for keys and values that carry a gradient.
        """
        keys, values = self._pool[layer]
        if k.dtype != keys.dtype:
            raise ShapeError(f"the cache holds {keys.dtype} and was given {k.dtype}; make it with the model's dtype")
        if k.requires_grad or v.requires_grad:
            raise ShapeError("a cache keeps no gradients; run the model under torch.no_grad(), or without a cache")
        keys.index_copy_(0, rows.own, k)
        values.index_copy_(0, rows.own, v)
        return keys, values

    def _require_open(self, slot: int) -> None:
        if slot not in self._length:
            raise ShapeError(f"slot {slot} is not open; open are {sorted(self._length)}")

    def _require_free(self, blocks: int) -> None:
        if blocks > len(self._free_blocks):
            raise ContextLengthError(
                f"{blocks} cache blocks of {self.block_size} positions are needed, {len(self._free_blocks)} are free"
            )

    def _take(self, slot: int, block: int) -> None:
        """Make a block the next one of a sequence."""
        blocks = self._blocks[slot]
        self._tables["full_attention"][slot, len(blocks)] = block
        self._holders[block] += 1
        blocks.append(block)

    def _let_go(self, block: int) -> None:
        self._holders[block] -= 1
        if not self._holders[block]:
            self._free_blocks.append(block)

    def _ring_rows(self, slot: int, length: int) -> Tensor:
        """Stored rows of the positions that a query at position `length` of a window layer sees before its own."""
        first = max(0, length - self.config.sliding_window + 1)
        positions = torch.arange(first, length, device=self._pool[0].device)
        return slot * self.ring + positions % self.ring

    def _set_length(self, slot: int, length: int) -> None:
        self._length[slot] = length
        self._computable[slot, 0] = max(self._kept[slot], self._written[slot] - self.slack)
        self._computable[slot, 1] = length

    def _check_computable(self, positions: Tensor, sequence_of_row: Tensor) -> None:
        slots = len(self._computable)
        first, end = self._computable[sequence_of_row.clamp(0, slots - 1)].unbind(1)
        fits = (sequence_of_row >= 0) & (sequence_of_row < slots) & (positions >= first) & (positions < end)
        if not fits.all():
            row = int(fits.logical_not().nonzero()[0])
            slot, position = int(sequence_of_row[row]), int(positions[row])
            self._require_open(slot)
            raise ShapeError(
                f"row {row} of the batch is position {position} of slot {slot}, which can compute positions"
                f" {int(first[row])} to {int(end[row]) - 1} now; reserve new ones with `extend`, take back old ones"
                " with `rewind`"
            )
