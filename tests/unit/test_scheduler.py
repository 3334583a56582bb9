"""Who computes what, and who makes room for whom, seen through the engine."""

import pytest

from ossature.engine import Engine, SamplingParams, Sequence, generate
from ossature.model import Transformer
from tests import network

BLOCK = 4


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=2)
    return network.ours(config, network.packed(network.tensors(config)), deterministic=True)


def engine_of(model: Transformer, **options: object) -> Engine:
    options = {"max_sequences": 4, "max_tokens": 60, "block_size": BLOCK, "chunk": 16, "prefix_cache": False} | options
    return Engine(model, **options)  # pyright: ignore[reportArgumentType]


def submit(engine: Engine, prompt: int, new: int, *, seed: int = 0) -> Sequence:
    params = SamplingParams(seed=seed, max_new_tokens=new)
    return engine.submit(Sequence(network.token_ids(prompt, seed=seed), params, logprobs=2))


def alone(model: Transformer, sequence: Sequence) -> list[int]:
    return [token for _, token in generate(model, [sequence.prompt], sequence.params)]


def run(engine: Engine, *sequences: Sequence) -> list[Sequence]:
    """Step until all have ended; returns them in the order in which they did."""
    ended: list[Sequence] = []
    while len(ended) < len(sequences):
        engine.step()
        ended += [s for s in sequences if s.state == "ended" and s not in ended]
    return ended


def test_a_preempted_sequence_keeps_its_ids_draws_and_logprobs(model):
    engine = engine_of(model, blocks=15)
    sequences = [submit(engine, prompt, 24, seed=seed) for seed, prompt in enumerate((9, 13, 6))]
    run(engine, *sequences)
    assert engine.stats().preemptions > 0
    for sequence in sequences:
        assert sequence.output == alone(model, sequence)
        assert len(sequence.output_logprobs) == 24
    assert engine.stats().free_blocks == 15


def test_the_youngest_gives_way_and_the_oldest_never_waits(model):
    engine = engine_of(model, blocks=15, speculation=False)
    first, second, third = (submit(engine, 9, 30, seed=seed) for seed in range(3))
    for made in range(1, 31):
        engine.step()
        assert len(first.output) == made
    assert engine.stats().preemptions > 0
    assert len(second.output) > len(third.output)
    assert run(engine, first, second, third) == [first, second, third]


def test_a_step_computes_at_most_a_chunk_of_prompts_beside_the_decodes(model):
    engine = engine_of(model, chunk=10, speculation=False)
    sequences = [submit(engine, prompt, 8, seed=seed) for seed, prompt in enumerate((4, 23, 5))]
    rows = []
    while engine.stats().waiting or engine.stats().running:
        before = engine.stats().computed_tokens
        engine.step()
        rows.append(engine.stats().computed_tokens - before)
    # 4 + 6 of 23, decode + 10, decode + 7 + 3 of 5, two decodes + 2, then three decodes each
    assert rows[:5] == [10, 11, 11, 4, 3]
    assert [sequence.output for sequence in sequences] == [alone(model, sequence) for sequence in sequences]


def test_who_came_first_is_not_overtaken_by_one_that_would_fit(model):
    engine = engine_of(model, blocks=15)
    large, waits, small = submit(engine, 30, 20), submit(engine, 40, 4, seed=1), submit(engine, 2, 2, seed=2)
    engine.step()
    assert (waits.state, small.state) == ("waiting", "waiting")
    assert run(engine, large, waits, small)[0] is large
    assert waits.output == alone(model, waits)


def test_sequences_that_share_a_prefix_fit_where_copies_of_it_would_not(model):
    engine = engine_of(model, blocks=16, prefix_cache=True)
    prefix = network.token_ids(33)
    first = Sequence([*prefix, 3], SamplingParams(temperature=0, max_new_tokens=1))
    list(engine.stream(first))
    params = SamplingParams(temperature=0, max_new_tokens=9)
    both = [
        engine.submit(Sequence([*prefix, 7, token], params)) for token in (8, 9)
    ]  # 12 blocks each, 8 of them shared
    engine.step()
    assert engine.stats().running == 2
    run(engine, *both)
    assert [sequence.cached_tokens for sequence in both] == [33, 33]
    assert [sequence.output for sequence in both] == [alone(model, sequence) for sequence in both]
    assert engine.stats().preemptions == 0


@pytest.mark.parametrize("spare", [0, 1])
def test_a_sequence_as_long_as_the_pool_runs_alone_in_it(model, spare):
    engine = engine_of(model, blocks=10, max_tokens=40, prefix_cache=True)
    longest = submit(engine, 30, 10 - spare)
    other = submit(engine, 5, 3, seed=1)
    run(engine, longest, other)
    assert longest.output == alone(model, longest)
    assert other.output == alone(model, other)
    engine.clear_prefixes()
    assert engine.stats().free_blocks == 10
