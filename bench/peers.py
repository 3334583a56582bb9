"""Our speed beside a peer's on the same weights, in one interleaved run: python bench/peers.py [--json FILE]

Needs the extra `peers` (`make peers`) and, where the random 20b and its GGUF are not there yet, 26 GB of disk. Each
sample is its own process: load, warm up, measure, end. Loading is not counted, and two models are never in memory
together. First it is checked that both compute the same (bench/peer/agreement.py); then llama.cpp's settings are tried,
and each figure uses those that are best for it; then the rounds follow, each of them
  fast, llama.cpp, exact    with resident weights, which the ratios are of, and
  fast, exact               with mapped ones, beside.
So every sample of llama.cpp has one of each of ours beside it.
A run in which llama.cpp decodes below half of what the memory allows is void: status 1, and nothing is written to docs.

With `--transformers` the peer is transformers in bfloat16, on 2 and 4 layers: see bench/peer/layers.py.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for bench.* and tests.*, when run as a script

from bench.make_checkpoint import config_of
from bench.peer import agreement, layers, report
from bench.peer.process import SampleError, run_sample, swap_page_cache
from bench.peer.settings import Search, Settings
from bench.peer.work import Work
from ossature.checkpoint import open_checkpoint
from ossature.checkpoint.writer import MAX_SHARD_BYTES
from ossature.errors import OssatureError
from tests.random_checkpoint import write_random

__all__ = ["Peers", "check_disk", "main", "order"]

OURS = {
    "fast": ("fast", "resident"),
    "exact": ("exact", "resident"),
    "fast_mapped": ("fast", "mapped"),
    "exact_mapped": ("exact", "mapped"),
}
CHECKPOINT_BYTES, GGUF_BYTES = 13_761_264_768, 12_096_587_328  # of 20b
TRIAL = Work(steps=8, steps_8=6, prefill=256, warm_up=32)  # to choose by; what is reported is measured in full


def order(*, mapped: bool) -> list[str]:
    """The sides of one round: ours and theirs take turns; mapped weights come after the pairs that count."""
    return ["fast", "llama_cpp", "exact", *(["fast_mapped", "exact_mapped"] if mapped else [])]


def check_disk(model: Path, gguf: Path | None) -> None:
    """Raise OSError unless what is missing of the two fits on the disks that they are to be on."""
    needed: dict[Path, int] = {}
    for path, size in ((model, CHECKPOINT_BYTES), (gguf, GGUF_BYTES)):
        if path is not None and not path.exists():
            place = next(parent for parent in path.absolute().parents if parent.exists())
            needed[place] = needed.get(place, 0) + size
    for place, size in needed.items():
        if (free := shutil.disk_usage(place).free) < size:
            raise OSError(f"{place}: {size / 1e9:.1f} GB are needed for the weights, {free / 1e9:.1f} GB are free.")


def prepare(model: Path, gguf: Path | None) -> None:
    """Write a random 20b and its GGUF where they are missing. Raises OSError when there is no room for them."""
    check_disk(model, gguf)
    if not model.exists():
        write_random(model, config_of("20b"), max_shard_bytes=MAX_SHARD_BYTES)
    if gguf is not None and not gguf.exists():
        from bench.peer.gguf_file import write_gguf  # needs the extra `peers`

        write_gguf(open_checkpoint(model), gguf)


@dataclass(frozen=True)
class Peers:
    """Takes samples of either side; everything that touches a process, so that a test can stand in for it."""

    model: Path
    gguf: Path
    threads: int

    def ours(self, side: str, seed: int) -> dict[str, Any]:
        """A sample of ours: `side` is a key of OURS."""
        swap_page_cache(out=[self.gguf], into=self._shards())
        numerics, weights = OURS[side]
        task = {"model": str(self.model), "numerics": numerics, "weights": weights, "threads": self.threads}
        sample = run_sample("bench.peer.side_ossature", task | {"work": Work(seed=seed).to_dict()})
        return {"side": side, "seed": seed} | sample

    def theirs(self, settings: Settings, work: Work) -> dict[str, Any]:
        """A sample of llama.cpp."""
        swap_page_cache(out=self._shards(), into=[self.gguf])
        task = {"gguf": str(self.gguf), "settings": settings.to_dict(), "work": work.to_dict()}
        sample = run_sample("bench.peer.side_llama_cpp", task, settings.environment)
        return {"side": "llama_cpp", "seed": work.seed, "settings": settings.to_dict()} | sample

    def bandwidth(self) -> float:
        """GB/s."""
        return run_sample("bench.peer.side_ossature", {"threads": self.threads})["bandwidth_gb_s"]

    def _shards(self) -> list[Path]:
        return sorted(self.model.rglob("*.safetensors"))


def sample_round(peers: Peers, best: Mapping[str, Settings], seed: int, *, mapped: bool) -> Iterator[dict[str, Any]]:
    """The samples of one round; llama.cpp is loaded once for each setting that is best for some figure."""
    for side in order(mapped=mapped):
        if side != "llama_cpp":
            yield peers.ours(side, seed)
            continue
        for settings in dict.fromkeys(best.values()):
            figures = tuple(figure for figure, chosen in best.items() if chosen == settings)
            yield peers.theirs(settings, Work(seed=seed, figures=figures))


def search(peers: Peers, earlier: Path | None) -> Search:
    """llama.cpp's best settings: tried now, or those that an earlier run's JSON says."""
    if earlier is not None:
        found = json.loads(earlier.read_text(encoding="utf-8"))["settings"]
        return Search({figure: Settings.from_dict(raw) for figure, raw in found["best"].items()}, found["tried"])

    def measured(settings: Settings) -> Mapping[str, float]:
        figures = peers.theirs(settings, TRIAL)["figures"]
        show(str(settings), figures)
        return figures

    found = Search()
    found.run(Settings(threads=peers.threads), measured)
    return found


def show(what: str, figures: Mapping[str, float]) -> None:
    """One line of progress."""
    print(f"{what}: {', '.join(f'{name} {value:.2f}' for name, value in figures.items())}", file=sys.stderr, flush=True)


def compare(
    peers: Peers, samples: int, *, mapped: bool, earlier: Path | None, keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The whole run against llama.cpp; `keep` gets the result after every round."""
    config = open_checkpoint(peers.model).config
    found = search(peers, earlier)
    settings = {"best": {f: s.to_dict() for f, s in found.best.items()}, "tried": found.tried}
    about, taken, bandwidth = report.circumstances() | {"agreement": agreement.check()}, [], []
    result: dict[str, Any] = {}
    for number in range(samples):
        bandwidth.append(peers.bandwidth())
        for sample in sample_round(peers, found.best, number, mapped=mapped):
            show(f"round {number + 1}, {sample['side']}", sample["figures"])
            taken.append(sample)
        result = {"rounds": number + 1, "circumstances": about, "settings": settings}
        result |= report.summary(taken, bandwidth, config) | {"bandwidth_samples": list(bandwidth)}
        keep(result)
    return result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    weights = Path("build/peers")
    parser.add_argument("--model", type=Path, default=weights / "20b", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--gguf", type=Path, default=weights / "20b.gguf", metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=7, metavar="N", help="rounds (default: 7)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="of either side")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="take llama.cpp's settings from this JSON")
    parser.add_argument("--resident-only", action="store_true", help="no samples with mapped weights")
    parser.add_argument("--transformers", action="store_true", help="measure beside transformers instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, medians and ratios")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this Markdown file")
    options = parser.parse_args(arguments)
    if options.samples < 1:
        parser.error(f"--samples {options.samples}: at least 1 is needed for a median.")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Read the options, compare, report; 1 for a run that is void or could not be made."""
    options = parse(arguments)

    def keep(result: Mapping[str, Any]) -> None:
        if options.json is not None:
            report.save(options.json, result)

    try:
        prepare(options.model, None if options.transformers else options.gguf)
        peers = Peers(options.model.resolve(), options.gguf.resolve(), options.threads)
        if options.transformers:
            result = layers.compare(peers.model, options.samples, options.threads, show)
            name, text, void = "transformers", layers.table(result), None
            keep({"transformers": result})
        else:
            result = compare(
                peers, options.samples, mapped=not options.resident_only, earlier=options.settings, keep=keep
            )
            name, text, void = "llama.cpp", report.table(result), result["void"]
    except (OssatureError, OSError, SampleError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    print(text)
    if options.write is not None and not void:
        report.write_section(options.write, name, text)
    return int(bool(void))


if __name__ == "__main__":
    sys.exit(main())
