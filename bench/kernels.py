"""The products of gpt-oss-20b's layers, kernel by kernel: python bench/kernels.py [--isa NAME …] [--tokens 1,8,512]

GB/s of weights read and GFLOPS (a multiplication and an addition are two) of every instruction set, the best of several
calls that walk through more weights than a cache holds; beside it what the memory gives (bench.md says how).
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import torch

from ossature.ops import ExpertMatrix, Int8Matrix, cpu
from ossature.plan import hardware, read_bandwidth

EXPERTS, CHOSEN, HIDDEN, QUERY = 32, 4, 2880, 4096
LAYERS = 3  # 1.3 GB of experts


def best(call: Callable[[int], object], seconds: float = 1.0) -> float:
    """Least time of one call among those that fit into `seconds`, and at least five."""
    call(0)
    least, started = float("inf"), time.perf_counter()
    for number in itertools.count(1):
        begin = time.perf_counter()
        call(number)
        least = min(least, time.perf_counter() - begin)
        if number >= 5 and time.perf_counter() - started > seconds:
            return least
    raise AssertionError


def random_experts(size_out: int, size_in: int) -> ExpertMatrix:
    shape = (EXPERTS, size_out, size_in // 32)
    blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
    return ExpertMatrix(torch.zeros(EXPERTS, size_out), blocks, torch.randint(118, 122, shape, dtype=torch.uint8))


def show(name: str, isa: str, tokens: int, seconds: float, moved: float, products: float) -> None:
    print(
        f"{name:<18}{isa:<13}{tokens:>6}{1000 * seconds:>10.2f} ms{moved / seconds / 1e9:>8.1f} GB/s"
        f"{2 * products / seconds / 1e9:>9.0f} GFLOPS",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", default=list(cpu.isas()), choices=cpu.isas())
    parser.add_argument("--tokens", default="1,8,512")
    options = parser.parse_args()
    threads = cpu.threads()
    read = read_bandwidth(threads=threads, size=1 << 30)
    print(f"{hardware().processor}, {threads} threads, {read:.1f} GB/s read from huge pages")
    experts = [(random_experts(2 * HIDDEN, HIDDEN), random_experts(HIDDEN, HIDDEN)) for _ in range(LAYERS)]
    dense = [torch.randn(QUERY, HIDDEN).bfloat16() for _ in range(32)]
    int8 = [Int8Matrix.quantize(weight) for weight in dense]
    for isa, tokens in itertools.product(options.isa, map(int, options.tokens.split(","))):
        x, share = torch.randn(tokens, HIDDEN).bfloat16(), torch.full((tokens, CHOSEN), 1 / CHOSEN)
        index = torch.stack([torch.randperm(EXPERTS)[:CHOSEN] for _ in range(tokens)])
        one = 3 * HIDDEN * HIDDEN
        for name, rounded in (("experts, exact", False), ("experts, int8 x", True)):
            mixture = partial(cpu.experts, x, index, share, alpha=1.702, limit=7.0, int8=rounded, isa=isa)
            seconds = best(lambda n, call=mixture: call(*experts[n % LAYERS]))
            show(name, isa, tokens, seconds, len(index.unique()) * one * 17 / 32, tokens * CHOSEN * one)
        size, product = QUERY * HIDDEN, partial(cpu.linear, x, isa=isa)
        seconds = best(lambda n, call=product: call(dense[n % len(dense)]))
        show("linear, bfloat16", isa, tokens, seconds, size * 2, tokens * size)
        seconds = best(lambda n, call=product: call(int8[n % len(int8)]))
        show("linear, int8", isa, tokens, seconds, size * 34 / 32, tokens * size)


if __name__ == "__main__":
    main()
