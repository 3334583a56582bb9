"""Kept prefixes: what is resumed is what would have been computed, and only who may share shares."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ossature.engine import Engine, SamplingParams, Sequence
from ossature.engine.prefix import PrefixCache
from ossature.errors import ContextLengthError, ShapeError
from ossature.model import Batch, Edit, KVCache, Site, Transformer
from tests import network

WINDOW, BLOCK, EVERY = 8, 4, 12
IDS = network.token_ids(59)  # seven windows


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=3, sliding_window=WINDOW)
    return network.ours(config, network.packed(network.tensors(config)), deterministic=True)


@pytest.fixture(scope="module")
def truth(model: Transformer) -> Tensor:
    return network.prefill(model, IDS)["logits", None]


def cache_of(model: Transformer, **sizes: int) -> KVCache:
    sizes = {"max_sequences": 3, "max_tokens": 64, "slack": 16, "block_size": BLOCK} | sizes
    return KVCache(model.config, dtype=torch.float32, **sizes)  # pyright: ignore[reportArgumentType]


def feed(model: Transformer, cache: KVCache, slot: int, ids: list[int]) -> Tensor:
    """Logits after each of the next ids of one sequence, at most 16 of them at a time."""
    logits = []
    for first in range(0, len(ids), 16):
        piece = ids[first : first + 16]
        start = cache.extend(slot, len(piece))
        with torch.no_grad():
            logits.append(model(Batch.packed([piece], slots=[slot], starts=[start]), cache))
    return torch.cat(logits)


def assert_same(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert torch.equal(got, expected)


@pytest.mark.parametrize("length", [1, 3, 4, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1, 16, 31, 58])
def test_a_resumed_sequence_has_the_logits_of_an_uncached_one(model, truth, length):
    cache = cache_of(model)
    first = cache.open()
    feed(model, cache, first, IDS[:length])
    prefix = cache.keep(first, length)
    feed(
        model, cache, first, network.token_ids(64 - length, seed=3)
    )  # other rows behind it, all through its last block
    cache.close(first)
    other = cache.open()  # takes the slot, the ring and the free blocks
    feed(model, cache, other, network.token_ids(50, seed=4))
    slot = cache.open()
    cache.resume(slot, prefix)
    assert cache.length(slot) == length
    assert_same(feed(model, cache, slot, IDS[length:]), truth[length:])


@pytest.mark.parametrize("behind", [0, 5, 16])
def test_a_prefix_can_be_kept_as_far_back_as_the_rings_reach_and_no_further(model, truth, behind):
    cache = cache_of(model)
    first, slot = cache.open(), cache.open()
    feed(model, cache, first, IDS[:40])
    cache.resume(slot, cache.keep(first, 40 - behind))
    assert_same(feed(model, cache, slot, IDS[40 - behind :]), truth[40 - behind :])
    for length in (0, 23, 41):
        with pytest.raises(ShapeError, match=f"cannot keep {length} positions of slot 0: .* 24 to 40"):
            cache.keep(first, length)


def test_two_that_resume_and_the_one_they_come_from_do_not_see_each_other(model, truth):
    cache = cache_of(model, blocks=40)
    first = cache.open()
    feed(model, cache, first, IDS[:30])  # two rows into a block
    prefix = cache.keep(first, 30)
    others = [cache.open(), cache.open()]
    for slot in others:
        cache.resume(slot, prefix)
    assert cache.free_blocks == 40 - 8 - 2  # whole blocks are shared, the half one has three owners
    for slot, seed in zip(others, (7, 8), strict=True):
        tail = network.token_ids(9, seed=seed)
        alone = network.prefill(model, IDS[:30] + tail)["logits", None][30:]
        assert_same(feed(model, cache, slot, tail), alone)
    assert_same(feed(model, cache, first, IDS[30:]), truth[30:])


def test_blocks_are_free_when_the_last_who_holds_them_lets_go(model):
    cache = cache_of(model, blocks=20)
    first = cache.open()
    feed(model, cache, first, IDS[:10])
    prefix = cache.keep(first, 10)
    slot = cache.open()
    cache.resume(slot, prefix)
    assert (cache.free_blocks, len(cache.held_blocks)) == (16, 4)
    cache.close(first)
    assert (cache.free_blocks, len(cache.held_blocks)) == (16, 3)
    cache.drop(prefix)
    assert cache.free_blocks == 17
    cache.close(slot)
    assert cache.free_blocks == 20


def test_kept_and_resumed_positions_are_not_written_again(model):
    cache = cache_of(model)
    first, slot = cache.open(), cache.open()
    feed(model, cache, first, IDS[:10])
    prefix = cache.keep(first, 8)
    cache.resume(slot, prefix)
    cache.rewind(first, 2)
    for owner in (first, slot):
        with pytest.raises(ShapeError, match="cannot rewind 1 of 8 positions: others may start from the first 8"):
            cache.rewind(owner, 1)
        with pytest.raises(ShapeError, match="position 7 of slot"), torch.no_grad():
            model(Batch.packed([[5]], slots=[owner], starts=[7]), cache)


def test_a_resumption_that_fails_changes_nothing(model, truth):
    cache = cache_of(model, blocks=3)
    first, slot = cache.open(), cache.open()
    feed(model, cache, first, IDS[:10])
    prefix = cache.keep(first, 10)
    with pytest.raises(ContextLengthError, match="1 cache blocks of 4 positions are needed, 0 are free"):
        cache.resume(slot, prefix)
    with pytest.raises(ShapeError, match="slot 0 holds 10 positions; only an empty sequence can resume"):
        cache.resume(first, prefix)
    assert (cache.length(slot), cache.free_blocks) == (0, 0)
    cache.drop(prefix)
    cache.close(first)
    assert_same(feed(model, cache, slot, IDS[:12]), truth[:12])


def engine_of(model: Transformer, **options: object) -> Engine:
    options = {
        "max_sequences": 2,
        "max_tokens": 96,
        "block_size": BLOCK,
        "chunk": 16,
        "snapshot_every": EVERY,
        "speculation": False,
    } | options
    return Engine(model, **options)  # pyright: ignore[reportArgumentType]


def said(engine: Engine, ids: list[int], count: int = 6, **options: object) -> Sequence:
    params = SamplingParams(temperature=0, max_new_tokens=count)
    sequence = Sequence(ids, params, **options)  # pyright: ignore[reportArgumentType]
    list(engine.stream(sequence))
    return sequence


def hits(engine: Engine, ids: list[int], count: int = 6, **options: object) -> int:
    return said(engine, ids, count, **options).cached_tokens


def test_a_hit_is_at_the_end_of_the_prompt_of_the_sequence_or_every_so_many_positions(model):
    engine = engine_of(model)
    output = said(engine, IDS[:45], count=9).output
    end = len(IDS[:45] + output) - 1
    assert hits(engine, IDS[:45]) == 44  # the last id is computed again, for its logits
    assert hits(engine, [*IDS[:45], 3, 2]) == 44
    assert hits(engine, IDS[:45] + output + [7]) == end
    assert hits(engine, IDS[:45] + output) == end
    assert hits(engine, [*IDS[:40], 9, 9, 9, 9, 9]) == 36
    assert hits(engine, IDS[:36]) == 24
    assert hits(engine, IDS[:13]) == 12
    assert hits(engine, IDS[:12]) == 0
    assert hits(engine, [IDS[0] ^ 1, *IDS[1:45]]) == 0


@pytest.mark.parametrize("length", [WINDOW - 1, 13, 45, 59])
def test_a_hit_says_what_a_miss_says_with_the_same_logprobs(model, length):
    engine = engine_of(model)
    fresh, cached = (said(engine, IDS[:length], logprobs=3) for _ in range(2))
    assert (fresh.cached_tokens, cached.cached_tokens) == (0, length - 1)
    assert fresh.output == cached.output
    for one, other in zip(fresh.output_logprobs, cached.output_logprobs, strict=True):
        assert one.logprob == other.logprob
        assert [token for token, _ in one.top] == [token for token, _ in other.top]


def negate(value: Tensor) -> Tensor:
    return -value


def test_the_same_tokens_under_another_salt_or_edit_find_nothing(model):
    edit, other = Edit(Site("mlp_out", 0), negate), Edit(Site("mlp_out", 1), negate)
    contexts: list[dict[str, Any]] = [{}, {"salt": "b"}, {"salt": b"b"}, {"edits": (edit,)}, {"edits": (other,)}]
    contexts += [{"edits": (edit, other)}, {"salt": "b", "edits": (edit,)}, {"edits": (Edit(edit.site, torch.neg),)}]
    engine = engine_of(model, blocks=150)
    assert [hits(engine, IDS[:30], **context) for context in contexts] == [0] * len(contexts)
    assert [hits(engine, IDS[:30], **context) for context in contexts] == [29] * len(contexts)


def test_the_same_tokens_under_another_adapter_find_nothing(model):
    cache = cache_of(model)
    prefixes = PrefixCache(cache, limit=1 << 24, every=EVERY)
    sequences = [Sequence(IDS[:30], adapter=adapter) for adapter in (0, 1)]
    for sequence in sequences:
        sequence.ids = IDS[:30]
    sequences[0].slot = cache.open()
    feed(model, cache, sequences[0].slot, IDS[:16])
    prefixes.remember(sequences[0], 16)
    assert [prefixes.find(sequence) is None for sequence in sequences] == [False, True]


def test_the_entries_stay_within_their_bytes_and_the_longest_unused_goes_first(model):
    engine = engine_of(model)
    said(engine, IDS[:13], count=1)  # at 12, the end of the prompt, and at 13, the end of the sequence
    assert engine.stats().prefix_entries == 2
    one = engine.stats().prefix_bytes
    engine = engine_of(model, prefix_bytes=3 * one)
    prompts = [network.token_ids(13, seed=seed) for seed in range(4)]
    for prompt in (*prompts[:3], prompts[0], prompts[3]):  # the first is used again before the fourth comes
        said(engine, prompt, count=1)
        assert engine.stats().prefix_bytes <= 3 * one
    assert [hits(engine, prompt, count=1) for prompt in (prompts[0], prompts[2], prompts[3])] == [12, 12, 12]
    assert hits(engine, prompts[1], count=1) == 0


def test_a_pool_that_prefixes_fill_gives_them_up_for_a_sequence(model):
    engine = engine_of(model, blocks=16)
    for seed in range(4):
        said(engine, network.token_ids(30, seed=seed))
    assert engine.stats().free_blocks < 14
    assert len(said(engine, network.token_ids(50, seed=9), count=14).output) == 14
    assert engine.stats().preemptions == 0
    engine.clear_prefixes()
    assert engine.stats().free_blocks == 16


def test_without_a_prefix_cache_nothing_is_kept(model):
    engine = engine_of(model, prefix_cache=False)
    assert (hits(engine, IDS[:30]), hits(engine, IDS[:30])) == (0, 0)
    assert engine.stats().free_blocks == engine.stats().blocks
