"""Keys and values of earlier tokens: blocks from one pool for full layers, a ring a sequence for window layers."""

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
        self._free_blocks = list(reversed(range(blocks)))
        self._free_slots = list(reversed(range(max_sequences)))
        self._blocks: dict[int, list[int]] = {}
        self._length: dict[int, int] = {}
        self._written: dict[int, int] = {}
        # On the host, for every slot: the first position that a batch may still compute, and the end of those reserved.
        self._computable = torch.zeros(max_sequences, 2, dtype=torch.int64, device="cpu")

    @property
    def free_blocks(self) -> int:
        """Blocks of the pool that no sequence holds."""
        return len(self._free_blocks)

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
        self._blocks[slot], self._length[slot], self._written[slot] = [], 0, 0
        return slot

    def close(self, slot: int) -> None:
        """Give the slot and its blocks back."""
        self._require_open(slot)
        self._computable[slot] = 0
        self._free_blocks.extend(reversed(self._blocks.pop(slot)))
        del self._length[slot], self._written[slot]
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
        self._written[slot] = max(self._written[slot], end)
        self._set_length(slot, end)
        return start

    def rewind(self, slot: int, count: int) -> None:
        """Forget the last `count` positions, exactly: what follows is computed as if they had never been.

        Raises ShapeError where the ring no longer holds the rows needed: more than `slack` rows behind the furthest
        position ever written in this slot.
        """
        self._require_open(slot)
        length = self._length[slot] - count
        if count < 0 or length < 0:
            raise ShapeError(f"cannot rewind {count} positions: the sequence in slot {slot} holds {self._length[slot]}")
        behind = self._written[slot] - length
        if behind > self.slack:
            raise ShapeError(
                f"cannot rewind {count} of {self._length[slot]} positions: that is {behind} behind the furthest"
                f" position written, and window layers keep {self.slack} rows beyond their window (slack)"
            )
        blocks = self._blocks[slot]
        while len(blocks) > -(-length // self.block_size):
            self._free_blocks.append(blocks.pop())
        self._set_length(slot, length)

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

    def _set_length(self, slot: int, length: int) -> None:
        self._length[slot] = length
        self._computable[slot, 0] = max(0, self._written[slot] - self.slack)
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
