"""Our own side; bench/peers.py starts its samples."""

import json
import sys
from collections.abc import Sequence

import torch

import ossature
from bench.peer.process import peak_bytes
from bench.peer.work import Work, measure
from ossature.model import Batch, KVCache, Transformer

__all__ = ["Ossature"]

POSITIONS = 1024


class Ossature:
    """A loaded network, through the calls that the engine makes."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.vocab_size = model.config.vocab_size

    def begin(self, sequences: int) -> None:
        """A new cache; its memory is only reserved."""
        self.cache = KVCache(
            self.model.config, max_sequences=sequences, max_tokens=POSITIONS, slack=512, dtype=self.model.dtype
        )
        self.slots = [self.cache.open() for _ in range(sequences)]

    def feed(self, ids: Sequence[Sequence[int]]) -> None:
        """One forward pass for all sequences."""
        starts = [self.cache.extend(slot, len(own)) for slot, own in zip(self.slots, ids, strict=True)]
        with torch.inference_mode():
            self.model(Batch.packed(ids, slots=self.slots, starts=starts, last_only=True), self.cache)


def bandwidth(threads: int) -> float:
    """What this machine reads from memory in GB/s: huge pages, one stream a thread."""
    from ossature.plan.bandwidth import read_bandwidth  # not needed by a sample that only measures the model

    return read_bandwidth(threads=threads, huge_pages=True)


def main() -> None:
    """Load, warm up, measure, print; or measure the memory alone."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    if "model" not in task:
        print(json.dumps({"bandwidth_gb_s": bandwidth(task["threads"])}))
        return
    session = ossature.load(task["model"], numerics=task["numerics"], weights=task["weights"])
    figures = measure(Ossature(session.model), Work.from_dict(task["work"]))
    print(json.dumps({"figures": figures, "peak_bytes": peak_bytes(), "version": ossature.__version__}))


if __name__ == "__main__":
    main()
