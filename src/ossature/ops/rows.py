"""Where each query row of a flat batch finds its keys and values.

One formula serves the paged cache, the ring of a window layer and a batch without a cache: position `p` of
sequence `s` is stored in row

    block_table[s, (p // block_size) % width] * block_size + p % block_size

A paged cache has many blocks a sequence; a ring is one block a sequence (width 1), where later positions overwrite
earlier ones; without a cache the rows are the batch's own, in blocks of one row.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Padded", "Rows"]


class Padded(NamedTuple):
    """The same batch as rectangles, one sequence a row: what a dense attention product needs.

    query (sequences, queries) int64   row of the batch, padding repeats a real row of the same sequence
    keep  (tokens,) int64              places of the real queries in the flattened (sequences · queries)
    key   (sequences, keys) int64      stored row, padding repeats a real row
    mask  (sequences, queries, keys)   True where the query sees the key
    """

    query: Tensor
    keep: Tensor
    key: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Rows:
    """positions, sequence_of_row (tokens,) int64; block_table (sequences, width) int32; window in keys, 0 = all.

    Rows of one sequence are contiguous in the batch and their positions ascend by one. The keys of all positions
    that a query sees are stored before the query is computed.
    """

    positions: Tensor
    sequence_of_row: Tensor
    block_table: Tensor
    block_size: int
    window: int

    def stored(self, sequence: Tensor, position: Tensor) -> Tensor:
        """Stored row of each (sequence, position), int64, shaped as the two broadcast together."""
        block = torch.div(position, self.block_size, rounding_mode="floor") % self.block_table.shape[1]
        return self.block_table[sequence, block].long() * self.block_size + position % self.block_size

    def key_rows(self, sequence: int, position: int) -> Tensor:
        """Stored rows that the query at `position` sees, oldest first, its own last."""
        first = max(0, position - self.window + 1) if self.window else 0
        positions = torch.arange(first, position + 1, device=self.positions.device)
        return self.stored(torch.full_like(positions, sequence), positions)

    @cached_property
    def own(self) -> Tensor:
        """Stored row of every row of the batch, (tokens,) int64: where its key and value are written."""
        return self.stored(self.sequence_of_row, self.positions)

    @cached_property
    def padded(self) -> Padded:
        """This batch as rectangles; computed once and shared by all layers of one kind."""
        sequences, inverse, counts = torch.unique_consecutive(
            self.sequence_of_row, return_inverse=True, return_counts=True
        )
        starts = counts.cumsum(0) - counts
        longest = int(counts.max())
        column = torch.arange(longest, device=counts.device)
        query = starts[:, None] + torch.minimum(column, counts[:, None] - 1)
        keep = inverse * longest + torch.arange(len(inverse), device=counts.device) - starts[inverse]

        last = self.positions[starts + counts - 1]
        first = self.positions[starts]
        first = (first - self.window + 1).clamp(min=0) if self.window else torch.zeros_like(first)
        offset = torch.arange(int((last - first).max()) + 1, device=counts.device)
        key_position = torch.minimum(first[:, None] + offset, last[:, None])
        key = self.stored(sequences[:, None], key_position)

        query_position = self.positions[query][:, :, None]
        unclamped = (first[:, None] + offset)[:, None, :]
        mask = unclamped <= query_position
        if self.window:
            mask = mask & (unclamped > query_position - self.window)
        return Padded(query, keep, key, mask)
