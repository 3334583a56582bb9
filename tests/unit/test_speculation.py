"""Proposals: from the sequence's own ids, only while they pay, and without any trace in what is said."""

import pytest

from ossature.engine import Engine, SamplingParams, Sequence, generate
from ossature.engine.speculation import MOST, REST, Drafter
from ossature.model import Transformer
from tests import network


def test_the_longest_match_is_preferred_to_the_latest():
    ids = [9, 1, 2, 3, 4, 50, 51, 8, 2, 3, 4, 60, 61, 9, 1, 2, 3, 4]
    assert Drafter().draft(ids, 2) == [50, 51]
    assert Drafter().draft([7, *ids[1:]], 2) == [50, 51]  # "1 2 3 4" is still longer than "2 3 4"
    assert Drafter().draft([7, 7, *ids[2:]], 2) == [60, 61]  # of equally long ones the latest


def test_nothing_is_proposed_where_fewer_than_three_ids_agree():
    assert Drafter().draft([1, 2, 3, 4, 9, 2, 3], 8) == []
    assert Drafter().draft([], 8) == []
    assert Drafter().draft([5, 5], 8) == []


def test_ids_are_not_found_across_the_border_of_two():
    word = 1 << 8  # as bytes: 0 1 0 0, which also stands inside 0 0 1 0 | 0 …
    assert Drafter().draft([1 << 16, 1 << 16, 1 << 16, 1 << 16, 7, word, word, word], 8) == []


def test_a_cycle_is_proposed_beyond_the_end_of_what_is_known():
    drafter = Drafter()
    drafter.learn(2, 2, length=0)
    drafter.learn(4, 4, length=0)
    assert drafter.draft([1, 2, 3, 1, 2, 3], 8) == [1, 2, 3, 1, 2, 3, 1, 2]
    assert drafter.draft([1, 2, 3, 1, 2, 3, 1], 3) == [2, 3, 1]


def test_proposals_grow_while_all_come_true_and_shrink_to_those_that_did():
    drafter, ids = Drafter(), [4] * 9
    lengths = []
    for accepted in (2, 4, 8, 8, 3, 1, 0):
        lengths.append(len(drafter.draft(ids, MOST)))
        drafter.learn(lengths[-1], accepted, length=len(ids))
    assert lengths == [2, 4, 8, 8, 8, 3, 1]


def test_proposals_rest_when_too_few_come_true_and_are_tried_again():
    drafter, ids = Drafter(), [4] * 9
    wrong = 0
    while drafter.draft(ids, MOST):
        drafter.learn(1, 0, length=len(ids))
        wrong += 1
    assert wrong == 4
    assert drafter.draft([4] * (9 + REST - 1), MOST) == []
    assert drafter.draft([4] * (9 + REST), MOST) == [4]


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=3, sliding_window=7)
    values = network.tensors(config, seed=9)
    for name, value in values.items():
        if "o_proj" in name or "down_proj" in name:
            value *= 0.1  # such a network soon repeats itself
    return network.ours(config, network.packed(values), deterministic=True)


PARAMS = [
    SamplingParams(temperature=0, max_new_tokens=60),
    SamplingParams(temperature=0.05, seed=5, max_new_tokens=60),
    SamplingParams(temperature=0, max_new_tokens=47),
]


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("chunk", [1, 64])
def test_what_is_said_is_the_same_with_and_without(model, params, chunk):
    prompt = network.token_ids(5) * 3
    engine = Engine(model, max_sequences=1, max_tokens=75, chunk=chunk, block_size=4)
    sequence = Sequence(prompt, params, logprobs=0)
    assert list(engine.stream(sequence)) == [token for _, token in generate(model, [prompt], params)]
    stats = engine.stats()
    assert stats.drafted_tokens >= stats.accepted_tokens > 10
    assert stats.steps < 15 // chunk + params.max_new_tokens - 9
    assert len(sequence.output_logprobs) == params.max_new_tokens


def test_a_stop_id_among_the_proposals_ends_the_sequence_there(model):
    prompt = network.token_ids(5) * 3
    plain = [token for _, token in generate(model, [prompt], PARAMS[0])]
    engine = Engine(model, max_sequences=1, max_tokens=90, block_size=4, prefix_cache=False)
    for stop in set(plain):
        stopping = SamplingParams(temperature=0, max_new_tokens=60, stop_ids={stop})
        assert list(engine.stream(Sequence(prompt, stopping))) == plain[: plain.index(stop) + 1]
    assert engine.stats().accepted_tokens > 0
    assert engine.stats().free_blocks == engine.stats().blocks


def test_speculation_can_be_switched_off(model):
    engine = Engine(model, max_sequences=1, max_tokens=90, speculation=False)
    list(engine.stream(Sequence(network.token_ids(5) * 3, PARAMS[0])))
    assert engine.stats().drafted_tokens == 0
