"""The activation sites: every named line of the network, its shape, and how a tensor is handed over or replaced.

A site is a value in `transformer.py` with a name from the interpretability field. Nothing is stored on modules: a
batch carries its captures and edits, and the network hands each value to `visit`. Capturing copies a value that is
computed anyway, or asks an operation for a buffer between two of its stages; it never changes which code makes the
result, so the output stays equal to the bit.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ossature.errors import ConfigError, ShapeError

__all__ = ["SITES", "Capture", "Edit", "Site", "SiteSpec", "asks", "check_layers", "visit"]


class SiteSpec(NamedTuple):
    """Shape in words (`tokens` rows first), whether it exists once a layer, whether an edit may replace it."""

    shape: str
    per_layer: bool
    editable: bool
    meaning: str


SITES: dict[str, SiteSpec] = {
    "embed": SiteSpec("(tokens, hidden)", False, True, "token embeddings"),
    "resid_pre": SiteSpec("(tokens, hidden)", True, True, "residual stream entering the layer"),
    "attn_in": SiteSpec("(tokens, hidden)", True, True, "after input_layernorm"),
    "q": SiteSpec("(tokens, heads, head_dim)", True, True, "queries before rotation"),
    "k": SiteSpec("(tokens, kv_heads, head_dim)", True, True, "keys before rotation"),
    "v": SiteSpec("(tokens, kv_heads, head_dim)", True, True, "values"),
    "rot_q": SiteSpec("(tokens, heads, head_dim)", True, True, "queries after rotation"),
    "rot_k": SiteSpec("(tokens, kv_heads, head_dim)", True, True, "keys after rotation, as cached"),
    "pattern": SiteSpec("(tokens, heads, keys + 1)", True, False, "attention probabilities, the sink last"),
    "z": SiteSpec("(tokens, heads, head_dim)", True, True, "weighted values, before o_proj"),
    "attn_out": SiteSpec("(tokens, hidden)", True, True, "what attention adds to the residual, bias included"),
    "resid_mid": SiteSpec("(tokens, hidden)", True, True, "residual stream between attention and experts"),
    "mlp_in": SiteSpec("(tokens, hidden)", True, True, "after post_attention_layernorm"),
    "router_logits": SiteSpec("(tokens, experts)", True, True, "router output before the choice"),
    "expert_index": SiteSpec("(tokens, k)", True, True, "chosen experts, best first"),
    "expert_weights": SiteSpec("(tokens, k)", True, True, "softmax over the chosen experts"),
    "neurons": SiteSpec("(tokens, k, intermediate)", True, False, "activations inside the chosen experts"),
    "expert_out": SiteSpec("(tokens, k, hidden)", True, False, "each chosen expert's output before its weight"),
    "mlp_out": SiteSpec("(tokens, hidden)", True, True, "what the experts add to the residual"),
    "resid_post": SiteSpec("(tokens, hidden)", True, True, "residual stream leaving the layer"),
    "final_norm": SiteSpec("(rows, hidden)", False, True, "after the last norm, of the rows that get logits"),
    "logits": SiteSpec("(rows, vocab)", False, True, "of the rows that get logits"),
}

_ADDRESS = re.compile(r"layers\.(\*|[0-9]{1,4})\.(\w+)")


@dataclass(frozen=True, slots=True)
class Site:
    """One address: `layers.7.resid_post`, `layers.*.router_logits` (layer None: all), or `embed`.

    Raises ConfigError, naming the nearest site, for a name that is none or a layer where there are no layers.
    """

    name: str
    layer: int | None = None

    def __post_init__(self) -> None:
        spec = SITES.get(self.name)
        if spec is None or (self.layer is not None and (not spec.per_layer or self.layer < 0)):
            raise _no_site(self.name if self.layer is None else f"layers.{self.layer}.{self.name}")

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read an address. Raises ConfigError naming the nearest site."""
        match = _ADDRESS.fullmatch(text)
        name = match[2] if match else text
        if name not in SITES or SITES[name].per_layer != bool(match):
            raise _no_site(text)
        return cls(name, None if match is None or match[1] == "*" else int(match[1]))

    def matches(self, name: str, layer: int | None) -> bool:
        """True if this address covers the value `name` of `layer` (None for values outside the layers)."""
        return self.name == name and (self.layer is None or self.layer == layer)

    def __str__(self) -> str:
        if not SITES[self.name].per_layer:
            return self.name
        return f"layers.{'*' if self.layer is None else self.layer}.{self.name}"


def _no_site(text: str) -> ConfigError:
    addresses = [f"layers.*.{name}" if spec.per_layer else name for name, spec in SITES.items()]
    [name] = difflib.get_close_matches(text.rpartition(".")[2], SITES, n=1, cutoff=0.0)
    prefix = text.rpartition(".")[0]
    layer = prefix if _ADDRESS.fullmatch(f"{prefix}.{name}") else "layers.*"
    nearest = f"{layer}.{name}" if SITES[name].per_layer else name
    return ConfigError(
        f"{text!r} is not an activation site; the nearest is {nearest!r}. The sites: {', '.join(addresses)}"
        " (a number in place of * names one layer)."
    )


@dataclass(frozen=True, slots=True)
class Capture:
    """Collects the values of a site. `rows` (n,) int64 picks rows of the value; None takes all.

    `into` maps (name, layer) to the value as computed: the same tensor, not a copy, so it can carry gradients.
    """

    site: Site
    rows: Tensor | None = None
    into: dict[tuple[str, int | None], Tensor] = field(default_factory=dict[tuple[str, int | None], Tensor])


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces rows of a site by `change(rows)`, of the same shape. `rows` (n,) int64; None changes all.

    Raises ConfigError at construction for a site that is only a view into an operation.
    """

    site: Site
    change: Callable[[Tensor], Tensor]
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        if not SITES[self.site.name].editable:
            editable = ", ".join(name for name, spec in SITES.items() if spec.editable)
            raise ConfigError(f"{self.site} can be captured but not edited. Sites that can be edited: {editable}.")


def check_layers(captures: tuple[Capture, ...], edits: tuple[Edit, ...], layers: int) -> None:
    """Refuse, with ConfigError, a site of a layer that a network of so many layers does not have."""
    for asked in (*captures, *edits):
        if asked.site.layer is not None and asked.site.layer >= layers:
            raise ConfigError(f"{asked.site} was asked for, and this model has layers 0 to {layers - 1}.")


def asks(captures: tuple[Capture, ...], name: str, layer: int | None) -> bool:
    """True if some capture wants this value: then an operation is asked for its inner buffer."""
    return any(capture.site.matches(name, layer) for capture in captures)


def visit(
    captures: tuple[Capture, ...], edits: tuple[Edit, ...], layer: int | None, name: str, value: Tensor
) -> Tensor:
    """Hand `value` to the edits, in order, then to the captures that name it; returns what the network goes on with.

    Raises ShapeError if an edit gives back another shape or dtype than it was given.
    """
    for edit in edits:
        if edit.site.matches(name, layer):
            given = value if edit.rows is None else value[edit.rows]
            changed = edit.change(given)
            if changed.shape != given.shape or changed.dtype != given.dtype:
                raise ShapeError(
                    f"the edit of {edit.site} was given {given.dtype} {tuple(given.shape)} and returned {changed.dtype}"
                    f" {tuple(changed.shape)}; it must return the shape and dtype that it is given"
                )
            value = changed if edit.rows is None else value.index_copy(0, edit.rows, changed)
    for capture in captures:
        if capture.site.matches(name, layer):
            capture.into[name, layer] = value if capture.rows is None else value[capture.rows]
    return value
