"""One forward pass over pieces of many sequences, each with its own edits."""

from collections.abc import Sequence as Items
from dataclasses import replace

import torch

from ossature.engine.scheduler import Piece
from ossature.model import SITES, Batch, Edit, KVCache, Transformer

__all__ = ["forward"]


def forward(model: Transformer, cache: KVCache, pieces: Items[Piece]) -> list[torch.Tensor]:
    """Logits (rows, vocab_size) of each piece: after its last known id and after each id of its draft, or no rows.

    The rows of the pieces are reserved in the cache, and their keys and values are stored in it.
    """
    device = model.inv_freq.device
    wanted: list[int] = []  # rows of the batch that get logits
    edits: list[Edit] = []
    counts: list[int] = []
    end = 0
    for piece in pieces:
        first, end = end, end + len(piece.ids) + len(piece.draft)
        sampled = range(end - 1 - len(piece.draft), end) if piece.samples else range(0)
        for edit in piece.sequence.edits:
            of_logits = SITES[edit.site.name].shape.startswith("(rows")
            rows = range(len(wanted), len(wanted) + len(sampled)) if of_logits else range(first, end)
            if rows:
                edits.append(replace(edit, rows=torch.tensor(rows, device=device)))
        wanted += sampled
        counts.append(len(sampled))
    batch = Batch.packed(
        [piece.ids + piece.draft for piece in pieces],
        slots=[piece.sequence.slot for piece in pieces],
        starts=[piece.start for piece in pieces],
        edits=tuple(edits),
        device=device,
    )
    logits_rows = torch.tensor(wanted, dtype=torch.int64, device=device)
    return list(model(replace(batch, logits_rows=logits_rows), cache).split(counts))
