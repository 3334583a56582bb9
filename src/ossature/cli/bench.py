"""`ossature bench`: how fast a model runs here, beside what this machine can do."""

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ossature.cli import options
from ossature.cli.terminal import printable
from ossature.errors import notice

if TYPE_CHECKING:
    from ossature.plan import BenchReport

__all__ = ["command"]


def command(
    model: options.Model = "mini",
    numerics: options.Numerics = "exact",
    weights: options.Weights = "auto",
    batch: Annotated[str | None, typer.Option(metavar="N,…", help="Sequences decoded at once: 1,2,4,8.")] = None,
    depth: Annotated[
        str | None, typer.Option(metavar="N,…", help="Tokens before the decoded ones: 0,4096,16384.")
    ] = None,
    prefill: Annotated[str | None, typer.Option(metavar="N,…", help="Tokens of a prompt: 128,512,2048.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes, few repeats: seconds, and rough figures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    dtype: options.Dtype = "bfloat16",
) -> None:
    """Measure decoding, prefill, loading and memory, and the limits of this machine in the same run."""
    sizes = {
        "batches": _numbers(batch, "--batch"),
        "depths": _numbers(depth, "--depth"),
        "prefills": _numbers(prefill, "--prefill"),
    }
    from ossature.ops import cpu
    from ossature.plan import Workload, bench

    if not cpu.available:
        notice(cpu.reason)
    report = bench(
        model,
        numerics=numerics,
        weights=weights,
        dtype=dtype,
        int8_cache=options.int8_cache(),
        workload=partial(Workload.fitting, **sizes, quick=quick),
        tell=_tell,
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=2))
    else:
        for line in _lines(report):
            typer.echo(printable(line, sys.stdout))


def _numbers(text: str | None, option: str) -> list[int]:
    """The numbers of a list such as 1,2,4; empty for None."""
    if text is None:
        return []
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of whole numbers, such as 1,2,4", param_hint=option) from error


def _tell(what: str) -> None:
    """Somebody who waits at a terminal sees what is measured now."""
    if sys.stderr.isatty():
        notice(what)


def _lines(report: "BenchReport") -> Iterator[str]:
    """The report for a person to read."""
    here = report.hardware
    read, peak = report.read(), report.peak()
    yield f"model       {report.model}, numerics {report.numerics}, weights {report.weights}"
    yield f"machine     {here.processor}, {here.cores} cores, load {report.load_average:.1f} at the start"
    if report.limits:
        yield from _limit_lines(report)
    total = report.start_to_first_token
    yield (
        f"load        {report.load_seconds:.2f} s, first token after a prompt of 16: {report.first_token_seconds:.2f} s"
        + ("" if total is None else f"; {total:.2f} s from the start of Python to there")
    )
    if report.peak_memory_bytes is not None:
        yield f"memory      {report.peak_memory_bytes / 1e9:.2f} GB at most, mapped pages included"
    yield ""
    held = "read" if read is None else f"of {read[1]:.1f} ({read[0]})"
    yield f"decode      {'batch':>6}{'depth':>8}{'tokens/s':>11}{'MB a step':>12}{'GB/s':>8}  {held}"
    for row in report.decode:
        speed = row.gigabytes_per_second
        yield (
            f"            {row.batch:>6}{row.depth:>8}{row.tokens_per_second:>11.2f}{row.traffic.total / 1e6:>12.1f}"
            f"{speed:>8.2f}  {_share(speed, read)}"
        )
    yield ""
    held = "peak" if peak is None else f"of {peak[1]:.0f} ({peak[0]})"
    yield f"prefill     {'tokens':>14}{'tokens/s':>11}{'ms a token':>12}{'GOPS':>8}  {held}"
    for prompt in report.prefill:
        yield (
            f"            {prompt.tokens:>14}{prompt.tokens_per_second:>11.2f}{1e3 / prompt.tokens_per_second:>12.2f}"
            f"{prompt.gops:>8.1f}  {_share(prompt.gops, peak)}"
        )


def _limit_lines(report: "BenchReport") -> Iterator[str]:
    """Each limit before and after the rows."""
    every = report.limits
    yield f"limits      on {every[0].threads} threads, before → after; shares below are of the mean"
    if every[0].read_huge is not None:
        huge = _pair([limits.read_huge or 0 for limits in every])
        yield f"            {huge} GB/s read_huge: huge pages, as resident weights have"
    small = _pair([limits.read_4k for limits in every])
    yield f"            {small} GB/s read_4k: pages of 4 KiB, as mapped files have"
    for name in every[0].dot:
        yield f"            {_pair([limits.dot[name] for limits in every])} GOPS {name}"


def _pair(values: list[float]) -> str:
    return " → ".join(f"{value:6.1f}" for value in values)


def _share(value: float, limit: tuple[str, float] | None) -> str:
    return "not known" if limit is None else f"{100 * value / limit[1]:.1f} %"
