"""gpt-oss in numpy, float64, token by token: the second independent oracle.

Written from the published description of the model alone. It shares no code with the package, and neither code nor
layout of arrays with transformers: one token, one head and one expert at a time, so that an assumption both of them
make by accident has nowhere to hide.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NumpyNetwork", "Trace"]

Array = NDArray[np.float64]

E2M1 = {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0, 5: 3.0, 6: 4.0, 7: 6.0}


def unpack(blocks: NDArray[np.uint8], scales: NDArray[np.uint8]) -> Array:
    """One expert's matrix (rows, groups · 32): the low nibble comes first, the scale byte is biased by 127."""
    rows, groups, _ = blocks.shape
    matrix = np.zeros((rows, groups * 32))
    for row, group, byte in np.ndindex(rows, groups, 16):
        pair = int(blocks[row, group, byte])
        for place, code in enumerate((pair & 15, pair >> 4)):
            value = E2M1[code & 7] * (-1.0 if code & 8 else 1.0)
            matrix[row, group * 32 + 2 * byte + place] = math.ldexp(value, int(scales[row, group]) - 127)
    return matrix


@dataclass
class Trace:
    """What the network computed, a list over tokens in each."""

    resid_post: list[list[Array]] = field(default_factory=list[list[Array]])  # [layer][token]
    router_logits: list[list[Array]] = field(default_factory=list[list[Array]])
    sink_mass: list[list[Array]] = field(default_factory=list[list[Array]])  # (heads,)
    logits: list[Array] = field(default_factory=list[Array])


class NumpyNetwork:
    """Packed tensors under their Hugging Face names, and the numbers of config.json that it needs.

    The constants of the published models are written out: YaRN over 4096 positions by 32 with beta 32 and 1, theta
    150000, eps 1e-5, alpha 1.702, limit 7, windows on even layers.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], *, heads: int, head_dim: int, k: int, window: int):
        self.tensors: dict[str, NDArray[Any]] = {
            n: t if t.dtype == np.uint8 else t.astype(np.float64) for n, t in tensors.items()
        }
        self.heads, self.head_dim, self.k, self.window = heads, head_dim, k, window
        self.layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers."))
        self._matrices: dict[tuple[str, int], Array] = {}

    def run(self, ids: list[int]) -> Trace:
        """Every token of one prompt."""
        trace = Trace()
        stream = [self.tensors["model.embed_tokens.weight"][i] for i in ids]
        for layer in range(self.layers):
            stream = self._attention(stream, layer, trace)
            stream = self._experts(stream, layer, trace)
            trace.resid_post.append(stream)
        for x in stream:
            trace.logits.append(self.tensors["lm_head.weight"] @ self._norm(x, "model.norm"))
        return trace

    def _norm(self, x: Array, name: str) -> Array:
        return x / math.sqrt(float(np.mean(x * x)) + 1e-5) * self.tensors[f"{name}.weight"]

    def _affine(self, x: Array, name: str) -> Array:
        return self.tensors[f"{name}.weight"] @ x + self.tensors[f"{name}.bias"]

    def _turn(self, x: Array, position: int) -> Array:
        """One head's query or key at its position."""
        half = self.head_dim // 2
        low = half * math.log(4096 / (32 * 2 * math.pi)) / math.log(150000)
        high = half * math.log(4096 / (1 * 2 * math.pi)) / math.log(150000)
        concentration = 0.1 * math.log(32) + 1
        out = np.zeros_like(x)
        for i in range(half):
            mask = 1 - min(1.0, max(0.0, (i - low) / (high - low)))
            freq = 150000 ** (2 * i / self.head_dim)
            angle = position * ((1 - mask) / (32 * freq) + mask / freq)
            cos, sin = math.cos(angle) * concentration, math.sin(angle) * concentration
            out[i] = x[i] * cos - x[i + half] * sin
            out[i + half] = x[i + half] * cos + x[i] * sin
        return out

    def _attention(self, stream: list[Array], layer: int, trace: Trace) -> list[Array]:
        path = f"model.layers.{layer}"
        queries, keys, values = [], [], []
        for position, x in enumerate(stream):
            t = self._norm(x, f"{path}.input_layernorm")
            q, k, v = (self._affine(t, f"{path}.self_attn.{p}_proj").reshape(-1, self.head_dim) for p in "qkv")
            queries.append([self._turn(head, position) for head in q])
            keys.append([self._turn(head, position) for head in k])
            values.append(v)
        group = self.heads // len(keys[0])
        sinks = self.tensors[f"{path}.self_attn.sinks"]
        after, masses = [], []
        for i, x in enumerate(stream):
            oldest = max(0, i - self.window + 1) if layer % 2 == 0 else 0
            heads, mass = [], np.zeros(self.heads)
            for h in range(self.heads):
                scores = [
                    float(queries[i][h] @ keys[j][h // group]) / math.sqrt(self.head_dim) for j in range(oldest, i + 1)
                ]
                largest = max(*scores, float(sinks[h]))
                powers = [math.exp(s - largest) for s in scores]
                total = sum(powers) + math.exp(float(sinks[h]) - largest)
                mass[h] = math.exp(float(sinks[h]) - largest) / total
                heads.append(sum(p / total * values[oldest + j][h // group] for j, p in enumerate(powers)))
            after.append(x + self._affine(np.concatenate(heads), f"{path}.self_attn.o_proj"))
            masses.append(mass)
        trace.sink_mass.append(masses)
        return after

    def _matrix(self, name: str, expert: int) -> Array:
        if (name, expert) not in self._matrices:
            blocks, scales = self.tensors[f"{name}_blocks"], self.tensors[f"{name}_scales"]
            self._matrices[name, expert] = unpack(blocks[expert], scales[expert])
        return self._matrices[name, expert]

    def _experts(self, stream: list[Array], layer: int, trace: Trace) -> list[Array]:
        path = f"model.layers.{layer}"
        after, router = [], []
        for x in stream:
            t = self._norm(x, f"{path}.post_attention_layernorm")
            g = self._affine(t, f"{path}.mlp.router")
            router.append(g)
            chosen = sorted(range(len(g)), key=lambda e: -g[e])[: self.k]
            total = sum(math.exp(g[e] - g[chosen[0]]) for e in chosen)
            mixed = np.zeros_like(x)
            for e in chosen:
                up = f"{path}.mlp.experts.gate_up_proj"
                h = self._matrix(up, e) @ t + self.tensors[f"{up}_bias"][e]
                act = [self._gate(float(h[2 * i]), float(h[2 * i + 1])) for i in range(len(h) // 2)]
                down = f"{path}.mlp.experts.down_proj"
                y = self._matrix(down, e) @ np.array(act) + self.tensors[f"{down}_bias"][e]
                mixed += math.exp(g[e] - g[chosen[0]]) / total * y
            after.append(x + mixed)
        trace.router_logits.append(router)
        return after

    @staticmethod
    def _gate(gate: float, up: float) -> float:
        gate, up = min(gate, 7.0), max(-7.0, min(up, 7.0))
        return gate / (1 + math.exp(-1.702 * gate)) * (up + 1)
