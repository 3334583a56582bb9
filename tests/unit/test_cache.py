"""The key-value cache: whatever the pieces, the logits are those of one uncached pass; misuse is refused by name."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ossature.errors import ContextLengthError, ShapeError
from ossature.model import Batch, KVCache, Transformer
from tests import network

WINDOW = 8
TOLERANCE = 2e-5  # float32 rounding, on logits of unit scale: products over other numbers of rows add in another order
IDS = network.token_ids()


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=2)
    return network.ours(config, network.tensors(config))


@pytest.fixture(scope="module")
def truth(model: Transformer) -> Tensor:
    return network.prefill(model, IDS)["logits", None]


MakeCache = Callable[..., KVCache]


@pytest.fixture
def make(model: Transformer) -> MakeCache:
    def make(**sizes: int) -> KVCache:
        sizes = {"max_sequences": 3, "max_tokens": 40, "slack": 9, "block_size": 4} | sizes
        return KVCache(model.config, dtype=torch.float32, **sizes)  # pyright: ignore[reportArgumentType]

    return make


def feed(model: Transformer, cache: KVCache, slot: int, ids: list[int]) -> Tensor:
    """Logits after each of the next ids of one sequence."""
    start = cache.extend(slot, len(ids))
    with torch.no_grad():
        return model(Batch.packed([ids], slots=[slot], starts=[start]), cache)


def feed_all(model: Transformer, cache: KVCache, slot: int, ids: list[int], chunk: int) -> Tensor:
    return torch.cat([feed(model, cache, slot, ids[i : i + chunk]) for i in range(0, len(ids), chunk)])


def assert_same(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("chunk", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 33])
@pytest.mark.parametrize("slack", [1, 5, 33])
@pytest.mark.parametrize("block_size", [1, 4, 64])
def test_any_chunks_give_the_logits_of_one_pass(
    model: Transformer, truth: Tensor, make: MakeCache, chunk: int, slack: int, block_size: int
) -> None:
    cache = make(slack=max(slack, chunk), block_size=block_size)
    assert_same(feed_all(model, cache, cache.open(), IDS, chunk), truth)


def test_a_ring_gives_the_bits_of_a_cache_that_keeps_every_row(model: Transformer, make: MakeCache) -> None:
    ring, everything = make(slack=3), make(slack=40)
    assert ring.ring < len(IDS) < everything.ring
    left, right = (feed_all(model, cache, cache.open(), IDS, 3) for cache in (ring, everything))
    assert torch.equal(left, right)


@pytest.mark.parametrize("slots", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_a_batch_of_sequences_is_each_of_them_alone_in_whatever_order(
    model: Transformer, make: MakeCache, slots: list[int]
) -> None:
    cache = make()
    assert sorted(cache.open() for _ in slots) == [0, 1, 2]
    sequences = {slot: network.token_ids(count, seed=slot) for slot, count in zip(slots, (23, 9, 14), strict=True)}
    got: dict[int, list[Tensor]] = {slot: [] for slot in slots}
    done = dict.fromkeys(slots, 0)
    for counts in ((9, 1, 4), (1, 7, 2), (5, 1, 8), (8, 0, 0)):
        step = {slot: count for slot, count in zip(slots, counts, strict=True) if count}
        starts = [cache.extend(slot, count) for slot, count in step.items()]
        pieces = [sequences[slot][done[slot] : done[slot] + count] for slot, count in step.items()]
        with torch.no_grad():
            logits = model(Batch.packed(pieces, slots=list(step), starts=starts), cache)
        for (slot, count), rows in zip(step.items(), logits.split(list(step.values())), strict=True):
            got[slot].append(rows)
            done[slot] += count
    for slot, ids in sequences.items():
        assert_same(torch.cat(got[slot]), network.prefill(model, ids)["logits", None])


def test_packed_prompts_without_a_cache_are_each_of_them_alone(model: Transformer) -> None:
    sequences = [network.token_ids(count, seed=count) for count in (1, 20, 7, 33)]
    with torch.no_grad():
        got = model(Batch.packed(sequences)).split([1, 20, 7, 33])
    for rows, ids in zip(got, sequences, strict=True):
        assert_same(rows, network.prefill(model, ids)["logits", None])


def test_only_the_rows_asked_for_get_logits_in_the_order_asked(model: Transformer, truth: Tensor) -> None:
    batch = Batch.packed([IDS, IDS[:5]], last_only=True)
    with torch.no_grad():
        assert_same(model(batch), truth[[len(IDS) - 1, 4]])
        some = replace(Batch.packed([IDS]), logits_rows=torch.tensor([7, 0, 7]))
        assert_same(model(some), truth[[7, 0, 7]])


@pytest.mark.parametrize("back", range(1, 10))
def test_rewind_is_exact_up_to_slack(model: Transformer, truth: Tensor, make: MakeCache, back: int) -> None:
    cache = make()
    slot = cache.open()
    feed_all(model, cache, slot, IDS[:25], 9)
    feed(model, cache, slot, network.token_ids(back, seed=9))
    cache.rewind(slot, back)
    assert cache.length(slot) == 25
    assert_same(feed_all(model, cache, slot, IDS[25:], 9), truth[25:])


def test_rewinds_add_up_to_slack_behind_the_furthest_row_and_no_further(
    model: Transformer, truth: Tensor, make: MakeCache
) -> None:
    cache = make()
    slot = cache.open()
    feed_all(model, cache, slot, IDS[:30], 9)
    cache.rewind(slot, 4)
    feed(model, cache, slot, IDS[26:28])
    cache.rewind(slot, 7)  # 21: nine behind 30
    with pytest.raises(ShapeError, match=r"cannot rewind 1 of 21 positions: that is 10 behind .* keep 9 rows"):
        cache.rewind(slot, 1)
    assert cache.length(slot) == 21
    assert_same(feed_all(model, cache, slot, IDS[21:], 5), truth[21:])


def test_rewind_gives_back_the_blocks_that_no_row_needs(make: MakeCache, model: Transformer) -> None:
    cache = make()
    slot = cache.open()
    free = cache.free_blocks
    cache.extend(slot, 9)
    assert cache.free_blocks == free - 3
    cache.rewind(slot, 1)
    assert cache.free_blocks == free - 2
    cache.rewind(slot, 8)
    assert cache.free_blocks == free
    cache.rewind(slot, 0)
    assert feed(model, cache, slot, IDS[:2]).shape == (2, 331)


def test_closing_gives_slot_and_blocks_to_the_next_who_sees_nothing_of_the_last(
    model: Transformer, truth: Tensor, make: MakeCache
) -> None:
    cache = make(max_sequences=1, blocks=10)
    for _ in range(3):
        slot = cache.open()
        feed_all(model, cache, slot, network.token_ids(40, seed=5), 9)
        assert cache.free_blocks == 0
        cache.close(slot)
        assert cache.free_blocks == 10
    assert_same(feed_all(model, cache, cache.open(), IDS, 9), truth)


def test_blocks_are_shared_by_all_sequences_of_the_pool(model: Transformer, truth: Tensor, make: MakeCache) -> None:
    cache = make(blocks=13)  # too few for two sequences of 33 (9 blocks each), enough for 33 and 16
    first, second = cache.open(), cache.open()
    left, right = [], []
    for start in range(0, 33, 3):
        left.append(feed(model, cache, first, IDS[start : start + 3]))
        if start < 15:
            right.append(feed(model, cache, second, IDS[start : start + 3]))
    assert_same(torch.cat(left), truth)
    assert_same(torch.cat(right), truth[:15])
    with pytest.raises(ContextLengthError, match=r"1 cache blocks of 4 positions are needed, 0 are free"):
        cache.extend(second, 2)


@pytest.mark.parametrize(
    ("count", "error", "said"),
    [
        (0, ShapeError, "a chunk of 0 rows .* takes 1 to 9 at once"),
        (-2, ShapeError, "a chunk of -2 rows"),
        (10, ShapeError, "a chunk of 10 rows .* Split the prompt"),
        (6, ContextLengthError, "41 positions were asked for; this cache holds 40"),
        (5, ContextLengthError, "1 cache blocks of 4 positions are needed, 0 are free"),
    ],
)
def test_an_extension_that_fails_changes_nothing(
    model: Transformer, truth: Tensor, make: MakeCache, count: int, error: type[Exception], said: str
) -> None:
    cache = make(blocks=10)
    other, slot = cache.open(), cache.open()
    if error is ContextLengthError and count == 5:
        cache.extend(other, 1)  # the tenth block
    ids = IDS + IDS[:2]  # 35 positions in nine blocks
    feed_all(model, cache, slot, ids, 9)
    before = cache.length(slot), cache.free_blocks
    with pytest.raises(error, match=said):
        cache.extend(slot, count)
    assert (cache.length(slot), cache.free_blocks) == before
    cache.rewind(slot, 4)
    assert_same(feed(model, cache, slot, ids[31:33]), truth[31:33])


def test_a_slot_that_is_not_open_is_refused_by_every_method(make: MakeCache) -> None:
    cache = make()
    slot = cache.open()
    cache.close(slot)
    for call in (
        lambda: cache.length(slot),
        lambda: cache.close(slot),
        lambda: cache.extend(slot, 1),
        lambda: cache.rewind(slot, 0),
        lambda: cache.length(-1),
        lambda: cache.length(3),
    ):
        with pytest.raises(ShapeError, match=r"slot -?\d is not open; open are \[\]"):
            call()


def test_no_more_sequences_are_opened_than_there_is_room_for(make: MakeCache) -> None:
    cache = make()
    assert len({cache.open() for _ in range(3)}) == 3
    with pytest.raises(ContextLengthError, match="all 3 slots of the cache are taken"):
        cache.open()


@pytest.mark.parametrize(("count", "said"), [(-1, "-1 positions"), (6, "6 positions: .* holds 5")])
def test_rewinding_by_less_than_nothing_or_more_than_all_is_refused(make: MakeCache, count: int, said: str) -> None:
    cache = make()
    slot = cache.open()
    cache.extend(slot, 5)
    with pytest.raises(ShapeError, match=f"cannot rewind {said}"):
        cache.rewind(slot, count)
    assert cache.length(slot) == 5


@pytest.mark.parametrize("size", ["max_sequences", "max_tokens", "slack", "block_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_cache_that_holds_nothing_is_refused(make: MakeCache, size: str, value: int) -> None:
    with pytest.raises(ShapeError, match=f"{size}={value}"):
        make(**{size: value})


@pytest.mark.parametrize(
    ("slot", "start", "said"),
    [
        (1, 12, "position 12 of slot 1, which can compute positions 3 to 11 now"),  # nobody extended
        (1, 2, "position 2 of slot 1, which can compute positions 3 to 11 now"),  # the rings have moved on
        (1, -1, "position -1 of slot 1"),
        (0, 0, "position 0 of slot 0, which can compute positions 0 to -1 now"),
        (2, 0, "slot 2 is not open; open are"),
        (3, 0, "slot 3 is not open"),
        (-1, 0, "slot -1 is not open"),
    ],
)
def test_a_batch_of_rows_that_were_not_reserved_is_refused_before_anything_is_written(
    model: Transformer, truth: Tensor, make: MakeCache, slot: int, start: int, said: str
) -> None:
    cache = make()
    assert [cache.open(), cache.open()] == [0, 1]
    feed_all(model, cache, 1, IDS[:12], 9)
    with torch.no_grad(), pytest.raises(ShapeError, match=said):
        model(Batch.packed([[5]], slots=[slot], starts=[start]), cache)
    assert_same(feed(model, cache, 1, IDS[12:20]), truth[12:20])


def test_a_cache_of_another_dtype_than_the_activations_is_refused(model: Transformer) -> None:
    cache = KVCache(model.config, max_sequences=1, max_tokens=8)
    with pytest.raises(ShapeError, match=r"the cache holds torch\.bfloat16 and was given torch\.float32"):
        feed(model, cache, cache.open(), IDS[:2])


def test_keys_that_carry_a_gradient_are_refused(make: MakeCache) -> None:
    config = network.peer_config(num_hidden_layers=1)
    model = network.ours(config, network.tensors(config)).requires_grad_()
    cache = make()
    start = cache.extend(slot := cache.open(), 1)
    with pytest.raises(ShapeError, match="a cache keeps no gradients"):
        model(Batch.packed([[5]], slots=[slot], starts=[start]), cache)


def test_positions_that_do_not_start_at_0_need_a_cache(model: Transformer) -> None:
    with pytest.raises(ShapeError, match=r"without a cache, the positions .* must run 0, 1, 2"):
        model(Batch.packed([IDS[:3], IDS[:2]], starts=[0, 4]))


@pytest.mark.parametrize(
    ("sequences", "slots", "starts"),
    [
        ([], None, None),
        ([[1], []], None, None),
        ([[1], [2]], [0], None),
        ([[1]], None, [0, 1]),
        ([[1], [2]], [1, 1], None),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    sequences: list[list[int]], slots: list[int] | None, starts: list[int] | None
) -> None:
    with pytest.raises(ShapeError, match=r"a batch needs one slot|needs a slot of its own"):
        Batch.packed(sequences, slots=slots, starts=starts)


def test_memory_is_reserved_and_not_touched(model: Transformer) -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    cache = KVCache(model.config, max_sequences=4, max_tokens=1 << 18, dtype=torch.float32)
    assert cache.free_blocks == 4 * (1 << 12)
    assert resident() - before < 32 << 20  # the pool has 400 MB
