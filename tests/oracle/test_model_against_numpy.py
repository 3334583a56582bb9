"""The network against a second, independent implementation, written from the description in numpy and float64.

In float64 our network must agree to rounding; in float32 the difference is float32's own.
"""

import pytest
import torch
from torch import Tensor

from tests import network
from tests.numpy_network import NumpyNetwork, Trace

SITES = ("layers.*.resid_post", "layers.*.router_logits", "layers.*.pattern")


@pytest.fixture(scope="module")
def values() -> dict[str, Tensor]:
    return network.packed(network.tensors(network.peer_config(), seed=1))


@pytest.fixture(scope="module")
def ids() -> list[int]:
    return network.token_ids(seed=1)


@pytest.fixture(scope="module")
def truth(values: dict[str, Tensor], ids: list[int]) -> Trace:
    config = network.peer_config()
    oracle = NumpyNetwork(
        {name: tensor.numpy() for name, tensor in values.items()},
        heads=config.num_attention_heads,
        head_dim=config.head_dim,
        k=config.num_experts_per_tok,
        window=config.sliding_window or 0,
    )
    return oracle.run(ids)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("chunks", [None, [1] * network.PROMPT, [9, 1, 8, 7, 1, 7]], ids=["prefill", "single", "mixed"])
def test_every_value_along_the_way_is_that_of_the_description(
    values: dict[str, Tensor],
    ids: list[int],
    truth: Trace,
    dtype: torch.dtype,
    tolerance: float,
    chunks: list[int] | None,
) -> None:
    model = network.ours(network.peer_config(), values, dtype)
    got = network.prefill(model, ids, *SITES[:2]) if chunks is None else network.decode(model, ids, chunks, *SITES[:2])
    for ours, theirs in (
        (got["logits", None], truth.logits),
        *zip(got.layers("resid_post"), truth.resid_post, strict=True),
        *zip(got.layers("router_logits"), truth.router_logits, strict=True),
    ):
        assert ours.dtype == dtype
        expected = torch.stack([torch.from_numpy(row) for row in theirs])
        assert (ours - expected).abs().max() <= tolerance * float(expected.std())


def test_the_sink_takes_the_mass_that_the_description_gives_it(
    values: dict[str, Tensor], ids: list[int], truth: Trace
) -> None:
    got = network.prefill(network.ours(network.peer_config(), values, torch.float64), ids, "layers.*.pattern")
    for pattern, masses in zip(got.layers("pattern"), truth.sink_mass, strict=True):
        expected = torch.stack([torch.from_numpy(mass) for mass in masses])
        assert (pattern[..., -1] - expected).abs().max() < 1e-13
        assert (pattern.sum(-1) - 1).abs().max() < 1e-14
