"""The compiled kernels on the CPU: check, allocate, call. The only file that touches the extension.

Each kernel exists once for every instruction set that was built; `isa` names the one in use, the best that this
machine can run. `isa=` forces another: the results agree within rounding, the speed does not. Kernels share one pool of
threads, of as many as this process may use cores; `set_threads` changes that.

These functions have no gradient: the dispatch in `ossature.ops` sends tensors that need one elsewhere.
"""

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ossature.errors import BackendError, ShapeError
from ossature.ops.expert_matrix import ExpertMatrix
from ossature.ops.int8_matrix import Int8Matrix
from ossature.ops.rows import Rows

if TYPE_CHECKING:
    from ossature._core import Kernels, Projection

__all__ = [
    "DTYPES",
    "attention",
    "attention_fits",
    "available",
    "dot_products",
    "dot_rate",
    "embed",
    "experts",
    "isa",
    "isas",
    "linear",
    "read_ahead",
    "read_seconds",
    "reason",
    "rmsnorm",
    "rope",
    "set_threads",
    "threads",
]

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
    core.set_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    names = core.usable()
    return {name: core.kernels(name) for name in names}, f"compiled kernels for {names[0]}, the best set that runs here"


_kernels, reason = _load()
available: bool = bool(_kernels)
isa: str = next(iter(_kernels), "none")

# What kernels take and give, with the codes of csrc/ops.h; test_build.py holds them against the extension.
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_INT8 = 3


def isas() -> tuple[str, ...]:
    """Instruction sets that were built and run on this machine, best first; empty without the extension."""
    return tuple(_kernels)


def threads() -> int:
    """Threads that a kernel runs on. Raises BackendError without the extension."""
    _require_extension()
    from ossature import _core

    return _core.threads()


def set_threads(count: int) -> None:
    """Run kernels on `count` threads, 1 to 1024, from the next call on. Raises BackendError."""
    _require_extension()
    from ossature import _core

    try:
        _core.set_threads(count)
    except ValueError as error:
        raise BackendError(f"{error}.") from None


def read_ahead(*tensors: Tensor) -> None:
    """Ask the system to read these contiguous tensors of a file mapping, without waiting for it."""
    from ossature import _core

    for tensor in tensors:
        _core.read_ahead(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def embed(token_ids: Tensor, weight: Tensor, dtype: torch.dtype, *, isa: str | None = None) -> Tensor:
    """Rows of weight (vocab, hidden) float32 | bfloat16 for token_ids (tokens,) int64 → (tokens, hidden) in `dtype`.

    Raises ShapeError, also for an id outside the vocabulary, and BackendError.
    """
    kernels = _kernels_of(isa)
    _check("embed", weight=weight)
    if token_ids.numel() and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < len(weight):
        raise ShapeError(f"embed: ids run from {int(token_ids.min())} to {int(token_ids.max())} of {len(weight)} rows.")
    token_ids = token_ids.contiguous()
    out = torch.empty(len(token_ids), weight.shape[1], dtype=dtype)
    tokens, cols = out.shape
    kernels.embed(
        out.data_ptr(), token_ids.data_ptr(), weight.data_ptr(), tokens, cols, DTYPES[dtype], DTYPES[weight.dtype]
    )
    return out


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
        out.data_ptr(), x.data_ptr(), weight.data_ptr(), rows, cols, eps, DTYPES[x.dtype], DTYPES[weight.dtype]
    )
    return out


def linear(
    x: Tensor,
    weight: Tensor | Int8Matrix,
    bias: Tensor | None = None,
    *,
    one_order: bool = False,
    isa: str | None = None,
) -> Tensor:
    """x (tokens, in) times weight (out, in) transposed, plus bias (out,); sums in float32, rounded once.

    weight     float32 | bfloat16, read as it is stored; or int8, for which x is rounded to int8 in blocks of 32
    one_order  one summation order for a row of x, whatever the number of rows

    Returns (tokens, out), dtype of x. Raises ShapeError, BackendError. Oracle: reference.linear.
    """
    kernels = _kernels_of(isa)
    if isinstance(weight, Int8Matrix):
        values, scales, code = weight.values, weight.scales.data_ptr(), _INT8
    else:
        _check("linear", weight=weight)
        values, scales, code = weight, 0, DTYPES[weight.dtype]
    _check("linear", x=x, **({} if bias is None else {"bias": bias}))
    (tokens, cols), rows = x.shape, values.shape[0]
    if values.shape[1] != cols or (bias is not None and bias.shape != (rows,)):
        raise ShapeError(f"linear: x {tuple(x.shape)} and weight {tuple(values.shape)} do not go together.")
    out = torch.empty(tokens, rows, dtype=x.dtype)
    kernels.linear(
        out.data_ptr(),
        x.data_ptr(),
        values.data_ptr(),
        scales,
        0 if bias is None else bias.data_ptr(),
        tokens,
        rows,
        cols,
        DTYPES[x.dtype],
        code,
        0 if bias is None else DTYPES[bias.dtype],
        one_order,
    )
    return out


