"""The activation sites: every one is visited, reading changes nothing, replacing changes what it says and no more."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ossature.errors import ConfigError, ShapeError
from ossature.model import SITES, Batch, Capture, Edit, KVCache, Site, Transformer
from ossature.model.transformer import Experts
from tests import network

IDS = [network.token_ids(11), network.token_ids(21, seed=1)]
TOKENS = 32
LAYERS = 3
SIZES = {
    "tokens": TOKENS,
    "rows": TOKENS,
    "hidden": 96,
    "heads": 6,
    "kv_heads": 2,
    "head_dim": 24,
    "experts": 7,
    "k": 3,
    "intermediate": 64,
    "vocab": 331,
}
ADDRESSES = [f"layers.*.{name}" if spec.per_layer else name for name, spec in SITES.items()]
EDITABLE = [address for address in ADDRESSES if SITES[address.split(".")[-1]].editable]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> Transformer:
    config = network.peer_config(num_hidden_layers=LAYERS)
    return network.ours(config, network.packed(network.tensors(config)), getattr(torch, request.param))


@pytest.fixture(scope="module")
def exact_model() -> Transformer:
    config = network.peer_config(num_hidden_layers=LAYERS)
    return network.ours(config, network.tensors(config), torch.float64)


def run(model: Transformer, *asked: Capture | Edit) -> Tensor:
    """Logits of two prompts in one batch."""
    captures = tuple(item for item in asked if isinstance(item, Capture))
    edits = tuple(item for item in asked if isinstance(item, Edit))
    with torch.no_grad():
        return model(Batch.packed(IDS, captures=captures, edits=edits))


def run_cached(model: Transformer, *asked: Capture | Edit) -> list[Tensor]:
    """Logits of prefill in two pieces, then of single tokens."""
    cache = KVCache(model.config, max_sequences=2, max_tokens=30, slack=9, block_size=4, dtype=model.dtype)
    slots, out, done = [cache.open(), cache.open()], [], 0
    for count in (9, 1, 1):
        pieces = [ids[done : done + count] for ids in IDS]
        starts = [cache.extend(slot, count) for slot in slots]
        batch = Batch.packed(pieces, slots=slots, starts=starts)
        captures = tuple(item for item in asked if isinstance(item, Capture))
        edits = tuple(item for item in asked if isinstance(item, Edit))
        with torch.no_grad():
            out.append(model(replace(batch, captures=captures, edits=edits), cache))
        done += count
    return out


def read(model: Transformer, *addresses: str) -> network.Captured:
    captures = [Capture(Site.parse(address)) for address in addresses]
    run(model, *captures)
    return network.Captured({key: value for capture in captures for key, value in capture.into.items()})


def documented_shape(name: str, keys: int) -> tuple[int, ...]:
    words = SITES[name].shape.strip("()").split(", ")
    return tuple(keys + 1 if word == "keys + 1" else SIZES[word] for word in words)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_site_is_visited_in_every_layer_with_the_documented_shape(model: Transformer, address: str) -> None:
    capture = Capture(Site.parse(address))
    run(model, capture)
    name = address.split(".")[-1]
    assert list(capture.into) == [(name, layer) for layer in (range(LAYERS) if "*" in address else [None])]
    for value in capture.into.values():
        assert tuple(value.shape) == documented_shape(name, keys=21)
        assert value.isfinite().all()


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_site_is_visited_in_decoding_too(model: Transformer, address: str) -> None:
    capture = Capture(Site.parse(address))
    run_cached(model, capture)  # leaves the values of the last pass: one token of each sequence
    for (name, layer), value in capture.into.items():
        keys = 8 if layer is not None and model.config.window(layer) else 11
        expected = documented_shape(name, keys)
        assert tuple(value.shape) == (2, *expected[1:])


@pytest.mark.parametrize("address", ADDRESSES)
def test_capturing_changes_no_bit(model: Transformer, address: str) -> None:
    capture = Capture(Site.parse(address))
    assert torch.equal(run(model, capture), run(model))
    assert all(map(torch.equal, run_cached(model, capture), run_cached(model)))


def test_capturing_everything_at_once_changes_no_bit(model: Transformer) -> None:
    captures = [Capture(Site.parse(address)) for address in ADDRESSES]
    assert torch.equal(run(model, *captures), run(model))
    assert all(map(torch.equal, run_cached(model, *captures), run_cached(model)))


@pytest.mark.parametrize("address", EDITABLE)
@pytest.mark.parametrize("rows", [None, torch.tensor([20, 3])], ids=["all rows", "some rows"])
def test_an_edit_that_changes_nothing_changes_no_bit(model: Transformer, address: str, rows: Tensor | None) -> None:
    edit = Edit(Site.parse(address), lambda value: value.clone(), rows)
    assert torch.equal(run(model, edit), run(model))


@pytest.mark.parametrize("address", EDITABLE)
def test_an_edit_may_return_a_view_with_other_strides(model: Transformer, address: str) -> None:
    def first_row(value: Tensor) -> Tensor:
        return value[:1].expand_as(value)

    edit = Edit(Site.parse(address), first_row)
    copied = Edit(Site.parse(address), lambda value: first_row(value).contiguous())
    assert torch.equal(run(model, edit), run(model, copied))


@pytest.mark.parametrize("address", EDITABLE)
def test_an_edit_of_one_prompt_leaves_the_other_as_it_was(exact_model: Transformer, address: str) -> None:
    # Float64, because the size of a product's other rows may change the order of its additions, not what it means.
    def change(value: Tensor) -> Tensor:
        return value.flip(-1) if value.dtype == torch.int64 else value * 1.5

    edited = run(exact_model, Edit(Site.parse(address), change, torch.arange(11, TOKENS)))
    plain = run(exact_model)
    assert (edited[:11] - plain[:11]).abs().max() < 1e-12
    assert (edited[11:] - plain[11:]).abs().amax(-1).max() > 1e-3


@pytest.mark.parametrize("name", ["mlp_out", "resid_post", "final_norm", "logits"])
def test_an_edit_behind_the_last_experts_leaves_the_other_prompt_equal_to_the_bit(
    model: Transformer, name: str
) -> None:
    address = f"layers.{LAYERS - 1}.{name}" if SITES[name].per_layer else name
    edited = run(model, Edit(Site.parse(address), lambda value: value * 1.5, torch.arange(11, TOKENS)))
    assert torch.equal(edited[:11], run(model)[:11])


def test_a_capture_of_rows_holds_those_rows_in_their_order(model: Transformer) -> None:
    rows = torch.tensor([31, 0, 12])
    some, every = Capture(Site.parse("layers.1.z"), rows), Capture(Site.parse("layers.1.z"))
    run(model, some, every)
    assert torch.equal(some.into["z", 1], every.into["z", 1][rows])


def test_a_capture_sees_what_the_edits_made_and_edits_are_applied_in_order(model: Transformer) -> None:
    site = Site.parse("layers.1.resid_mid")
    capture = Capture(site)
    run(model, Edit(site, torch.zeros_like), Edit(site, lambda value: value + 3), capture)
    assert (capture.into["resid_mid", 1] == 3).all()


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("name", ["resid_pre", "resid_mid", "resid_post"])
def test_putting_in_the_whole_stream_of_another_prompt_gives_its_logits(
    exact_model: Transformer, name: str, layer: int
) -> None:
    other = [network.token_ids(11, seed=7), network.token_ids(21, seed=8)]
    capture = Capture(Site(name, layer))
    with torch.no_grad():
        expected = exact_model(Batch.packed(other, captures=(capture,)))
    got = run(exact_model, Edit(Site(name, layer), lambda _value: capture.into[name, layer]))
    assert torch.equal(got, expected)


def test_putting_in_one_layer_at_a_time_is_a_full_swap_at_every_layer(exact_model: Transformer) -> None:
    captures = [Capture(Site.parse(f"layers.*.{name}")) for name in ("attn_out", "mlp_out")]
    embed = Capture(Site.parse("embed"))
    with torch.no_grad():
        other = [network.token_ids(11, seed=7), network.token_ids(21, seed=8)]
        expected = exact_model(Batch.packed(other, captures=(*captures, embed)))
    edits = [
        Edit(Site(name, layer), lambda _value, put=value: put)
        for capture in (*captures, embed)
        for (name, layer), value in capture.into.items()
    ]
    assert torch.equal(run(exact_model, *edits), expected)


def test_the_stream_is_the_embedding_and_all_that_was_added_to_it(exact_model: Transformer) -> None:
    got = read(exact_model, "embed", *(f"layers.*.{n}" for n in ("attn_out", "mlp_out", "resid_mid", "resid_post")))
    stream = got["embed", None]
    for layer in range(LAYERS):
        stream = stream + got["attn_out", layer]
        assert torch.equal(stream, got["resid_mid", layer])
        stream = stream + got["mlp_out", layer]
        assert torch.equal(stream, got["resid_post", layer])


def test_the_stream_leaving_a_layer_is_the_one_entering_the_next(model: Transformer) -> None:
    got = read(model, "embed", "layers.*.resid_pre", "layers.*.resid_post")
    left = [got["embed", None], *got.layers("resid_post")[:-1]]
    assert all(map(torch.equal, left, got.layers("resid_pre")))


def test_the_patterns_with_the_sinks_sum_to_one_and_weigh_the_values(exact_model: Transformer) -> None:
    got = read(exact_model, "layers.*.pattern", "layers.*.v", "layers.*.z")
    for pattern, v, z in zip(got.layers("pattern"), got.layers("v"), got.layers("z"), strict=True):
        assert (pattern.sum(-1) - 1).abs().max() < 1e-12
        for rows in (slice(0, 11), slice(11, TOKENS)):  # columns run from the first token of each prompt
            values = v[rows].repeat_interleave(3, dim=1)
            weighted = torch.einsum("qhk,khd->qhd", pattern[rows, :, : len(values)], values)
            assert (weighted - z[rows]).abs().max() < 1e-12
            assert (pattern[rows, :, len(values) : -1] == 0).all()


def test_the_chosen_experts_by_their_weights_sum_to_what_is_added(exact_model: Transformer) -> None:
    names = ("expert_weights", "expert_out", "mlp_out", "router_logits", "expert_index")
    got = read(exact_model, *(f"layers.*.{name}" for name in names))
    for weights, outs, total, logits, index in zip(*(got.layers(name) for name in names), strict=True):
        assert ((weights[..., None] * outs).sum(1) - total).abs().max() < 1e-12
        assert (weights - logits.gather(1, index).softmax(-1)).abs().max() < 1e-15


def test_the_neurons_through_the_down_projection_are_the_experts_outputs(exact_model: Transformer) -> None:
    got = read(exact_model, "layers.1.neurons", "layers.1.expert_out", "layers.1.expert_index")
    experts = exact_model.get_submodule("model.layers.1.mlp.experts")
    assert isinstance(experts, Experts)
    down = experts.projection("down_proj")
    for row in range(TOKENS):
        for place, expert in enumerate(got["expert_index", 1][row].tolist()):
            out = down.matrix(expert, torch.float64) @ got["neurons", 1][row, place] + down.bias[expert]
            assert (out - got["expert_out", 1][row, place]).abs().max() < 1e-12


def test_the_final_norm_by_the_unembedding_is_the_logits(exact_model: Transformer) -> None:
    got = read(exact_model, "final_norm", "logits")
    assert (got["final_norm", None] @ exact_model.lm_head.weight.double().T - got["logits", None]).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("layers.3.resid_pots", "layers.3.resid_post"),
        ("layers.*.router_logit", "layers.*.router_logits"),
        ("resid_post", "layers.*.resid_post"),
        ("layers.3.embed", "embed"),
        ("layers.3.logit", "logits"),
        ("layer.3.q", "layers.*.q"),
        ("layers.-1.q", "layers.*.q"),
        ("layers.99999.q", "layers.*.q"),
        ("final_nrom", "final_norm"),
    ],
)
def test_what_is_no_site_is_refused_with_the_nearest(text: str, nearest: str) -> None:
    said = re.escape(f"{text!r} is not an activation site; the nearest is {nearest!r}.")
    with pytest.raises(ConfigError, match=said):
        Site.parse(text)


@pytest.mark.parametrize("text", ["", "\n", "layers.3.", "layers..q", "embed\n", "*", "layers.*.*"])
def test_what_resembles_no_site_is_refused_too(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not an activation site; the nearest is '"):
        Site.parse(text)


@pytest.mark.parametrize("address", ["embed", "layers.*.q", "layers.17.expert_out"])
def test_an_address_is_read_and_written_the_same(address: str) -> None:
    assert str(Site.parse(address)) == address


@pytest.mark.parametrize(("name", "layer"), [("resid", None), ("logits", 0), ("q", -1)])
def test_a_site_cannot_be_made_of_what_is_none(name: str, layer: int | None) -> None:
    with pytest.raises(ConfigError, match="is not an activation site"):
        Site(name, layer)


@pytest.mark.parametrize("make", [Capture, lambda site: Edit(site, torch.clone)], ids=["capture", "edit"])
def test_a_layer_that_the_model_has_not_is_refused(
    exact_model: Transformer, make: Callable[[Site], Capture | Edit]
) -> None:
    with pytest.raises(ConfigError, match=r"layers\.3\.q was asked for, and this model has layers 0 to 2\."):
        run(exact_model, make(Site.parse("layers.3.q")))


@pytest.mark.parametrize("address", sorted(set(ADDRESSES) - set(EDITABLE)))
def test_a_view_into_an_operation_cannot_be_edited(address: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(address)} can be captured but not edited"):
        Edit(Site.parse(address), torch.clone)


@pytest.mark.parametrize("rows", [None, torch.tensor([2])])
@pytest.mark.parametrize("change", [lambda value: value[:, :1], torch.Tensor.double, torch.sum])
def test_an_edit_that_returns_another_shape_or_dtype_is_refused(
    model: Transformer, change: Callable[[Tensor], Tensor], rows: Tensor | None
) -> None:
    with pytest.raises(ShapeError, match=r"the edit of layers\.\*\.resid_mid was given .* and returned"):
        run(model, Edit(Site.parse("layers.*.resid_mid"), change, rows))
