"""What one forward pass works on: flat rows of tokens from any number of sequences."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ossature.errors import ShapeError
from ossature.model.sites import Capture, Edit

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Rows of one sequence are contiguous and their positions ascend by one.

    token_ids        (tokens,) int64
    positions        (tokens,) int64, from 0 in each sequence
    sequence_of_row  (tokens,) int64: the cache slot, or without a cache the number of the sequence in the batch
    logits_rows      (rows,) int64: only these rows get logits, in this order
    captures, edits  what is read from and changed at the activation sites, each naming its rows
    """

    token_ids: Tensor
    positions: Tensor
    sequence_of_row: Tensor
    logits_rows: Tensor
    captures: tuple[Capture, ...] = ()
    edits: tuple[Edit, ...] = ()

    @classmethod
    def packed(
        cls,
        sequences: Sequence[Sequence[int]],
        *,
        slots: Sequence[int] | None = None,
        starts: Sequence[int] | None = None,
        last_only: bool = False,
        captures: tuple[Capture, ...] = (),
        edits: tuple[Edit, ...] = (),
        device: torch.device | str = "cpu",
    ) -> "Batch":
        """Put sequences of token ids one after the other.

        slots    cache slot of each sequence; default 0, 1, 2, …
        starts   position of each sequence's first id; default 0
        last_only  logits of each sequence's last row only, instead of all rows

        Raises ShapeError if a sequence is empty, the lists differ in length, or two sequences have the same slot.
        """
        slots = range(len(sequences)) if slots is None else slots
        starts = [0] * len(sequences) if starts is None else starts
        lengths = [len(sequence) for sequence in sequences]
        if not lengths or 0 in lengths or not len(lengths) == len(slots) == len(starts):
            raise ShapeError(
                f"a batch needs one slot and one start a sequence and at least one id in each; got {len(lengths)} "
                f"sequences of {lengths} ids, {len(slots)} slots, {len(starts)} starts"
            )
        if len(set(slots)) < len(slots):
            raise ShapeError(f"each sequence of a batch needs a slot of its own; got {list(slots)}")
        ids = torch.tensor([i for sequence in sequences for i in sequence], dtype=torch.int64, device=device)
        length = torch.tensor(lengths, device=device)
        ends = length.cumsum(0)
        first = (ends - length).repeat_interleave(length)
        rows = torch.arange(len(ids), device=device)
        return cls(
            token_ids=ids,
            positions=rows - first + torch.tensor(starts, device=device).repeat_interleave(length),
            sequence_of_row=torch.tensor(list(slots), device=device).repeat_interleave(length),
            logits_rows=ends - 1 if last_only else rows,
            captures=captures,
            edits=edits,
        )
