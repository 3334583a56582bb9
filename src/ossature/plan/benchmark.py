"""One run of `ossature bench`: the machine's limits, the load, every row, and the limits again."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import torch

from ossature.config import ModelConfig
from ossature.errors import ConfigError, ContextLengthError, notice
from ossature.model import Transformer
from ossature.ops import cpu
from ossature.plan.bandwidth import Limits, measure_limits
from ossature.plan.hardware import Hardware, hardware, peak_memory, reset_peak_memory, seconds_since_start
from ossature.plan.speed import (
    CHUNK,
    WARM_STEPS,
    DecodeSpeed,
    Effort,
    PrefillSpeed,
    measure_decode,
    measure_prefill,
)
from ossature.session import load

__all__ = ["BenchReport", "Workload", "bench"]

BATCHES, DEPTHS, PREFILLS = (1, 2, 4, 8), (0, 4096, 16384), (128, 512, 2048)
QUICK_BATCHES, QUICK_DEPTHS, QUICK_PREFILLS = (1, 2), (0, 1024), (128,)
FIRST_PROMPT = 16


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured.

    batches, depths  decode: every batch size at the first depth, every other depth at the first batch size
    prefills         lengths of prompts
    decode, prefill  how often each row is measured
    quick            the limits, too, are measured in less time
    """

    batches: tuple[int, ...]
    depths: tuple[int, ...]
    prefills: tuple[int, ...]
    decode: Effort
    prefill: Effort
    quick: bool

    @classmethod
    def fitting(
        cls,
        config: ModelConfig,
        *,
        batches: Sequence[int] = (),
        depths: Sequence[int] = (),
        prefills: Sequence[int] = (),
        quick: bool = False,
    ) -> "Workload":
        """The sizes asked for; for an empty list, the usual ones, shortened to the model's context.

        Raises ContextLengthError for a size asked for that exceeds the context, ConfigError for one that is none.
        """
        decode = Effort(least=3, most=3, seconds=0) if quick else Effort(least=5, most=32, seconds=5)
        prefill = Effort(least=1, most=1, seconds=0) if quick else Effort(least=3, most=10, seconds=10)
        context = config.max_position_embeddings
        deepest = context - WARM_STEPS - decode.most
        for name, sizes, least, most in (
            ("batch", batches, 1, None),
            ("depth", depths, 0, deepest),
            ("prefill", prefills, 1, context),
        ):
            for size in sizes:
                if size < least:
                    raise ConfigError(f"{name} {size} cannot be measured; it is {least} or more.")
                if most is not None and size > most:
                    raise ContextLengthError(
                        f"{name} {size} does not fit the model's context of {context} tokens; the most is {most}."
                    )
        usual = (QUICK_BATCHES, QUICK_DEPTHS, QUICK_PREFILLS) if quick else (BATCHES, DEPTHS, PREFILLS)
        return cls(
            batches=tuple(batches or usual[0]),
            depths=tuple(depths or dict.fromkeys(max(0, min(depth, deepest)) for depth in usual[1])),
            prefills=tuple(prefills or dict.fromkeys(min(tokens, context) for tokens in usual[2])),
            decode=decode,
            prefill=prefill,
            quick=quick,
        )

    def decode_rows(self) -> Iterator[tuple[int, int]]:
        """Batch size and depth of every row."""
        first_batch, first_depth = self.batches[0], self.depths[0]
        yield from ((batch, first_depth) for batch in self.batches)
        yield from ((first_batch, depth) for depth in self.depths[1:])


