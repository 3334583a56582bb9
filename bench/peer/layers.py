"""Beside transformers, which holds experts in bfloat16: the time of one layer, from networks of 2 and of 4 of them.

A layer of 20b takes 1.6 GB there. Both sides compute full-width layers, ours the first ones of the checkpoint with
numerics "exact", theirs random ones; a layer's time is half of what 4 take more than 2, so that embedding and
unembedding cancel. Which of transformers' implementations of experts is fastest is tried first.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peer import report
from bench.peer.process import SampleError, run_sample
from bench.peer.work import DECODE_B1, PREFILL, Work
from ossature.checkpoint import Checkpoint, open_checkpoint, write_checkpoint
from ossature.checkpoint.names import tensors

__all__ = ["FirstLayers", "compare", "layer_seconds", "table"]

DEPTHS = (2, 4)
FIGURES = (PREFILL, DECODE_B1)
EXPERTS = ("grouped_mm", "eager")  # batched_mm copies the chosen experts for each token: 17 GB at 128 tokens
OURS, THEIRS = "exact", "transformers"


class FirstLayers(Mapping[str, tuple[str, NDArray[np.generic]]]):
    """The tensors of a checkpoint cut to its first layers."""

    def __init__(self, checkpoint: Checkpoint, layers: int) -> None:
        kinds = checkpoint.config.layer_types[:layers]
        self.checkpoint = checkpoint
        self.config = replace(checkpoint.config, num_hidden_layers=layers, layer_types=kinds)
        self.names = [tensor.name for tensor in tensors(self.config)]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> tuple[str, NDArray[np.generic]]:
        tensor = self.checkpoint.tensor(name)
        return tensor.dtype, tensor.array


def layer_seconds(speeds: Mapping[int, float], tokens: int) -> float:
    """Seconds of one layer, from the tokens/s of networks of so many layers."""
    few, many = DEPTHS
    return (tokens / speeds[many] - tokens / speeds[few]) / (many - few)


def compare(
    model: Path, samples: int, threads: int, show: Callable[[str, Mapping[str, float]], None]
) -> dict[str, Any]:
    """Take samples of both sides in turn, at both depths."""
    taken: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ossature-layers-", dir=model.parent) as scratch:
        ours = {depth: _cut(model, depth, Path(scratch) / str(depth)) for depth in DEPTHS}
        best, tried = _fastest_experts(model, threads)
        for number in range(samples):
            work = Work(seed=number, figures=FIGURES)
            for depth in DEPTHS:
                task = {"model": str(ours[depth]), "numerics": "exact", "weights": "resident", "threads": threads}
                sample = run_sample("bench.peer.side_ossature", task | {"work": work.to_dict()})
                taken.append({"side": OURS, "layers": depth} | sample)
                figures: dict[str, float] = {}
                for experts in dict.fromkeys(best.values()):
                    own = tuple(figure for figure, chosen in best.items() if chosen == experts)
                    figures |= _theirs(model, depth, experts, threads, replace(work, figures=own))["figures"]
                taken.append({"side": THEIRS, "layers": depth, "figures": figures})
                for entry in taken[-2:]:
                    show(f"round {number + 1}, {entry['side']}, {depth} layers", entry["figures"])
    return _summary(taken) | {
        "rounds": samples,
        "circumstances": report.circumstances(),
        "settings": {"best": best, "tried": tried},
    }


def _cut(model: Path, layers: int, directory: Path) -> Path:
    cut = FirstLayers(open_checkpoint(model), layers)
    write_checkpoint(directory, cut.config, cut)
    return directory


def _theirs(model: Path, layers: int, experts: str, threads: int, work: Work) -> dict[str, Any]:
    task = {"model": str(model), "layers": layers, "experts": experts, "threads": threads, "work": work.to_dict()}
    return run_sample("bench.peer.side_transformers", task)


def _fastest_experts(model: Path, threads: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The implementation of experts that is fastest for each figure, and all that was tried."""
    tried: list[dict[str, Any]] = []
    for experts in EXPERTS:
        try:
            figures = _theirs(model, DEPTHS[0], experts, threads, Work(figures=FIGURES, steps=16))["figures"]
            tried.append({"experts": experts, "figures": figures})
        except SampleError as error:
            tried.append({"experts": experts, "error": str(error)})
    ran = [trial for trial in tried if "figures" in trial]
    if not ran:
        raise SampleError(f"transformers does not run: {tried[0]['error']}")
    best = {figure: max(ran, key=lambda trial: trial["figures"][figure])["experts"] for figure in FIGURES}
    return best, tried


def _summary(taken: list[dict[str, Any]]) -> dict[str, Any]:
    milliseconds: dict[str, dict[str, float]] = {}
    for figure, tokens in ((PREFILL, 512), (DECODE_B1, 1)):
        milliseconds[figure] = {}
        for side in (OURS, THEIRS):
            speeds = {
                depth: statistics.median(
                    sample["figures"][figure] for sample in taken if (sample["side"], sample["layers"]) == (side, depth)
                )
                for depth in DEPTHS
            }
            milliseconds[figure][side] = 1000 * layer_seconds(speeds, tokens)
    ratio = {f"{figure}_exact": times[THEIRS] / times[OURS] for figure, times in milliseconds.items()}
    return {"layer_ms": milliseconds, "ratio": ratio, "samples": taken}


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    about, best = result["circumstances"], result["settings"]["best"]
    lines = [
        f"{about['processor']}; commit {about['commit']}, transformers {about['transformers']}, "
        f"torch {about['torch']}; medians of {result['rounds']} interleaved rounds. Command: `{about['command']}`",
        "",
        "| one full-width layer | transformers, bfloat16 | its experts | ours, exact | ratio |",
        "|---|---|---|---|---|",
    ]
    for figure, times in result["layer_ms"].items():
        ratio = result["ratio"][f"{figure}_exact"]
        lines.append(f"| {figure} | {times[THEIRS]:.1f} ms | {best[figure]} | {times[OURS]:.1f} ms | {ratio:.2f} |")
    return "\n".join(lines)
