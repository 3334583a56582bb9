"""The options that several commands share, and the model that they name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ossature.session import Session

__all__ = [
    "Device",
    "Dtype",
    "Effort",
    "MaxNewTokens",
    "MinP",
    "Model",
    "Numerics",
    "Seed",
    "System",
    "Temperature",
    "TopP",
    "Weights",
    "int8_cache",
    "open_session",
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="OSSATURE_MODEL",
        help="A checkpoint's directory, or mini, the model inside.",
    ),
]
Effort = Annotated[
    Literal["low", "medium", "high"], typer.Option("--effort", help="How much it reasons before it answers.")
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Instructions that stand above the chat.")]
Temperature = Annotated[
    float | None, typer.Option(min=0.0, metavar="T", help="0 takes the likeliest token; default: the model's own.")
]
TopP = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Keep the likeliest tokens up to this mass.")
]
MinP = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Drop tokens below this share of the likeliest.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same text.")]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Stop after N tokens; default: the rest of the context.")
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, or a device that torch knows, such as cuda.")]
Dtype = Annotated[Literal["bfloat16", "float32"], typer.Option(help="Type of the activations.")]


Numerics = Annotated[
    Literal["exact", "fast"],
    typer.Option(
        help="Compute with the stored weights, or with attention, unembedding and the experts' inputs rounded to int8."
    ),
]
Weights = Annotated[
    Literal["auto", "mapped", "resident"],
    typer.Option(help="Use weights from the mapped files, or copied into memory; auto: copied where that fits."),
]


def int8_cache() -> Path:
    """Where int8 copies of weights are kept: ossature/int8 below $XDG_CACHE_HOME, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ossature" / "int8"


def open_session(model: str, *, device: str, dtype: str, numerics: str, weights: str) -> "Session":
    """Load a model for a command. Says first, in one line, where the compiled kernels are missing."""
    from ossature.ops import cpu

    if not cpu.available:
        from ossature.errors import notice

        notice(cpu.reason)
    from ossature.session import load

    return load(model, device=device, dtype=dtype, numerics=numerics, weights=weights, int8_cache=int8_cache())
