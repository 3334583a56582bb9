"""From samples to medians, ratios, a verdict on the run, a table and files."""

import json
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peer.work import DECODE_B1, DECODE_B8, PREFILL
from ossature.config import ModelConfig

__all__ = ["RATIOS", "bytes_a_token", "circumstances", "medians", "save", "summary", "table", "void", "write_section"]

ROOT = Path(__file__).parents[2]
THEIRS = "llama_cpp"
RATIOS = tuple(f"{figure}_{numerics}" for figure in (DECODE_B1, DECODE_B8, PREFILL) for numerics in ("fast", "exact"))


def bytes_a_token(config: ModelConfig) -> float:
    """Bytes of weights that llama.cpp reads to decode one token: MXFP4 experts, Q8_0 attention and unembedding."""
    c = config
    experts = c.num_hidden_layers * c.num_experts_per_tok * 3 * c.hidden_size * c.intermediate_size
    heads = 2 * c.num_attention_heads + 2 * c.num_key_value_heads  # rows of q, k and v, columns of o
    dense = c.num_hidden_layers * heads * c.head_dim * c.hidden_size + c.vocab_size * c.hidden_size
    return experts * 17 / 32 + dense * 34 / 32


def void(decoded: float, bandwidth: float, config: ModelConfig) -> str | None:
    """Why a run says nothing: llama.cpp decodes (tokens/s) at less than half of what the memory (GB/s) allows."""
    allowed = bandwidth * 1e9 / bytes_a_token(config)
    if decoded >= allowed / 2:
        return None
    return (
        f"llama.cpp decoded {decoded:.2f} tokens/s, less than half of the {allowed:.2f} that {bandwidth:.1f} GB/s "
        f"allow at {bytes_a_token(config) / 1e9:.2f} GB a token"
    )


def medians(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Median of every figure of every side, tokens/s."""
    values: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        for figure, value in sample["figures"].items():
            values.setdefault(sample["side"], {}).setdefault(figure, []).append(value)
    return {side: {f: statistics.median(v) for f, v in figures.items()} for side, figures in values.items()}


def summary(samples: Sequence[Mapping[str, Any]], bandwidth: Sequence[float], config: ModelConfig) -> dict[str, Any]:
    """What `--json` writes of a run: medians, ratios, peak memory, bandwidth and whether the run counts.

    samples    each with `side` ("llama_cpp", "fast", "exact", "fast_mapped", "exact_mapped"), `figures`, `peak_bytes`
    bandwidth  GB/s, measured once a round
    """
    by_side = medians(samples)
    theirs, read = by_side[THEIRS], statistics.median(bandwidth)
    by_weights = {"": {}, "_mapped": {}}
    for weights, ours in by_weights.items():
        for numerics in ("fast", "exact"):
            for figure, value in by_side.get(numerics + weights, {}).items():
                ours[f"{figure}_{numerics}"] = value
    resident, mapped = by_weights.values()
    return {
        "ours": resident,
        "ours_mapped": mapped,
        THEIRS: theirs,
        "ratio": {name: resident[name] / theirs[name.rpartition("_")[0]] for name in RATIOS if name in resident},
        "ratio_mapped": {name: mapped[name] / theirs[name.rpartition("_")[0]] for name in RATIOS if name in mapped},
        "peak_bytes": {
            side: max(sample["peak_bytes"] for sample in samples if sample["side"] == side) for side in by_side
        },
        "bandwidth_gb_s": read,
        "void": void(theirs[DECODE_B1], read, config),
        "samples": list(samples),
    }


def table(result: Mapping[str, Any]) -> str:
    """A run's summary as Markdown."""
    about, theirs = result["circumstances"], result[THEIRS]
    lines = [
        f"{about['processor']}, {about['memory_gb']:.0f} GB of memory, read at {result['bandwidth_gb_s']:.1f} GB/s; "
        f"commit {about['commit']}, llama-cpp-python {about['llama_cpp']}; medians of {result['rounds']} interleaved "
        f"rounds, tokens/s. Command: `{about['command']}`",
        "",
        "| figure | llama.cpp | ours, resident | ratio | ours, mapped | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name in RATIOS:
        cells = [f"{theirs[name.rpartition('_')[0]]:.2f}"]
        for ours, ratio in (("ours", "ratio"), ("ours_mapped", "ratio_mapped")):
            known = name in result[ours]
            cells += [f"{result[ours][name]:.2f}", f"{result[ratio][name]:.2f}"] if known else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "llama.cpp's best settings, of those tried (all in the JSON):", ""]
    lines += [f"- {figure}: {_settings(settings)}" for figure, settings in result["settings"]["best"].items()]
    if result["void"]:
        lines += ["", f"**This run is void**: {result['void']}."]
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


def circumstances() -> dict[str, Any]:
    """Processor, memory, commit, command and versions."""
    from importlib.metadata import PackageNotFoundError, version

    from ossature.plan.hardware import hardware

    def known(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    memory = Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    names = {"llama_cpp": "llama-cpp-python", "torch": "torch", "transformers": "transformers"}
    return {
        "processor": hardware().processor,
        "memory_gb": int(memory) * 1024 / 1e9,
        "system": platform.platform(),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=12"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        **{name: known(package) for name, package in names.items()},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write `result` as JSON, keeping what another run left there under other keys."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(before | dict(result), indent=1) + "\n", encoding="utf-8")


def write_section(path: Path, name: str, text: str) -> None:
    """Put `text` into a Markdown file, in place of what an earlier run wrote there under the same name."""
    begin, end = f"<!-- bench/peers.py: {name} -->", f"<!-- end of {name} -->"
    document = path.read_text(encoding="utf-8") if path.exists() else ""
    section = f"{begin}\n{text}\n{end}\n"
    if begin in document and end in document:
        head, _, rest = document.partition(begin)
        _, _, tail = rest.partition(end + "\n")
        path.write_text(head + section + tail, encoding="utf-8")
    else:
        path.write_text(document + ("\n" if document else "") + section, encoding="utf-8")
