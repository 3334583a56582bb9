"""More model than memory: python bench/streaming.py -m DIR [--share 0.5] [--tokens 32]

Locks the machine's memory (bench/balloon.py) until what is left for the model is `share` of its weights, then decodes.
Reports what the disk gave, the time of a layer, and what 36 layers of gpt-oss-120b would take by arithmetic.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from balloon import balloon

BESIDE = 3_000_000_000  # the interpreter, torch, activations, cache and the system
LAYERS_120B = 36

SAMPLE = """
import json, sys, time
import torch, ossature
from ossature.model import Batch, KVCache
model = ossature.load(sys.argv[1])
network, tokens = model.model, int(sys.argv[2])
cache = KVCache(network.config, max_sequences=1, max_tokens=tokens + 16, slack=16)
slot = cache.open()
generator = torch.Generator().manual_seed(0)
def read():
    return int(next(l for l in open("/proc/self/io") if l.startswith("read_bytes")).split()[1])
steps, before = [], read()
with torch.inference_mode():
    for _ in range(tokens):
        ids = torch.randint(0, network.config.vocab_size, (1,), generator=generator).tolist()
        begin = time.perf_counter()
        network(Batch.packed([ids], slots=[slot], starts=[cache.extend(slot, 1)], last_only=True), cache)
        steps.append(time.perf_counter() - begin)
print(json.dumps({"placement": network.placement, "layers": network.config.num_hidden_layers, "steps": steps,
                  "read": read() - before}))
"""


def main() -> None:
    """Take the memory, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the weights that memory is left for")
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    size = sum(file.stat().st_size for file in options.model.rglob("*.safetensors"))
    with balloon(int(size * options.share) + BESIDE) as held:
        print(f"{size / 1e9:.1f} GB of weights, {held / 1e9:.1f} GB locked, {size * options.share / 1e9:.1f} GB left")
        started = time.time()
        command = [sys.executable, "-c", SAMPLE, str(options.model), str(options.tokens)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    steps, layers = found["steps"], found["layers"]
    later = steps[len(steps) // 2 :]
    token = sum(later) / len(later)
    print(
        f"{found['placement']}: {len(steps)} tokens in {time.time() - started:.0f} s, load included; the later half at "
        f"{token:.2f} s a token, {1000 * token / layers:.0f} ms a layer; {found['read'] / sum(steps) / 1e9:.2f} GB/s "
        f"from the disk. {LAYERS_120B} layers by arithmetic: {token / layers * LAYERS_120B:.1f} s a token"
    )


if __name__ == "__main__":
    main()
