"""The whole network against transformers' GptOssForCausalLM (eager, float32), value by value along the way.

The two are compared on one random network with no two sizes equal, from every published form of its weights and
however the prompt is fed in. Our side is read through the activation sites.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ossature.checkpoint import open_checkpoint
from ossature.model import Transformer, load_model
from tests import network

TOLERANCE = 1e-4  # absolute, on logits of unit scale; other values in proportion to their own scale

FORMS = ["dense in memory", "packed in memory", "dense huggingface", "packed huggingface", "packed original"]
FEEDS = {
    "prefill": None,
    "one token at a time": [1] * network.PROMPT,
    "mixed chunks": [5, 1, 9, 1, 1, 7, 3, 6],  # below, at and beyond the window of 8
}


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    experts, place = request.param.split(" ", 1)
    config = network.peer_config()
    values = network.tensors(config)
    if experts == "packed":
        values = network.packed(values)
    if place == "in memory":
        return network.ours(config, values)
    directory = network.write(tmp_path_factory.mktemp("checkpoint") / "here", config, values, layout=place)
    checkpoint = open_checkpoint(directory)
    assert checkpoint.layout == place
    return load_model(checkpoint, dtype=torch.float32)


class Truth:
    """What transformers computes for the prompt, without the axis of the batch."""

    def __init__(self, ids: list[int]) -> None:
        config = network.peer_config()
        peer = network.peer(config, network.tensors(config))
        last_layer: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            last_layer.append(output)

        peer.model.layers[-1].register_forward_hook(keep)
        with torch.no_grad():
            out = peer(
                torch.tensor([ids]), output_hidden_states=True, output_router_logits=True, output_attentions=True
            )
        assert out.hidden_states is not None
        assert out.router_logits is not None
        assert out.attentions is not None
        assert out.logits is not None
        self.logits = out.logits[0]
        # The first entry is the embedding, the last is already behind the final norm.
        self.embed, *middle, self.final_norm = [state[0] for state in out.hidden_states]
        self.resid_post = [*middle, last_layer[0][0]]
        self.router_logits = list(out.router_logits)
        self.attentions = [pattern[0].transpose(0, 1) for pattern in out.attentions]  # (tokens, heads, keys)


@pytest.fixture(scope="module")
def ids() -> list[int]:
    return network.token_ids()


@pytest.fixture(scope="module")
def truth(ids: list[int]) -> Truth:
    return Truth(ids)


Feed = Callable[..., network.Captured]


@pytest.fixture(params=FEEDS)
def run(request: pytest.FixtureRequest, model: Transformer, ids: list[int]) -> Feed:
    chunks = FEEDS[request.param]
    if chunks is None:
        return lambda *sites: network.prefill(model, ids, *sites)
    return lambda *sites: network.decode(model, ids, chunks, *sites)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert (got - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.std()))


def test_logits_of_the_peer_have_unit_scale_and_its_choices_are_not_ties(truth: Truth) -> None:
    assert 0.5 < truth.logits.std() < 2
    for logits in truth.router_logits:
        third, fourth = logits.sort(dim=-1, descending=True).values[:, 2:4].unbind(1)
        assert (third - fourth).min() > 1e-3
    assert all(0.3 < pattern.amax(-1).mean() < 0.9 for pattern in truth.attentions)  # far from uniform, and not one-hot


def test_logits_are_those_of_transformers(run: Feed, truth: Truth) -> None:
    assert_close(run()["logits", None], truth.logits)


def test_hidden_states_of_every_layer_are_those_of_transformers(run: Feed, truth: Truth) -> None:
    got = run("embed", "layers.*.resid_post", "final_norm")
    assert torch.equal(got["embed", None], truth.embed)
    for ours, theirs in zip(got.layers("resid_post"), truth.resid_post, strict=True):
        assert_close(ours, theirs)
    assert_close(got["final_norm", None], truth.final_norm)


def test_router_logits_are_those_of_transformers_and_so_is_the_choice(run: Feed, truth: Truth) -> None:
    got = run("layers.*.router_logits", "layers.*.expert_index", "layers.*.expert_weights")
    places = zip(
        got.layers("router_logits"),
        got.layers("expert_index"),
        got.layers("expert_weights"),
        truth.router_logits,
        strict=True,
    )
    for logits, index, weights, theirs in places:
        assert_close(logits, theirs)
        top = theirs.topk(3, dim=-1)
        assert torch.equal(index, top.indices)
        assert_close(weights, top.values.softmax(-1))


def test_attention_probabilities_are_those_of_transformers_and_the_sink_takes_the_rest(
    model: Transformer, ids: list[int], truth: Truth
) -> None:
    got = network.prefill(model, ids, "layers.*.pattern").layers("pattern")
    for ours, theirs in zip(got, truth.attentions, strict=True):
        assert_close(ours[..., :-1], theirs)
        assert_close(ours[..., -1], 1 - theirs.sum(-1))


def test_reading_the_weights_from_a_file_changes_no_bit(model: Transformer, ids: list[int]) -> None:
    config = network.peer_config()
    values = network.tensors(config)
    in_memory = network.ours(config, network.packed(values) if model.config.quantization else values)
    assert torch.equal(network.prefill(model, ids)["logits", None], network.prefill(in_memory, ids)["logits", None])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 3, "num_key_value_heads": 3},
        {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 10},
        {"num_experts_per_tok": 1},
        {"num_experts_per_tok": 7},
        {"sliding_window": 1},
        {"sliding_window": 32},
        {"sliding_window": 33},
        {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 3},
        {"swiglu_alpha": 1.1, "swiglu_limit": 0.5, "rms_norm_eps": 0.3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()).replace("'", ""),
)
def test_other_sizes_and_constants_agree_too(changes: dict[str, object], seed: int) -> None:
    config = network.peer_config(**changes)
    values = network.tensors(config, seed)
    ids = network.token_ids(seed=seed)
    with torch.no_grad():
        expected = network.peer(config, values)(torch.tensor([ids])).logits
    assert expected is not None
    model = network.ours(config, network.packed(values))
    for got in (network.prefill(model, ids), network.decode(model, ids, [9] * 3 + [1] * 6)):
        assert_close(got["logits", None], expected[0])


def test_a_prompt_beyond_the_context_that_yarn_stretches_agrees_as_far_as_float32_angles_do() -> None:
    # transformers computes angles in float32, where one of 4,000 rad is off by 2e-4; ours are exact. So the two differ
    # by what theirs lose, and not at all where both are given theirs.
    config = network.peer_config(num_hidden_layers=2, sliding_window=128)
    values, ids = network.tensors(config), network.token_ids(4_133)
    peer = network.peer(config, values)
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).logits
    assert expected is not None
    chunks = [512] * 8 + [37]
    exact = network.decode(network.ours(config, values, torch.float64), ids, chunks)["logits", None]
    model = network.ours(config, network.packed(values))
    got = network.decode(model, ids, chunks)["logits", None]
    assert (got - exact).abs().max() < 2e-5
    assert (got - expected[0]).abs().max() < 1e-3
    model.inv_freq = peer.model.rotary_emb.inv_freq.double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossature.model.transformer.rotation", float32_rotation)
        assert_close(network.decode(model, ids, chunks)["logits", None], expected[0])


def float32_rotation(
    positions: Tensor, inv_freq: Tensor, concentration: float, *, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    angle = positions[:, None].to(dtype) * inv_freq.to(dtype)
    return angle.cos() * concentration, angle.sin() * concentration
