"""Gradients of every operation against finite differences, and of the network against transformers' autograd."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ossature import mxfp4
from ossature.model import Batch, Transformer
from ossature.ops import ExpertMatrix, Rows, grad
from tests import network

ALPHA, LIMIT = 1.702, 7.0


def noise(*shape: int) -> Tensor:
    """Float64, so that a finite difference of 1e-6 is exact to about 1e-9."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def assert_gradient_is_exact(op: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Against central differences, entry by entry, in all inputs."""
    assert torch.autograd.gradcheck(op, tuple(x.requires_grad_() for x in inputs), atol=1e-7, rtol=1e-6)


def test_embed() -> None:
    assert_gradient_is_exact(lambda weight: grad.embed(torch.tensor([4, 0, 4]), weight, torch.float64), noise(5, 3))


def test_rmsnorm() -> None:
    assert_gradient_is_exact(lambda x, weight: grad.rmsnorm(x, weight, 1e-5), noise(3, 7), noise(7))


def test_linear() -> None:
    assert_gradient_is_exact(grad.linear, noise(3, 5), noise(4, 5), noise(4))


def test_rope() -> None:
    angle = noise(3, 2)
    assert_gradient_is_exact(lambda x: grad.rope(x, angle.cos(), angle.sin()), noise(3, 2, 4))


@pytest.mark.parametrize("window", [0, 3])
def test_attention_in_queries_keys_values_and_sinks(window: int) -> None:
    positions = torch.tensor([0, 1, 2, 3, 0, 1])  # two sequences of 4 and 2 tokens
    table = torch.tensor([[0, 1, 2, 3], [4, 5, 5, 5]], dtype=torch.int32)
    rows = Rows(positions, torch.tensor([0, 0, 0, 0, 1, 1]), table, 1, window)
    assert_gradient_is_exact(
        lambda q, k, v, sinks: grad.attention(q, k, v, sinks, rows, scale=0.4),
        noise(6, 6, 4),
        noise(6, 2, 4),
        noise(6, 2, 4) * 2,
        noise(6),
    )


def test_route_in_the_logits_of_the_chosen() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 1.2], [3.0, 0.1, -0.4, 1.0]], dtype=torch.float64)  # no two are near
    assert_gradient_is_exact(lambda g: grad.route(g, 2)[1], logits)


def test_swiglu_below_between_and_above_its_clamps() -> None:
    pairs = torch.tensor([[-9.0, -9.0, -3.0, -8.0, 0.5, 0.3, 6.0, 6.5, 8.0, 9.0]], dtype=torch.float64)
    assert_gradient_is_exact(lambda x: grad.swiglu(x, alpha=ALPHA, limit=LIMIT), pairs)


