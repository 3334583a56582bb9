"""A checked checkpoint becomes a Transformer, its weights mapped from the files or copied into memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ossature.checkpoint import Checkpoint, copy_to_memory
from ossature.checkpoint.mapped import MappedTensor
from ossature.checkpoint.names import ITEMSIZE
from ossature.errors import BackendError, ConfigError, notice
from ossature.model.int8 import dense_matrices, int8_matrices
from ossature.model.memory import available_bytes
from ossature.model.tensors import as_torch
from ossature.model.transformer import Experts, Linear, Transformer
from ossature.ops import cpu

__all__ = ["NUMERICS", "WEIGHTS", "load_model"]

NUMERICS = ("exact", "fast")
WEIGHTS = ("auto", "mapped", "resident")

EMBEDDING = "model.embed_tokens.weight"

# Memory beside the weights: the interpreter and torch, activations, the cache of keys and values of a long context.
BESIDE_WEIGHTS = 2 << 30
SMALL = 256 << 20  # a checkpoint of so many bytes stays in the processor's caches or nearly: copying it gains nothing


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    numerics: str = "exact",
    weights: str = "auto",
    int8_cache: Path | None = None,
    deterministic: bool = False,
) -> Transformer:
    """The network of a checkpoint, computing in activations of `dtype`.

    numerics       "exact": with the weights as they are stored; "fast": attention and unembedding rounded to int8,
                   and the activations that meet the packed experts
    weights        on the CPU. "mapped": nothing is read here, a page of weights comes in when it is first used;
                   "resident": copied into memory of huge pages by all cores; "auto": resident where that fits
    int8_cache     directory in which "fast" keeps its copy; None: it is made at every load
    deterministic  as in `Transformer`

    Where the experts exceed the memory they stay mapped, are read ahead as they are chosen, and the rest is copied.
    On another device the weights are copied there.

    Raises BackendError for a device this build of torch does not have and for "fast" where no kernel reads int8,
    ConfigError for other values.
    """
    for name, value, values in (("numerics", numerics, NUMERICS), ("weights", weights, WEIGHTS)):
        if value not in values:
            raise ConfigError(f"{name} is {value!r}; it is {', '.join(values[:-1])} or {values[-1]}.")
    device = _usable(device)
    if numerics == "fast" and (device.type != "cpu" or not cpu.available):
        why = "it is for the CPU" if cpu.available else cpu.reason
        raise BackendError(f'numerics="fast" cannot be had on {device.type}: {why}. Load with numerics="exact".')
    with torch.device("meta"):
        model = Transformer(checkpoint.config, dtype=dtype, deterministic=deterministic)
    plan = _plan(checkpoint, numerics, weights) if device.type == "cpu" else _Plan((), streamed=False)
    copied = copy_to_memory(checkpoint, plan.resident, threads=cpu.threads() if cpu.available else 1)
    for name in checkpoint.names:
        _install(model, name, as_torch(copied[name] if name in copied else checkpoint.tensor(name)).to(device))
    unfilled = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    assert not unfilled, f"the checkpoint's manifest and the network disagree: {unfilled}"
    model.numerics = numerics
    model.placement = "streamed" if plan.streamed else "resident" if plan.resident else "mapped"
    if numerics == "fast":
        for name, matrix in int8_matrices(checkpoint, int8_cache, resident=bool(plan.resident)).items():
            module = model.get_submodule(name.rpartition(".")[0])
            assert isinstance(module, Linear)
            module.int8 = matrix
    for module in model.modules():
        if isinstance(module, Experts):
            module.int8, module.streamed = numerics == "fast", plan.streamed
    model.inv_freq = model.inv_freq.to(device)
    if not checkpoint.scales_checked:
        _check_scales_at_first_use(model, checkpoint, copied)
    if plan.resident:
        _leave_embedding_on_disk(model, checkpoint)
    return model.eval()


def _leave_embedding_on_disk(model: Transformer, checkpoint: Checkpoint) -> None:
    # A row of the embedding that is touched brings in up to 2 MB of its file: let them go after each pass.
    model.register_forward_hook(lambda *_: checkpoint.release(EMBEDDING))
    if cpu.available:  # else each row comes from the disk by itself; asking alone may take a second
        Thread(target=cpu.read_ahead, args=(model.model.embed_tokens.weight,), daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Tensors to be copied into memory; whether the experts are more than fits and come from the disk."""

    resident: Sequence[str]
    streamed: bool


def _plan(checkpoint: Checkpoint, numerics: str, weights: str) -> _Plan:
    rounded = set(dense_matrices(checkpoint)) if numerics == "fast" else set[str]()
    # Of the embedding only the rows that are asked for are ever touched.
    wanted = [name for name in checkpoint.names if name not in rounded and name != EMBEDDING]
    dense = [name for name in wanted if not checkpoint.sources[name].kind.is_packed]
    room = available_bytes() - BESIDE_WEIGHTS
    beside = sum(_bytes(checkpoint, name) for name in rounded) * 17 // 32
    needed = sum(_bytes(checkpoint, name) for name in wanted) + beside
    if weights == "auto" and needed <= SMALL:
        return _Plan((), streamed=False)
    if needed <= room and weights != "mapped":
        return _Plan(wanted, streamed=False)
    if weights == "resident":
        raise ConfigError(
            f'weights="resident" needs {needed / 1e9:.1f} GB beside {BESIDE_WEIGHTS / 1e9:.1f} GB for everything else, '
            f'and {available_bytes() / 1e9:.1f} GB of memory are available. Load with weights="mapped".'
        )
    if needed <= room:
        return _Plan((), streamed=False)
    experts = needed - beside - sum(_bytes(checkpoint, name) for name in dense)
    c = checkpoint.config
    touched = experts * c.num_experts_per_tok / c.num_local_experts
    notice(
        f"{needed / 1e9:.1f} GB of weights do not fit the {available_bytes() / 1e9:.1f} GB of available memory: "
        f"the experts are read from the disk as they are chosen, {touched / 1e9:.2f} GB for a token less what is still "
        f"in memory. A disk of 1 GB/s then gives {1e9 / (touched * max(0.1, 1 - room / needed)):.1f} tokens/s or less"
    )
    return _Plan(dense if sum(_bytes(checkpoint, name) for name in dense) <= room else (), streamed=True)


def _bytes(checkpoint: Checkpoint, name: str) -> int:
    source = checkpoint.sources[name]
    return math.prod(source.shape) * ITEMSIZE[source.dtype]


def _usable(device: torch.device | str) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return usable


def _install(model: Transformer, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._buffers:
        module.register_buffer(leaf, tensor)
    else:
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))


def _check_scales_at_first_use(model: Transformer, checkpoint: Checkpoint, copied: Mapping[str, MappedTensor]) -> None:
    """Reading all scales of a large checkpoint would take its load time: each layer is checked when it first runs."""

    def check(names: list[str], module: nn.Module, _: object) -> None:
        for name in names:
            checkpoint.check_scales(name, copied.get(name))
        if handle := handles.pop(module, None):  # None: another thread came first
            handle.remove()

    handles: dict[nn.Module, RemovableHandle] = {}
    for path, module in model.named_modules():
        if isinstance(module, Experts) and module.packed:
            names = [f"{path}.{projection}_scales" for projection in ("gate_up_proj", "down_proj")]
            handles[module] = module.register_forward_pre_hook(partial(check, names))
