"""What a decoding step spends its time on, operation by operation: python bench/operations.py -m DIR [--numerics fast]

A clock around every kernel of the step; what is left is Python, torch's small operations and the clock itself.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import ossature
from ossature.ops import cpu
from ossature.plan import read_bandwidth
from ossature.plan.speed import Effort, measure_decode

KERNELS = ("embed", "rmsnorm", "linear", "rope", "attention", "experts")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--numerics", default="fast", choices=("exact", "fast"))
    parser.add_argument("--weights", default="auto", choices=("auto", "mapped", "resident"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    session = ossature.load(options.model, numerics=options.numerics, weights=options.weights)
    threads = cpu.threads()
    print(f"{threads} threads, {read_bandwidth(threads=threads, size=1 << 30):.1f} GB/s read from huge pages")

    steps: list[tuple[defaultdict[str, float], Counter[str]]] = []  # seconds and calls by operation

    def clocked(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            out = kernel(*args, **named)
            seconds = time.perf_counter() - begin
            if name == "embed":  # a step begins with it
                steps.append((defaultdict(float), Counter()))
            label = "unembedding" if name == "linear" and out.shape[-1] == session.config.vocab_size else name
            steps[-1][0][label] += seconds
            steps[-1][1][label] += 1
            return out

        return call

    for name in KERNELS:
        setattr(cpu, name, clocked(name, getattr(cpu, name)))
    effort = Effort(options.steps, options.steps, 0)
    row = measure_decode(
        session.model, batch=options.batch, depth=options.depth, numerics=options.numerics, effort=effort
    )
    step, rest = median(row.seconds), median(row.seconds)
    for name, calls in steps[-1][1].items():
        seconds = median(of_step[name] for of_step, _ in steps[-len(row.seconds) :])
        rest -= seconds
        print(f"{name:<14}{calls:>5} calls{1e6 * seconds / calls:>10.0f} us{1e3 * seconds:>9.2f} ms a step")
    print(f"{'the rest':<37}{1e3 * rest:>9.2f} ms a step, {1e3 * step:.2f} ms in all")


if __name__ == "__main__":
    main()
