"""Sampling against an independent implementation in numpy, and the promises of SamplingParams."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossature.engine.sampling import SamplingParams, distribution, sample, uniform
from ossature.errors import CheckpointError, ConfigError


def oracle(logits: np.ndarray, *, temperature: float, top_p: float, min_p: float) -> np.ndarray:
    """The probabilities that may be drawn from, by sorting everything; float64, 0 where dropped."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    probabilities = weights / weights.sum()
    order = np.lexsort((np.arange(len(logits)), -probabilities))
    kept, mass = [], 0.0
    for token in order:
        if mass >= top_p and kept:
            break
        kept.append(token)
        mass += probabilities[token]
    result = np.zeros_like(probabilities)
    result[kept] = probabilities[kept]
    result[probabilities < min_p * probabilities.max()] = 0
    return result


def logits_of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("top_p", [1.0, 0.97, 0.5, 0.01])
@pytest.mark.parametrize("min_p", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_the_distribution_equals_the_one_computed_by_sorting_everything(temperature, top_p, min_p):
    rng = np.random.default_rng(7)
    for size in (1, 2, 37, 5003):
        logits = (rng.standard_normal(size) * 2).astype(np.float32)
        params = SamplingParams(temperature=temperature, top_p=top_p, min_p=min_p)
        got = distribution(torch.from_numpy(logits), params).numpy()
        np.testing.assert_allclose(got, oracle(logits, temperature=temperature, top_p=top_p, min_p=min_p), atol=1e-12)


def test_top_p_looks_past_its_first_candidates_where_the_distribution_is_flat():
    params = SamplingParams(top_p=0.74999)
    kept = distribution(torch.zeros(20_000), params).nonzero().flatten()
    assert kept.tolist() == list(range(15_000))


def test_equal_probabilities_at_the_edge_of_top_p_are_kept_from_the_lowest_id():
    kept = distribution(logits_of(0, 1, 1, 1, 1), SamplingParams(top_p=0.5)).nonzero().flatten()
    assert kept.tolist() == [1, 2, 3]


def test_top_p_zero_and_min_p_one_keep_the_most_probable_token():
    for params in (SamplingParams(top_p=0.0), SamplingParams(min_p=1.0)):
        assert distribution(logits_of(1, 3, 2), params).nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    "params",
    [SamplingParams(), SamplingParams(temperature=1.5, top_p=0.8), SamplingParams(min_p=0.2, logit_bias={3: 1.0})],
)
def test_frequencies_follow_the_distribution(params):
    rng = np.random.default_rng(11)
    logits = torch.from_numpy((rng.standard_normal(23) * 1.5).astype(np.float32))
    draws = 20_000
    counts = Counter(sample(logits, params, seed=5, step=step) for step in range(draws))

    biased = logits.numpy().copy()
    for token, bias in params.logit_bias.items():
        biased[token] += bias
    expected = oracle(biased, temperature=params.temperature, top_p=params.top_p, min_p=params.min_p)
    expected *= draws / expected.sum()
    assert set(counts) <= set(np.flatnonzero(expected))
    cells = expected[expected > 0]
    observed = np.array([counts[int(token)] for token in np.flatnonzero(expected)])
    chi_square = float(((observed - cells) ** 2 / cells).sum())
    freedom = len(cells) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_draws_are_uniform_and_a_function_of_seed_and_step_alone():
    draws = np.array([uniform(3, step) for step in range(40_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    cells, _ = np.histogram(draws, bins=50, range=(0, 1))
    assert float(((cells - 800) ** 2 / 800).sum()) < 49 + 4 * math.sqrt(98)
    assert abs(float(np.corrcoef(draws[:-1], draws[1:])[0, 1])) < 0.02
    assert uniform(3, 17) == uniform(3, 17) != uniform(4, 17)


def test_temperature_zero_takes_the_lowest_id_of_the_largest_logits():
    logits = torch.zeros(1009)
    logits[[300, 301, 900]] = 4.0
    assert sample(logits, SamplingParams(temperature=0), seed=1, step=0) == 300
    assert sample(logits, SamplingParams(temperature=0, logit_bias={900: 0.5}), seed=1, step=0) == 900


def test_a_tiny_temperature_is_greedy_and_not_a_division_error():
    logits = logits_of(-3e38, 2.0, 3e38)
    for seed in range(20):
        assert sample(logits, SamplingParams(temperature=1e-300), seed=seed, step=0) == 2


def test_an_id_of_logit_minus_infinity_is_never_drawn():
    logits = logits_of(-math.inf, 0, -math.inf, 0.1, -math.inf)
    drawn = {sample(logits, SamplingParams(), seed=2, step=step) for step in range(200)}
    assert drawn == {1, 3}


def test_sampling_leaves_the_logits_as_they_were():
    logits = logits_of(1, 2, 3)
    before = logits.clone()
    sample(logits, SamplingParams(logit_bias={0: 5.0}, top_p=0.5), seed=0, step=0)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_an_error_that_counts_them(wrong, temperature):
    with pytest.raises(CheckpointError, match="new token 4: 1 of 3 logits"):
        sample(logits_of(0, wrong, 1), SamplingParams(temperature=temperature), seed=0, step=4)


def test_logits_that_allow_nothing_are_an_error():
    with pytest.raises(CheckpointError, match="no token is allowed"):
        sample(torch.full((5,), -math.inf), SamplingParams(), seed=0, step=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it has to be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'; it has to be a number"),
        ({"temperature": True}, "temperature is True"),
        ({"top_p": 1.5}, "top_p is 1.5; it has to be 0 to 1"),
        ({"min_p": -1}, "min_p is -1; it has to be 0 to 1"),
        ({"seed": 1.5}, "seed is 1.5; it has to be an integer"),
        ({"max_new_tokens": -3}, "max_new_tokens is -3; it has to be 0 or more"),
        ({"logit_bias": {-1: 2.0}}, "a token id of logit_bias is -1"),
        ({"logit_bias": {1: math.inf}}, "logit_bias of token 1 is inf; it has to be finite"),
        ({"stop_ids": {-2}}, "a stop id is -2"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_value(options, message):
    with pytest.raises(ConfigError, match=message):
        SamplingParams(**options)


def test_a_bias_on_a_token_that_the_model_lacks_is_refused_with_both_numbers():
    params = SamplingParams(logit_bias={500: 1.0})
    params.check_vocabulary(501)
    with pytest.raises(ConfigError, match="token 500, but the model has 500 tokens"):
        params.check_vocabulary(500)


def test_parameters_do_not_change_with_what_they_were_made_from():
    bias, stops = {1: 2.0}, [3]
    params = SamplingParams(logit_bias=bias, stop_ids=stops)
    bias[7] = 1.0
    stops.append(9)
    assert params == SamplingParams(logit_bias={1: 2.0}, stop_ids=frozenset({3}))


finite_logits = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60)


@given(
    finite_logits,
    st.floats(0.05, 5),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(-(2**70), 2**70),
    st.integers(0, 10**9),
)
def test_every_draw_is_an_id_that_the_distribution_keeps(values, temperature, top_p, min_p, seed, step):
    params = SamplingParams(temperature=temperature, top_p=top_p, min_p=min_p)
    logits = logits_of(*values)
    kept = distribution(logits, params)
    drawn = sample(logits, params, seed=seed, step=step)
    assert kept[drawn] > 0
    assert kept.max() == distribution(logits, SamplingParams(temperature=temperature)).max()
    assert drawn == sample(logits, params, seed=seed, step=step)


@given(finite_logits, st.floats(0.01, 1))
def test_top_p_keeps_a_smallest_set_of_that_mass(values, top_p):
    kept = distribution(logits_of(*values), SamplingParams(top_p=top_p))
    whole = distribution(logits_of(*values), SamplingParams())
    assert float(kept.sum()) >= top_p - 1e-12
    if int((kept > 0).sum()) > 1:
        assert float(kept.sum() - kept[kept > 0].min()) < top_p + 1e-12
    dropped = whole[kept == 0]
    assert dropped.numel() == 0 or dropped.max() <= kept[kept > 0].min()
