"""How the next token is chosen from logits: one distribution, one draw, no hidden state.

The draw of step n of a sequence is a function of (seed, n) alone. The same seed therefore gives the same text whatever
else is computed at the same time, and a draw that was speculated, cancelled or repeated cannot shift the ones after it.
"""

import math
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType

import torch

from ossature.errors import CheckpointError, ConfigError

__all__ = ["SamplingParams", "distribution", "draw_seed", "sample", "uniform"]

NO_BIAS: Mapping[int, float] = MappingProxyType({})
# How many of the largest probabilities are looked at first for top_p. Nearly every step ends here; sorting a
# vocabulary of 200,000 costs more than a step of a small model.
FIRST_CANDIDATES = 512


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What one sequence asks of the sampler. Checked here, so that a wrong value fails before anything is computed.

    temperature     0 or more; 0 takes the largest logit, the lowest id where several are equal
    top_p           0 to 1; keeps the most probable tokens until their mass reaches it, never fewer than one
    min_p           0 to 1; drops tokens less probable than this share of the most probable one
    seed            None: drawn once for each sequence, from the system
    logit_bias      added to the logits of the given ids, before everything else
    max_new_tokens  0 or more; None: the rest of the model's context
    stop_ids        a sequence ends with the first of these that it samples

    Raises ConfigError.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=lambda: NO_BIAS, hash=False)
    max_new_tokens: int | None = None
    stop_ids: Collection[int] = frozenset()

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, low=0.0, high=math.inf)
        _check_number("top_p", self.top_p, low=0.0, high=1.0)
        _check_number("min_p", self.min_p, low=0.0, high=1.0)
        if self.seed is not None:
            _check_integer("seed", self.seed, low=None)
        if self.max_new_tokens is not None:
            _check_integer("max_new_tokens", self.max_new_tokens, low=0)
        for token, bias in self.logit_bias.items():
            _check_integer("a token id of logit_bias", token, low=0)
            _check_number(f"logit_bias of token {token}", bias, low=-math.inf, high=math.inf)
        for token in self.stop_ids:
            _check_integer("a stop id", token, low=0)
        object.__setattr__(self, "logit_bias", MappingProxyType(dict(self.logit_bias)))
        object.__setattr__(self, "stop_ids", frozenset(self.stop_ids))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise ConfigError if a biased id is not one of the model's `vocab_size` ids."""
        worst = max(self.logit_bias, default=-1)
        if worst >= vocab_size:
            raise ConfigError(
                f"logit_bias names token {worst}, but the model has {vocab_size} tokens, 0 to {vocab_size - 1}. "
                "Were the ids made by another tokenizer?"
            )


def _check_number(name: str, value: object, *, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {value!r}; it has to be a number.")
    if not math.isfinite(value) or not low <= value <= high:
        bounds = "finite" if low == -math.inf else f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise ConfigError(f"{name} is {value}; it has to be {bounds}.")


def _check_integer(name: str, value: object, *, low: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is {value!r}; it has to be an integer.")
    if low is not None and value < low:
        raise ConfigError(f"{name} is {value}; it has to be {low} or more.")


def draw_seed() -> int:
    """A seed for a sequence that asked for none, from the operating system."""
    return secrets.randbits(63)


def uniform(seed: int, step: int) -> float:
    """The draw of one step: uniform in [0, 1), a multiple of 2^-53, a function of (seed, step) alone."""
    digest = blake2b(f"{seed}/{step}".encode(), digest_size=8, person=b"oss-sample").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def sample(logits: torch.Tensor, params: SamplingParams, *, seed: int, step: int) -> int:
    """Choose the id of step `step`.

    logits  (vocab_size,) float32; -inf marks an id that may not be chosen
    seed    of the sequence: `params.seed`, or what `draw_seed` gave where that is None
    step    0 for the first new token of the sequence

    Raises CheckpointError if the logits hold NaN or +inf, or allow no id.
    """
    logits = _biased(logits, params.logit_bias)
    _check_logits(logits, step)
    if params.temperature == 0:
        return int(torch.argmax(logits))
    cumulative = torch.cumsum(distribution(logits, params), dim=0)
    # u < 1 keeps the target below the last sum, and `right` skips ids without mass: a dropped id is never returned.
    target = cumulative[-1] * uniform(seed, step)
    return int(torch.searchsorted(cumulative, target, right=True))


def distribution(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Probabilities after temperature, top_p and min_p; dropped ids have 0, the rest is not normalised again.

    logits  (vocab_size,) float32, bias already added, free of NaN and +inf; temperature above 0
    Returns (vocab_size,) float64.

    top_p and min_p both look at the whole distribution after the temperature, so their order does not matter.
    """
    # The largest logit is taken off first: dividing by a tiny temperature then yields 0 and -inf, never NaN.
    scaled = (logits.double() - logits.max().double()) / params.temperature
    probabilities = torch.softmax(scaled, dim=0)
    keep = probabilities > 0
    if params.top_p < 1:
        keep &= _nucleus(probabilities, params.top_p)
    if params.min_p > 0:
        keep &= probabilities >= params.min_p * probabilities.max()
    return torch.where(keep, probabilities, 0.0)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which ids form the smallest set of mass `top_p` or more; among equal probabilities the lowest ids come first."""
    candidates = FIRST_CANDIDATES
    while True:
        candidates = min(candidates, probabilities.numel())
        largest = torch.topk(probabilities, candidates).values
        mass = torch.cumsum(largest, dim=0)
        size = int(torch.searchsorted(mass, top_p)) + 1
        if size <= candidates or candidates == probabilities.numel():
            break
        candidates *= 8
    threshold = largest[min(size, candidates) - 1]
    keep = probabilities > threshold
    tied = (probabilities == threshold).nonzero().flatten()
    keep[tied[: min(size, candidates) - int(keep.sum())]] = True
    return keep


def _biased(logits: torch.Tensor, bias: Mapping[int, float]) -> torch.Tensor:
    if not bias:
        return logits
    ids = torch.tensor(list(bias), device=logits.device)
    return logits.index_add(0, ids, torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device))


def _check_logits(logits: torch.Tensor, step: int) -> None:
    largest = float(logits.max())  # NaN wins every comparison of torch's max
    if math.isfinite(largest):
        return
    if largest == -math.inf:
        raise CheckpointError(
            f"new token {step}: every one of the {logits.numel()} logits is -inf, no token is allowed."
        )
    wrong = int((torch.isnan(logits) | (logits == math.inf)).sum())
    raise CheckpointError(
        f"new token {step}: {wrong} of {logits.numel()} logits are NaN or infinite. The weights are damaged, or "
        "their products overflow: compare the files with the published hashes, and try dtype float32."
    )
