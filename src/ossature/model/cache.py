"""Keys and values of earlier tokens: blocks from one pool for full layers, a ring a sequence for window layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ossature.config import ModelConfig
from ossature.errors import ContextLengthError, ShapeError
from ossature.ops import Rows

__all__ = ["KVCache"]


class KVCache:
    """Room for `max_sequences` sequences of up to `max_tokens` positions each.

    Full layers take blocks of `block_size` rows from one pool as a sequence grows, through a block table of fixed
    width. Window layers keep the last `sliding_window + slack` rows of each sequence. A chunk of at most `slack` rows
    can be written at once, and `rewind` takes back up to `slack` rows.

    The memory is reserved, not touched: the system backs a page when its first row is written.
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
        self._free_blocks = list(reversed(range(blocks)))
        self._free_slots = list(reversed(range(max_sequences)))
        self._blocks: dict[int, list[int]] = {}
        self._length: dict[int, int] = {}
        self._written: dict[int, int] = {}

    @property
    def free_blocks(self) -> int:
        """Blocks of the pool that no sequence holds."""
        return len(self._free_blocks)

    def length(self, slot: int) -> int:
        """Positions held for the sequence in `slot`."""
        return self._length[slot]

    def open(self) -> int:
        """A slot for a new sequence. Raises ContextLengthError if all are taken."""
        if not self._free_slots:
            raise ContextLengthError(
                f"all {len(self._length)} slots of the cache are taken; close a sequence or make the cache with"
                " a larger max_sequences"
            )
        slot = self._free_slots.pop()
        self._blocks[slot], self._length[slot], self._written[slot] = [], 0, 0
        return slot

    def close(self, slot: int) -> None:
        """Give the slot and its blocks back."""
        self._free_blocks.extend(reversed(self._blocks.pop(slot)))
        del self._length[slot], self._written[slot]
        self._free_slots.append(slot)

    def extend(self, slot: int, count: int) -> int:
        """Make room for the next `count` positions of a sequence; returns the first of them.

        Raises ShapeError if count exceeds `slack`, ContextLengthError if the sequence or the pool is full.
        """
        start = self._length[slot]
        end = start + count
        if not 0 < count <= self.slack:
            raise ShapeError(
                f"a chunk of {count} rows does not fit this cache, which takes 1 to {self.slack} at once (slack). "
                "Split the prompt, or make the cache with a larger slack."
            )
        if end > self.max_tokens:
            raise ContextLengthError(f"{end} positions were asked for; this cache holds {self.max_tokens} a sequence")
        blocks = self._blocks[slot]
        missing = -(-end // self.block_size) - len(blocks)
        if missing > len(self._free_blocks):
            raise ContextLengthError(
                f"{missing} cache blocks of {self.block_size} positions are needed, {len(self._free_blocks)} are free"
            )
        for _ in range(missing):
            block = self._free_blocks.pop()
            self._tables["full_attention"][slot, len(blocks)] = block
            blocks.append(block)
        self._length[slot] = end
        self._written[slot] = max(self._written[slot], end)
        return start

    def rewind(self, slot: int, count: int) -> None:
        """Forget the last `count` positions, exactly: what follows is computed as if they had never been.

        Raises ShapeError where the ring no longer holds the rows needed: more than `slack` rows behind the furthest
        position ever written in this slot.
        """
        length = self._length[slot] - count
        behind = self._written[slot] - length
        if count < 0 or length < 0 or behind > self.slack:
            raise ShapeError(
                f"cannot rewind {count} of {self._length[slot]} positions: that is {behind} behind the furthest"
                f" position written, and window layers keep {self.slack} rows beyond their window (slack)"
            )
        blocks = self._blocks[slot]
        while len(blocks) > -(-length // self.block_size):
            self._free_blocks.append(blocks.pop())
        self._length[slot] = length

    def rows(self, positions: Tensor, sequence_of_row: Tensor) -> dict[str, Rows]:
        """Where a batch's rows and their keys are stored, for each kind of layer."""
        return {
            "full_attention": Rows(
                positions, sequence_of_row, self._tables["full_attention"], self.block_size, window=0
            ),
            "sliding_attention": Rows(
                positions, sequence_of_row, self._tables["sliding_attention"], self.ring, self.config.sliding_window
            ),
        }

    def write(self, layer: int, k: Tensor, v: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Store a batch's keys and values (tokens, kv_heads, head_dim) of one layer; returns all stored rows."""
        keys, values = self._pool[layer]
        keys.index_copy_(0, rows.own, k)
        values.index_copy_(0, rows.own, v)
        return keys, values

    def lengths(self, slots: Sequence[int]) -> list[int]:
        """Positions held, for several slots."""
        return [self._length[slot] for slot in slots]
