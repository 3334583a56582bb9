"""The compiled kernels on the CPU: check, allocate, call. The only file that touches the extension.

Each kernel exists once for every instruction set that was built; `isa` names the one in use, the best that this
machine can run. `isa=` forces another: the results agree within rounding, the speed does not.

These functions have no gradient: the dispatch in `ossature.ops` sends tensors that need one elsewhere.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ossature.errors import BackendError, ShapeError

if TYPE_CHECKING:
    from ossature._core import Kernels

__all__ = ["available", "dot_products", "dot_rate", "isa", "isas", "read_seconds", "reason", "rmsnorm"]

_REBUILD = (
    "Install a C++17 compiler (Debian and Ubuntu: apt-get install g++ python3-dev) and install ossature again; "
    "`pip install -v` shows what the build missed."
)


def _load() -> "tuple[dict[str, Kernels], str]":
    """The kernels of every instruction set that runs here, best first, and a sentence for the person."""
    try:
        import ossature._core as core
    except ModuleNotFoundError:
        return {}, f"ossature was installed without its compiled kernels, so plain torch is used. {_REBUILD}"
    except ImportError as error:
        return {}, f"the compiled kernels of ossature cannot be loaded ({error}), so plain torch is used. {_REBUILD}"
    names = core.usable()
    return {name: core.kernels(name) for name in names}, f"compiled kernels for {names[0]}, the best set that runs here"


_kernels, reason = _load()
available: bool = bool(_kernels)
isa: str = next(iter(_kernels), "none")

# The codes of csrc/bind.cpp; test_build.py holds them against the extension.
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}


def isas() -> tuple[str, ...]:
    """Instruction sets that were built and run on this machine, best first; empty without the extension."""
    return tuple(_kernels)


def rmsnorm(x: Tensor, weight: Tensor, eps: float, *, isa: str | None = None) -> Tensor:
    """Each row divided by its root mean square, times the weight.

    x       (..., cols)  float32 | bfloat16, contiguous, on the CPU
    weight  (cols,)      float32 | bfloat16, contiguous, on the CPU; need not be of the dtype of x
    eps     float        added to the mean of the squares

    Returns (..., cols), dtype of x: computed in float32 and rounded once, to nearest even.
    Raises ShapeError, BackendError. Source: arXiv:1910.07467; oracle: reference.rmsnorm.
    """
    kernels = _kernels_of(isa)
    if x.dim() == 0 or weight.shape != x.shape[-1:]:
        raise ShapeError(
            f"rmsnorm: x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}. "
            "The weight needs one value for each entry of the last dimension of x."
        )
    _check("rmsnorm", x=x, weight=weight)
    out = torch.empty_like(x)
    cols = x.shape[-1]
    rows = x.numel() // cols if cols else 0
    kernels.rmsnorm(
        out.data_ptr(), x.data_ptr(), weight.data_ptr(), rows, cols, eps, _DTYPES[x.dtype], _DTYPES[weight.dtype]
    )
    return out


# The limits of the machine (csrc/probe.h): no operations of the network, but compiled with them. `plan` asks.


def read_seconds(data: int, size: int, *, threads: int) -> float:
    """Seconds in which `threads` threads read `size` bytes at address `data` once, each its own contiguous part.

    Whole pages of 4096 bytes are read. Raises BackendError without the extension.
    """
    _require_extension()
    from ossature import _core

    return _core.read_seconds(data, size, threads)


def dot_products() -> tuple[str, ...]:
    """The dot products that this processor can run, fastest first, each "set_type"; empty without the extension."""
    if not available:
        return ()
    from ossature import _core

    return tuple(_core.dot_products())


def dot_rate(name: str, *, threads: int, seconds: float) -> float:
    """Operations a second (a multiplication and an addition are two) that `threads` threads reach in registers.

    name  one of `dot_products()`. Raises BackendError for another.
    """
    _require_extension()
    if name not in dot_products():
        raise BackendError(f"dot product {name!r} was asked for; this processor runs {', '.join(dot_products())}.")
    from ossature import _core

    return _core.dot_rate(name, threads, seconds)


def _require_extension() -> None:
    if not _kernels:
        raise BackendError(f"a compiled kernel was asked for, but {reason}")


def _kernels_of(name: str | None) -> "Kernels":
    _require_extension()
    try:
        return _kernels[name or isa]
    except KeyError:
        usable = ", ".join(_kernels)
        raise BackendError(f"instruction set {name!r} was asked for; this machine and build offer {usable}.") from None


def _check(op: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not (tensor.is_cpu and tensor.dtype in _DTYPES and tensor.is_contiguous()):
            layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
            raise ShapeError(
                f"{op}: {name} is {tensor.dtype} on {tensor.device}, {layout}. "
                "The compiled kernel takes float32 or bfloat16, contiguous, on the CPU."
            )
