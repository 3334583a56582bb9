"""Time and memory from the shell to the first token: python bench/start.py -m DIR [--runs 3]

For each way of loading, whole processes one after the other: Python's start, loading, the first token of a prompt of 16
tokens. The files (and for "fast" its int8 copy) are read into the page cache before each run. The peak is VmHWM, mapped
pages included, after a prompt that fills 8,192 positions of the cache.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = (("exact", "mapped"), ("fast", "mapped"), ("exact", "resident"), ("fast", "resident"))

SAMPLE = """
import json, sys, time
model, numerics, weights, context = sys.argv[1:]
import torch, ossature
from ossature.model import Batch, KVCache
from ossature.plan.hardware import peak_memory
network = ossature.load(model, numerics=numerics, weights=weights).model
cache = KVCache(network.config, max_sequences=1, max_tokens=9000, slack=512)
slot = cache.open()
def feed(count):
    start = cache.extend(slot, count)
    ids = [7 * i % network.config.vocab_size for i in range(count)]
    batch = Batch.packed([ids], slots=[slot], starts=[start], last_only=True)
    with torch.inference_mode():
        return network(batch, cache)
feed(16).argmax()
print(json.dumps({"first": time.time()}), flush=True)
while int(context) and cache.length(slot) < int(context):
    feed(min(512, int(context) - cache.length(slot)))
steps = []
for _ in range(16):
    begin = time.perf_counter()
    feed(1)
    steps.append(time.perf_counter() - begin)
print(json.dumps({"peak": peak_memory(), "step": sorted(steps)[8]}))
"""


def warm(paths: list[Path]) -> None:
    """Read files into the page cache."""
    buffer = bytearray(1 << 26)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def run(model: str, numerics: str, weights: str, context: int) -> dict[str, float]:
    """One process: seconds to the first token, peak bytes, seconds a step of decoding at the end."""
    begun = time.time()
    command = [sys.executable, "-c", SAMPLE, model, numerics, weights, str(context)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    first, last = (json.loads(line) for line in lines[-2:])
    return {"first": first["first"] - begun, **last}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--first-only", action="store_true", help="nothing of the 8,192 positions")
    parser.add_argument("--leave", type=float, metavar="GB", help="lock the rest of the memory (bench/balloon.py)")
    options = parser.parse_args()
    if options.leave is not None:
        from balloon import balloon

        with balloon(int(options.leave * 1e9)) as held:
            print(f"{held / 1e9:.1f} GB are locked, {options.leave:g} GB are left")
            for numerics in ("fast", "exact"):
                found = run(options.model, numerics, "resident", 8192)
                print(f"{numerics}, resident, 8k: {1 / found['step']:.2f} tokens/s, peak {found['peak'] / 1e9:.2f} GB")
        return
    files = sorted(Path(options.model).rglob("*.safetensors"))
    print("| numerics, weights | to the first token, s | peak at 8k, GB | decode there, tokens/s |\n|---|---|---|---|")
    for numerics, weights in WAYS:
        copies = sorted((Path.home() / ".cache/ossature/int8").glob("*.safetensors")) if numerics == "fast" else []
        times: list[float] = []
        for _ in range(options.runs):
            warm(copies + files)
            times.append(run(options.model, numerics, weights, 0)["first"])
        end = run(options.model, numerics, weights, 0 if options.first_only else 8192)
        peak, speed = end["peak"] / 1e9, 1 / end["step"]
        print(f"| {numerics}, {weights} | {statistics.median(times):.2f} | {peak:.2f} | {speed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
