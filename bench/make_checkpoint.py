"""Write a random checkpoint to measure with: python bench/make_checkpoint.py SIZE DIR [--layers N]

SIZE is tiny, 20b (13.8 GB of disk) or 120b (65.2 GB); with `--layers` it has that many layers of the same widths: a
layer of 20b takes 0.48 GB, one of 120b 1.75 GB, and what is not in layers 2.3 GB. One tensor is in memory at a time,
the largest having 1.2 GB. Scales are such that activations have about unit size.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.*, when run as a script

from ossature.checkpoint import open_checkpoint
from ossature.checkpoint.writer import MAX_SHARD_BYTES
from ossature.config import FULL, SLIDING, ModelConfig
from tests.published_configs import SIZES, huggingface
from tests.random_checkpoint import small_config, write_random


def config_of(size: str, layers: int | None = None) -> ModelConfig:
    """The config of `size`, with its own number of layers or another; window and full ones take turns."""
    config = small_config() if size == "tiny" else ModelConfig.from_dict(huggingface(size) | {"dtype": "bfloat16"})
    if layers is None:
        return config
    kinds = tuple((SLIDING, FULL)[layer % 2] for layer in range(layers))
    return replace(config, num_hidden_layers=layers, layer_types=kinds)


def main() -> None:
    """Read the options, write the checkpoint, open it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=["tiny", *SIZES])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, metavar="N", help="layers to write, of the widths of SIZE (default: all)")
    parser.add_argument("--layout", choices=["huggingface", "original"], default="huggingface")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = config_of(options.size, options.layers)
    started = time.perf_counter()
    write_random(options.directory, config, seed=options.seed, layout=options.layout, max_shard_bytes=MAX_SHARD_BYTES)
    written = time.perf_counter()
    checkpoint = open_checkpoint(options.directory)
    opened = time.perf_counter()
    print(
        f"{options.directory}: {checkpoint.total_bytes:,} bytes in {len(checkpoint.files)} files, "
        f"written in {written - started:.1f} s, opened and checked in {1000 * (opened - written):.1f} ms"
    )


if __name__ == "__main__":
    main()
