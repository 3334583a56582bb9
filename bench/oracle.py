"""How far the network is from its oracles, as a table: python bench/oracle.py [--seeds N] [--wide]

Random networks with no two sizes equal (tests/network.py), logits of unit scale, prompts of 33 tokens. `--wide` adds
one of the published widths: hidden 2880, 64 heads of 64, window 128, 300 tokens, 2 layers, 6 experts (8 GB, a minute).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.*, when run as a script

from ossature.model import Batch, Transformer
from tests import network
from tests.numpy_network import NumpyNetwork

SITES = ("layers.*.resid_post", "layers.*.router_logits")
SINGLE, MIXED = [1] * network.PROMPT, [5, 1, 9, 1, 1, 7, 3, 6]
WIDE = {
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 6,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 2,
    "sliding_window": 128,
}


class Worst(dict[tuple[str, str], float]):
    """(run, value) → the largest error seen."""

    def see(self, run: str, value: str, error: float) -> None:
        """Keep `error` if it is the largest yet."""
        self[run, value] = max(error, self.get((run, value), 0.0))

    def show(self, title: str) -> None:
        """Print as a table, one run a line."""
        values = list(dict.fromkeys(value for _, value in self))
        print(f"\n| {title} | {' | '.join(values)} |\n|---|{'---|' * len(values)}")
        for run in dict.fromkeys(run for run, _ in self):
            print(f"| {run} | {' | '.join(f'{self[run, value]:.1e}' for value in values)} |")


def largest(pairs: Iterator[tuple[Tensor, Tensor]]) -> float:
    """Largest absolute difference of all pairs."""
    return max(float((left - right).abs().max()) for left, right in pairs)


def against_transformers(worst: Worst, seed: int, ids: list[int], *, wide: bool = False) -> None:
    """Float32, absolute."""
    config = network.peer_config(**(WIDE if wide else {}))
    values = network.tensors(config, seed)
    with torch.no_grad():
        peer = network.peer(config, values)(torch.tensor([ids]), output_hidden_states=True, output_router_logits=True)
    assert peer.logits is not None
    assert peer.hidden_states is not None
    assert peer.router_logits is not None
    forms = {"MXFP4": network.ours(config, network.packed(values))}
    if not wide:
        forms["dense"] = network.ours(config, values)
    for form, model in forms.items():
        runs = {"prefill": network.prefill(model, ids, *SITES)}
        if not wide:
            runs["one token at a time"] = network.decode(model, ids, SINGLE, *SITES)
            runs["mixed chunks"] = network.decode(model, ids, MIXED, *SITES)
        for feed, got in runs.items():
            name = f"{form}, {feed}" + (", published widths" if wide else "")
            worst.see(name, "logits", largest(iter([(got["logits", None], peer.logits[0])])))
            states = [state[0] for state in peer.hidden_states[1:-1]]
            worst.see(name, "hidden states", largest(zip(got.layers("resid_post")[:-1], states, strict=True)))
            worst.see(name, "router logits", largest(zip(got.layers("router_logits"), peer.router_logits, strict=True)))


def against_numpy(worst: Worst, seed: int, ids: list[int]) -> None:
    """Float64 and float32, absolute, by the implementation that shares nothing with either."""
    config = network.peer_config()
    values = network.packed(network.tensors(config, seed))
    sizes = {"heads": config.num_attention_heads, "head_dim": config.head_dim, "k": config.num_experts_per_tok}
    trace = NumpyNetwork({name: t.numpy() for name, t in values.items()}, **sizes, window=8).run(ids)
    for dtype in (torch.float64, torch.float32):
        model = network.ours(config, values, dtype)
        got = network.prefill(model, ids, *SITES)
        for value, ours, theirs in (
            ("logits", [got["logits", None]], [trace.logits]),
            ("hidden states", got.layers("resid_post"), trace.resid_post),
            ("router logits", got.layers("router_logits"), trace.router_logits),
        ):
            exact = [torch.stack([torch.from_numpy(row) for row in rows]) for rows in theirs]
            worst.see(str(dtype).removeprefix("torch."), value, largest(zip(ours, exact, strict=True)))


def in_bfloat16(rows: dict[str, list[Tensor]], seed: int, ids: list[int], k: int) -> None:
    """Relative error of each row's logits in bfloat16, ours and theirs, next to float64."""
    config = network.peer_config(num_experts_per_tok=k)
    values = network.tensors(config, seed)
    exact = network.prefill(network.ours(config, values, torch.float64), ids)["logits", None]
    model = network.ours(config, network.packed(values), torch.bfloat16)
    with torch.no_grad():
        peer = network.peer(config, values, torch.bfloat16)(torch.tensor([ids])).logits
    assert peer is not None
    for name, got in (
        ("prefill", network.prefill(model, ids)["logits", None]),
        ("one token at a time", network.decode(model, ids, SINGLE)["logits", None]),
        ("transformers, eager", peer[0]),
    ):
        rows.setdefault(name, []).append((got.double() - exact).norm(dim=-1) / exact.norm(dim=-1))


def gradients(model: torch.nn.Module, logits: Tensor, ids: list[int]) -> dict[str, Tensor]:
    """Of the mean cross entropy of the next token."""
    F.cross_entropy(logits[:-1], torch.tensor(ids[1:])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def of_gradients(worst: Worst, seed: int, ids: list[int]) -> None:
    """Float32 gradients of every tensor against transformers' autograd, norm of the difference over the norm."""
    config = network.peer_config()
    values = network.tensors(config, seed)
    peer = network.peer(config, values).requires_grad_()
    logits = peer(torch.tensor([ids])).logits
    assert logits is not None
    theirs = gradients(peer, logits[0], ids)
    model: Transformer = network.ours(config, values).requires_grad_()
    for name, gradient in gradients(model, model(Batch.packed([ids])), ids).items():
        error = float((gradient - theirs[name]).norm() / theirs[name].norm())
        worst.see("largest of all tensors", "relative error", error)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="networks and prompts to measure (default: 8)")
    parser.add_argument("--wide", action="store_true", help="also one network of the published widths")
    options = parser.parse_args()
    peers, oracle, slopes = Worst(), Worst(), Worst()
    rounded: dict[int, dict[str, list[Tensor]]] = {7: {}, 3: {}}
    for seed in range(options.seeds):
        ids = network.token_ids(seed=seed)
        against_transformers(peers, seed, ids)
        against_numpy(oracle, seed, ids)
        of_gradients(slopes, seed, ids)
        for k, rows in rounded.items():
            in_bfloat16(rows, seed, ids, k)
    if options.wide:
        against_transformers(peers, 0, network.token_ids(300), wide=True)
    print(f"torch {torch.__version__}, transformers {network.transformers.__version__}, {options.seeds} networks")
    peers.show("float32 against transformers, largest absolute difference")
    oracle.show("against numpy in float64, largest absolute difference")
    slopes.show("gradients in float32 against transformers")
    print("\n| bfloat16 logits, relative error | every expert chosen: root mean square | 3 of 7 chosen: median |")
    print("|---|---|---|")
    for name in rounded[7]:
        every, some = torch.cat(rounded[7][name]), torch.cat(rounded[3][name])
        print(f"| {name} | {every.square().mean().sqrt():.4f} | {some.median():.4f} |")


if __name__ == "__main__":
    main()
