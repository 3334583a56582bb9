"""How fast a loaded model decodes and reads a prompt. The network is driven directly; sampling is an argmax."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor

from ossature.config import ModelConfig
from ossature.model import Batch, Capture, KVCache, Site, Transformer
from ossature.plan.traffic import Traffic, decode_traffic, prefill_operations

__all__ = ["CHUNK", "WARM_STEPS", "DecodeSpeed", "Effort", "PrefillSpeed", "measure_decode", "measure_prefill"]

CHUNK = 512  # prompt tokens computed at once, as the engine does
WARM_STEPS = 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How often something is measured: `most` times, or fewer, but `least`, where `seconds` are over before."""

    least: int
    most: int
    seconds: float

    def enough(self, times: Sequence[float]) -> bool:
        return len(times) >= self.most or (len(times) >= self.least and sum(times) >= self.seconds)


@dataclass(frozen=True, slots=True)
class DecodeSpeed:
    """batch, depth  sequences, and tokens that each had before the first step
    seconds       of each timed step, one token for every sequence, argmax included
    experts       distinct experts of a layer that a step chose: counted, mean over layers and steps
    traffic       bytes that such a step has to read
    """

    batch: int
    depth: int
    seconds: tuple[float, ...]
    experts: float
    traffic: Traffic

    @property
    def tokens_per_second(self) -> float:
        """Of all sequences together, by the median step."""
        return self.batch / median(self.seconds)

    @property
    def gigabytes_per_second(self) -> float:
        """`traffic` over the median step, 10^9 bytes."""
        return self.traffic.total / median(self.seconds) / 1e9


@dataclass(frozen=True, slots=True)
class PrefillSpeed:
    """tokens      of the prompt
    seconds     of each timed prompt, up to the choice of the first new token
    operations  of its matrix products
    """

    tokens: int
    seconds: tuple[float, ...]
    operations: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / median(self.seconds)

    @property
    def gops(self) -> float:
        """10^9 operations a second, by the median."""
        return self.operations / median(self.seconds) / 1e9


def measure_decode(
    model: Transformer, *, batch: int, depth: int, numerics: str = "exact", effort: Effort
) -> DecodeSpeed:
    """Time single steps of `batch` sequences that have `depth` tokens each, after `WARM_STEPS` untimed ones.

    Their keys and values are random, and so are the tokens fed: sequences that follow their own argmax may fall into
    step and share experts. The argmax is computed and not used. `numerics`: what the model was loaded with.

    Raises ContextLengthError if the steps do not fit the cache of a model's context.
    """
    generator = torch.Generator().manual_seed(0)
    steps = WARM_STEPS + effort.most
    cache = _cache(model, sequences=batch, tokens=depth + steps)
    slots = [cache.open() for _ in range(batch)]
    for slot in slots:
        _fill(cache, slot, depth, model, generator)
    times: list[float] = []
    experts: list[float] = []
    for step, ids in enumerate(_random_ids(model.config, steps * batch, generator).view(steps, batch).tolist()):
        chosen = Capture(Site("expert_index"))  # keeps what is computed anyway: a reference a layer
        started = time.perf_counter()
        _forward(model, cache, slots, [[token] for token in ids], captures=(chosen,))
        if step >= WARM_STEPS:
            times.append(time.perf_counter() - started)
            experts.append(fmean(len(index.unique()) for index in chosen.into.values()))
        if effort.enough(times):
            break
    reached = depth + WARM_STEPS + len(times) // 2
    traffic = decode_traffic(
        model.config,
        depths=[reached] * batch,
        experts=fmean(experts),
        numerics=numerics,
        cache_itemsize=model.dtype.itemsize,
    )
    return DecodeSpeed(batch, depth, tuple(times), fmean(experts), traffic)


def measure_prefill(model: Transformer, *, tokens: int, effort: Effort) -> PrefillSpeed:
    """Time prompts of `tokens` random tokens from an empty cache, in chunks of `CHUNK`, to the argmax of the last."""
    generator = torch.Generator().manual_seed(0)
    cache = _cache(model, sequences=1, tokens=tokens)
    times: list[float] = []
    while not effort.enough(times):
        ids: list[int] = _random_ids(model.config, tokens, generator).tolist()
        slot = cache.open()
        started = time.perf_counter()
        for first in range(0, tokens, CHUNK):
            _forward(model, cache, [slot], [ids[first : first + CHUNK]])
        times.append(time.perf_counter() - started)
        cache.close(slot)
    return PrefillSpeed(tokens, tuple(times), prefill_operations(model.config, tokens))


def _forward(
    model: Transformer,
    cache: KVCache,
    slots: Sequence[int],
    pieces: Sequence[Sequence[int]],
    captures: tuple[Capture, ...] = (),
) -> list[int]:
    """The likeliest id after the last one of each piece."""
    starts = [cache.extend(slot, len(ids)) for slot, ids in zip(slots, pieces, strict=True)]
    with torch.inference_mode():
        batch = Batch.packed(
            pieces, slots=slots, starts=starts, last_only=True, captures=captures, device=model.inv_freq.device
        )
        return model(batch, cache).argmax(-1).tolist()


def _cache(model: Transformer, *, sequences: int, tokens: int) -> KVCache:
    return KVCache(
        model.config,
        max_sequences=sequences,
        max_tokens=tokens,
        slack=min(CHUNK, tokens),
        dtype=model.dtype,
        device=model.inv_freq.device,
    )


def _fill(cache: KVCache, slot: int, depth: int, model: Transformer, generator: torch.Generator) -> None:
    """Give a sequence `depth` tokens of random keys and values, the same in every layer."""
    config, device = model.config, model.inv_freq.device
    for count in _chunks(depth, cache.slack):
        start = cache.extend(slot, count)
        positions = torch.arange(start, start + count, device=device)
        rows = cache.rows(positions, torch.full_like(positions, slot))
        shape = (2, count, config.num_key_value_heads, config.head_dim)
        k, v = torch.randn(shape, generator=generator).to(device, model.dtype)
        for layer, kind in enumerate(config.layer_types):
            cache.write(layer, k, v, rows[kind])


def _chunks(total: int, most: int) -> Iterator[int]:
    for first in range(0, total, most):
        yield min(most, total - first)


def _random_ids(config: ModelConfig, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(config.vocab_size, (count,), generator=generator)