def test_dense_experts_in_inputs_shares_weights_and_biases() -> None:
    index = torch.tensor([[0, 2], [2, 1], [2, 0]])  # expert 3 is chosen by nobody

    def op(x: Tensor, share: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        gate_up, out = ExpertMatrix(up_bias, weight=up), ExpertMatrix(down_bias, weight=down)
        return grad.experts(x, index, share, gate_up, out, alpha=ALPHA, limit=LIMIT)

    inputs = (noise(3, 4), noise(3, 2), noise(4, 4, 6), noise(4, 6), noise(4, 3, 4), noise(4, 4))
    assert_gradient_is_exact(op, *inputs)


def test_packed_experts_in_inputs_and_shares() -> None:
    blocks, scales = (torch.from_numpy(part) for part in mxfp4.encode(noise(3, 64, 32).float().numpy()))
    packed = [ExpertMatrix(noise(3, 64), blocks, scales), ExpertMatrix(noise(3, 32), blocks[:, :32], scales[:, :32])]
    index = torch.tensor([[0, 2], [2, 1]])
    assert_gradient_is_exact(
        lambda x, share: grad.experts(x / 8, index, share, *packed, alpha=ALPHA, limit=LIMIT), noise(2, 32), noise(2, 2)
    )


def loss(logits: Tensor, ids: list[int]) -> Tensor:
    return F.cross_entropy(logits[:-1], torch.tensor(ids[1:]))


def gradients(model: Transformer, ids: list[int]) -> dict[str, Tensor]:
    for parameter in model.parameters():
        parameter.requires_grad_()
    loss(model(Batch.packed([ids])), ids).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def values() -> dict[str, Tensor]:
    return network.tensors(network.peer_config())


def test_every_gradient_of_the_network_is_that_of_transformers(values: dict[str, Tensor]) -> None:
    config, ids = network.peer_config(), network.token_ids()
    peer = network.peer(config, values).requires_grad_()
    logits = peer(torch.tensor([ids])).logits
    assert logits is not None
    loss(logits[0], ids).backward()
    ours = gradients(network.ours(config, values), ids)
    assert ours.keys() == dict(peer.named_parameters()).keys()
    for name, parameter in peer.named_parameters():
        assert parameter.grad is not None
        assert relative(ours[name], parameter.grad) < 1e-4, name


def test_packed_weights_give_the_other_tensors_the_gradients_of_dense_ones(values: dict[str, Tensor]) -> None:
    config, ids = network.peer_config(), network.token_ids()
    dense = gradients(network.ours(config, values, torch.float64), ids)
    packed = gradients(network.ours(config, network.packed(values), torch.float64), ids)
    assert dense.keys() - packed.keys() == {n for n in dense if n.endswith(("gate_up_proj", "down_proj"))}
    for name, gradient in packed.items():
        assert relative(gradient, dense[name]) < 1e-6, name  # float32 parameters have float32 gradients


def test_the_gradient_of_the_network_is_its_slope_in_any_direction(values: dict[str, Tensor]) -> None:
    config, ids = network.peer_config(), network.token_ids()
    model = network.ours(config, values, torch.float64).double()
    slopes = gradients(model, ids)
    generator = torch.Generator().manual_seed(0)
    for part in ("embed_tokens", "layers.0", "layers.3", "sinks", "router", "experts", "norm", "lm_head"):
        chosen = [(p, slopes[name]) for name, p in model.named_parameters() if part in name]
        steps = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p, _ in chosen]
        expected = sum(float((step * slope).sum()) for step, (_, slope) in zip(steps, chosen, strict=True))
        size, values_at = 1e-6, []
        with torch.no_grad():
            for sign in (1, -2, 1):  # ahead, behind, back
                for step, (parameter, _) in zip(steps, chosen, strict=True):
                    parameter.add_(step, alpha=sign * size)
                values_at.append(float(loss(model(Batch.packed([ids])), ids)))
        assert (values_at[0] - values_at[1]) / (2 * size) == pytest.approx(expected, rel=1e-6, abs=1e-8), part


def test_a_prompt_packed_with_others_gets_the_gradient_it_gets_alone(values: dict[str, Tensor]) -> None:
    config, ids = network.peer_config(), network.token_ids()
    others = [network.token_ids(11, seed=1), network.token_ids(20, seed=2)]
    alone = gradients(network.ours(config, values, torch.float64), ids)
    model = network.ours(config, values, torch.float64).requires_grad_()
    logits = model(Batch.packed([others[0], ids, others[1]]))
    loss(logits[11 : 11 + len(ids)], ids).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, alone[name]) < 1e-6, name


def test_bfloat16_gradients_point_where_float32_ones_do(values: dict[str, Tensor]) -> None:
    # Every expert takes part, so that rounding cannot send a token elsewhere.
    config, ids = network.peer_config(num_experts_per_tok=7), network.token_ids()
    exact = gradients(network.ours(config, values), ids)
    rounded = gradients(network.ours(config, values, torch.bfloat16), ids)
    for name, gradient in exact.items():
        assert F.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0) > 0.995, name
