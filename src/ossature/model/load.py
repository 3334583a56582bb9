"""A checked checkpoint becomes a Transformer whose tensors are views of the mapped files."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ossature.checkpoint import Checkpoint, MappedTensor
from ossature.errors import BackendError
from ossature.model.transformer import Experts, Transformer

__all__ = ["load_model"]

_VIEWS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "U8": torch.uint8}


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    numerics: str = "exact",
    deterministic: bool = False,
) -> Transformer:
    """The network of a checkpoint, computing in activations of `dtype` with the weights as they are stored.

    `deterministic`: as in `Transformer`.

    On the CPU nothing is read here: a page of weights comes in when it is first used. On another device the weights
    are copied there.

    Raises BackendError for a device this build of torch does not have or numerics other than "exact".
    """
    if numerics != "exact":
        raise BackendError(f'numerics={numerics!r} is not available; this version computes with numerics="exact" only')
    device = _usable(device)
    with torch.device("meta"):
        model = Transformer(checkpoint.config, dtype=dtype, deterministic=deterministic)
    for name in checkpoint.names:
        _install(model, name, _tensor(checkpoint.tensor(name)).to(device))
    unfilled = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    assert not unfilled, f"the checkpoint's manifest and the network disagree: {unfilled}"
    model.inv_freq = model.inv_freq.to(device)
    if not checkpoint.scales_checked:
        _check_scales_at_first_use(model, checkpoint)
    return model.eval()


def _usable(device: torch.device | str) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return usable


def _tensor(mapped: MappedTensor) -> Tensor:
    """A torch view of the mapped bytes; bfloat16 travels through numpy as uint16."""
    return torch.from_numpy(mapped.array).view(_VIEWS[mapped.dtype])


def _install(model: Transformer, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._buffers:
        module.register_buffer(leaf, tensor)
    else:
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))


def _check_scales_at_first_use(model: Transformer, checkpoint: Checkpoint) -> None:
    """Reading all scales of a large checkpoint would take its load time: each layer is checked when it first runs."""

    def check(names: list[str], module: nn.Module, _: object) -> None:
        for name in names:
            checkpoint.check_scales(name)
        if handle := handles.pop(module, None):  # None: another thread came first
            handle.remove()

    handles: dict[nn.Module, RemovableHandle] = {}
    for path, module in model.named_modules():
        if isinstance(module, Experts) and module.packed:
            names = [f"{path}.{projection}_scales" for projection in ("gate_up_proj", "down_proj")]
            handles[module] = module.register_forward_pre_hook(partial(check, names))