def rope(x: Tensor, cos: Tensor, sin: Tensor, *, isa: str | None = None) -> Tensor:
    """Pairs (i, i + head_dim/2) of x (tokens, heads, head_dim) turned by cos, sin (tokens, head_dim/2) float32.

    Returns the shape and dtype of x. Raises ShapeError, BackendError. Oracle: reference.rope.
    """
    kernels = _kernels_of(isa)
    _check("rope", x=x, cos=cos, sin=sin)
    tokens, heads, dim = x.shape
    if cos.dtype != torch.float32 or sin.dtype != torch.float32 or not cos.shape == sin.shape == (tokens, dim // 2):
        raise ShapeError(
            f"rope: x {tuple(x.shape)} needs cos and sin {(tokens, dim // 2)} in float32, not {tuple(cos.shape)}."
        )
    out = torch.empty_like(x)
    kernels.rope(out.data_ptr(), x.data_ptr(), cos.data_ptr(), sin.data_ptr(), tokens, heads, dim, DTYPES[x.dtype])
    return out


def attention_fits(q: Tensor, k: Tensor) -> bool:
    """Whether a thread's scratch memory holds the scores of a head group: it does for every published model."""
    from ossature import _core

    group, dim = q.shape[1] // k.shape[1], q.shape[2]
    return 4 * group * (512 + 3 * dim + 4) <= _core.SCRATCH_BYTES


def attention(
    q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, rows: Rows, *, scale: float, isa: str | None = None
) -> Tensor:
    """Causal attention with one learned sink logit a head; shapes as in `ossature.ops.attention`.

    Scores, softmax and sums are float32; a query's numbers do not depend on what else is in the batch.

    Returns (tokens, heads, head_dim), dtype of q. Raises ShapeError, BackendError. Oracle: reference.attention.
    """
    from ossature import _core

    kernels = _kernels_of(isa)
    _check("attention", q=q, k=k, v=v, sinks=sinks)
    (tokens, heads, dim), kv_heads = q.shape, k.shape[1]
    if not q.dtype == k.dtype == v.dtype or k.shape != v.shape or k.shape[2] != dim or heads % kv_heads:
        raise ShapeError(f"attention: q {q.dtype} {tuple(q.shape)} and k {k.dtype} {tuple(k.shape)} do not fit.")
    out = torch.empty_like(q)
    positions, sequences, table = (t.contiguous() for t in (rows.positions, rows.sequence_of_row, rows.block_table))
    stored = _core.StoredRows(
        positions.data_ptr(), sequences.data_ptr(), table.data_ptr(), table.shape[1], rows.block_size, rows.window
    )
    kernels.attention(
        out.data_ptr(),
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        sinks.data_ptr(),
        stored,
        tokens,
        heads,
        kv_heads,
        dim,
        scale,
        DTYPES[q.dtype],
        DTYPES[sinks.dtype],
    )
    return out


def experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: ExpertMatrix,
    down: ExpertMatrix,
    *,
    alpha: float,
    limit: float,
    stages: dict[str, Tensor] | None = None,
    one_order: bool = False,
    int8: bool = False,
    isa: str | None = None,
) -> Tensor:
    """Weighted sum of the chosen experts over packed matrices; arguments as in `ossature.ops.experts`.

    Sums are float32; the activations between the products are rounded to the dtype of x. `stages` receives buffers
    that exist in any case: asking for them changes nothing.

    Returns (tokens, hidden), dtype of x. Raises ShapeError, BackendError. Oracle: reference.experts.
    """
    kernels = _kernels_of(isa)
    _check("experts", x=x)
    count = len(gate_up.bias)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise ShapeError(f"experts: index runs from {int(index.min())} to {int(index.max())} of {count} experts.")
    (tokens, hidden), chosen = x.shape, index.shape[1]
    index, weight = index.contiguous(), weight.float().contiguous()
    inner = gate_up.bias.shape[1] // 2
    first, second = _projection(gate_up, (count, 2 * inner, hidden)), _projection(down, (count, hidden, inner))
    if gate_up.bias.dtype != down.bias.dtype or weight.shape != index.shape:
        raise ShapeError(f"experts: biases are {gate_up.bias.dtype} and {down.bias.dtype}; expected one dtype.")
    neurons = torch.empty(tokens, chosen, inner, dtype=x.dtype)
    expert_out = torch.empty(tokens, chosen, hidden, dtype=torch.float32)
    out = torch.empty_like(x)
    kernels.experts(
        out.data_ptr(),
        neurons.data_ptr(),
        expert_out.data_ptr(),
        x.data_ptr(),
        index.data_ptr(),
        weight.data_ptr(),
        first,
        second,
        tokens,
        chosen,
        count,
        alpha,
        limit,
        DTYPES[x.dtype],
        one_order,
        int8,
    )
    if stages is not None:
        stages["neurons"] = neurons
        stages["expert_out"] = expert_out.to(x.dtype)
    return out


def _projection(matrix: ExpertMatrix, shape: tuple[int, int, int]) -> "Projection":
    """A packed matrix of (experts, out, in) as the kernel takes it."""
    from ossature import _core

    blocks, scales, bias = matrix.blocks, matrix.scales, matrix.bias
    if blocks is None or scales is None:
        raise ShapeError("experts: the compiled kernel reads packed matrices, and these are dense.")
    experts, rows, cols = shape
    groups = (experts, rows, cols // 32)
    if blocks.shape != (*groups, 16) or scales.shape != groups or bias.shape != groups[:2] or cols % 32:
        raise ShapeError(
            f"experts: blocks {tuple(blocks.shape)}, scales {tuple(scales.shape)} and bias {tuple(bias.shape)} "
            f"are not {experts} matrices of {rows} x {cols}."
        )
    _check("experts", bias=bias)
    if not (blocks.is_contiguous() and scales.is_contiguous()):
        raise ShapeError("experts: blocks and scales have to be contiguous.")
    return _core.Projection(blocks.data_ptr(), scales.data_ptr(), bias.data_ptr(), rows, cols, DTYPES[bias.dtype])


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
        if not (tensor.is_cpu and tensor.dtype in DTYPES and tensor.is_contiguous()):
            layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
            raise ShapeError(
                f"{op}: {name} is {tensor.dtype} on {tensor.device}, {layout}. "
                "The compiled kernel takes float32 or bfloat16, contiguous, on the CPU."
            )