@dataclass(frozen=True, slots=True)
class BenchReport:
    """model             directory of the checkpoint
    weights           "mapped" | "resident" | "streamed": where `load` put them
    load_average      of the machine when the run began: other work that the figures share it with
    torch_threads     that torch computes with
    limits            before and after the rows; empty without the extension
    start_seconds     from the start of the process until the package and torch were imported; None if not known
    first_token_seconds  of a prompt of 16 tokens, the first thing that the loaded model computed
    peak_memory_bytes    from before the load to after the rows, mapped pages included; None if not known
    """

    model: str
    numerics: str
    weights: str
    dtype: str
    hardware: Hardware
    load_average: float
    torch_threads: int
    limits: tuple[Limits, ...]
    start_seconds: float | None
    load_seconds: float
    first_token_seconds: float
    decode: tuple[DecodeSpeed, ...]
    prefill: tuple[PrefillSpeed, ...]
    peak_memory_bytes: int | None

    def read(self) -> tuple[str, float] | None:
        """What decoding is held against: "read_huge" for resident weights, "read_4k" for mapped ones, and its GB/s."""
        if not self.limits:
            return None
        huge = self.weights == "resident" and self.limits[0].read_huge is not None
        return "read_huge" if huge else "read_4k", fmean(limits.read(huge_pages=huge) for limits in self.limits)

    def peak(self) -> tuple[str, float] | None:
        """What prefill is held against: the fastest dot product of the type that is computed in, and its GOPS."""
        kind = "int8" if self.numerics == "fast" else {"bfloat16": "bf16"}.get(self.dtype, self.dtype)
        name = self.limits[0].dot_of(kind) if self.limits else None
        return None if name is None else (name, fmean(limits.dot[name] for limits in self.limits))

    @property
    def start_to_first_token(self) -> float | None:
        """Seconds from the start of Python to the first token, without what was measured in between."""
        return None if self.start_seconds is None else self.start_seconds + self.load_seconds + self.first_token_seconds

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON. Shares are of the mean of the limits before and after."""
        read, peak = self.read(), self.peak()
        limits: dict[str, object] = {
            "threads": self.hardware.cores,
            **{when: asdict(limits) for when, limits in zip(("before", "after"), self.limits, strict=False)},
            "read": None if read is None else {"name": read[0], "gb_per_s": read[1]},
            "peak": None if peak is None else {"name": peak[0], "gops": peak[1]},
        }
        return {
            "model": self.model,
            "numerics": self.numerics,
            "weights": self.weights,
            "dtype": self.dtype,
            "machine": asdict(self.hardware),
            "load_average": self.load_average,
            "torch_threads": self.torch_threads,
            "limits": limits,
            "start_s": self.start_seconds,
            "load_s": self.load_seconds,
            "first_token_s": self.first_token_seconds,
            "start_to_first_token_s": self.start_to_first_token,
            "decode": [_decode_dict(row, read) for row in self.decode],
            "prefill": [_prefill_dict(row, peak) for row in self.prefill],
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def bench(
    model: str | os.PathLike[str],
    *,
    numerics: str = "exact",
    weights: str = "auto",
    dtype: str = "bfloat16",
    int8_cache: str | os.PathLike[str] | None = None,
    workload: Callable[[ModelConfig], Workload] = Workload.fitting,
    tell: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Load a model and measure it.

    workload  what to measure, once the model's config is known
    tell      is told what is measured next

    Raises as `ossature.load` and `workload` do.
    """
    start = seconds_since_start()
    busy = os.getloadavg()[0]
    here = hardware()
    started = time.perf_counter()
    session = load(model, numerics=numerics, weights=weights, dtype=dtype, int8_cache=int8_cache)
    load_seconds = time.perf_counter() - started
    network = session.model
    plan = workload(session.config)
    first = measure_prefill(network, tokens=FIRST_PROMPT, effort=Effort(1, 1, 0))
    peak = [peak_memory()]

    tell("the limits of this machine")
    before = _limits(here.cores, quick=plan.quick)
    if before and not reset_peak_memory():
        notice("the system does not let the peak of memory be counted anew: it includes what measured the bandwidth")
    decode, prefill = _rows(network, plan, numerics, tell)
    peak.append(peak_memory())
    tell("the limits again")
    after = _limits(here.cores, quick=plan.quick)
    return BenchReport(
        model=str(session.checkpoint.directory),
        numerics=numerics,
        weights=network.placement,
        dtype=dtype,
        hardware=here,
        load_average=busy,
        torch_threads=torch.get_num_threads(),
        limits=(*before, *after),
        start_seconds=start,
        load_seconds=load_seconds,
        first_token_seconds=first.seconds[0],
        decode=decode,
        prefill=prefill,
        peak_memory_bytes=max((size for size in peak if size is not None), default=None),
    )


def _limits(threads: int, *, quick: bool) -> tuple[Limits, ...]:
    return (measure_limits(threads=threads, quick=quick),) if cpu.available else ()


def _rows(
    model: Transformer, plan: Workload, numerics: str, tell: Callable[[str], None]
) -> tuple[tuple[DecodeSpeed, ...], tuple[PrefillSpeed, ...]]:
    tell("warming up")  # one chunk of a prompt uses nearly every expert
    measure_prefill(model, tokens=min(CHUNK, model.config.max_position_embeddings), effort=Effort(1, 1, 0))
    decode: list[DecodeSpeed] = []
    for batch, depth in plan.decode_rows():
        tell(f"decode, batch {batch}, depth {depth}")
        decode.append(measure_decode(model, batch=batch, depth=depth, numerics=numerics, effort=plan.decode))
    prefill: list[PrefillSpeed] = []
    for tokens in plan.prefills:
        tell(f"prefill, {tokens} tokens")
        prefill.append(measure_prefill(model, tokens=tokens, effort=plan.prefill))
    return tuple(decode), tuple(prefill)


def _decode_dict(row: DecodeSpeed, read: tuple[str, float] | None) -> dict[str, object]:
    return {
        "batch": row.batch,
        "depth": row.depth,
        "steps": len(row.seconds),
        "step_s": median(row.seconds),
        "tokens_per_s": row.tokens_per_second,
        "experts_per_layer": row.experts,
        "bytes": {**asdict(row.traffic), "total": row.traffic.total},
        "gb_per_s": row.gigabytes_per_second,
        "share_of_read": None if read is None else row.gigabytes_per_second / read[1],
    }


def _prefill_dict(row: PrefillSpeed, peak: tuple[str, float] | None) -> dict[str, object]:
    return {
        "tokens": row.tokens,
        "prompts": len(row.seconds),
        "prompt_s": median(row.seconds),
        "tokens_per_s": row.tokens_per_second,
        "operations": row.operations,
        "gops": row.gops,
        "share_of_peak": None if peak is None else row.gops / peak[1],
    }
