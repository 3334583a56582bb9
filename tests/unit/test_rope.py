"""Rotary frequencies against the printed table of gpt-oss, transformers' YaRN, and exact angles."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GptOssConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ossature.config import RopeScaling
from ossature.model.rope import rotation, yarn_frequencies
from ossature.ops import rope
from tests.random_checkpoint import small_config

GPT_OSS = small_config(
    head_dim=64, rope_theta=150000.0, rope_scaling=RopeScaling(32.0, 4096, 32.0, 1.0, truncate=False)
)

# Computed from the formulas of openai/gpt-oss torch/model.py for the published config, in float64, to seven digits.
PRINTED = """
1.000000e+00 6.890443e-01 4.747821e-01 3.271459e-01 2.254180e-01 1.553230e-01 1.070244e-01 7.374457e-02
5.081327e-02 3.170570e-02 1.933500e-02 1.159205e-02 6.794959e-03 3.860359e-03 2.093792e-03 1.052602e-03
4.564839e-04 1.293187e-04 3.830881e-05 2.639647e-05 1.818834e-05 1.253257e-05 8.635496e-06 5.950239e-06
4.099978e-06 2.825067e-06 1.946596e-06 1.341291e-06 9.242090e-07 6.368209e-07 4.387978e-07 3.023511e-07
""".split()


def test_frequencies_of_gpt_oss_are_the_printed_ones_to_every_digit() -> None:
    inv_freq, _ = yarn_frequencies(GPT_OSS)
    assert [f"{value:.6e}" for value in inv_freq.tolist()] == PRINTED


def test_concentration_of_gpt_oss_is_the_printed_one() -> None:
    assert yarn_frequencies(GPT_OSS)[1] == 1.3465735902799727


def test_the_correction_range_is_not_rounded() -> None:
    # Pairs up to 8 turn as without YaRN, pairs from 18 on 32 times slower; between them it is a straight ramp.
    low, high = 8.092779115512402, 17.39802450158856
    inv_freq, _ = yarn_frequencies(GPT_OSS)
    plain, _ = yarn_frequencies(replace(GPT_OSS, rope_scaling=None))
    kept = ((inv_freq / plain) - 1 / 32) / (1 - 1 / 32)
    ramp = (torch.arange(32, dtype=torch.float64) - low) / (high - low)
    assert torch.allclose(1 - kept, ramp.clamp(0, 1), rtol=0, atol=1e-14)


def test_rounding_the_correction_range_would_show_in_the_frequencies() -> None:
    assert GPT_OSS.rope_scaling is not None
    rounded, _ = yarn_frequencies(replace(GPT_OSS, rope_scaling=replace(GPT_OSS.rope_scaling, truncate=True)))
    assert f"{rounded[16]:.3e}" == "5.809e-04"  # and 4.565e-04 as gpt-oss has it


@given(
    pairs=st.integers(2, 64),
    theta=st.floats(100.0, 1e6),
    factor=st.floats(1.0, 100.0),
    context=st.integers(16, 1 << 16),
    beta_slow=st.floats(0.25, 4.0),
    ratio=st.floats(1.5, 64.0),
    truncate=st.booleans(),
)
def test_yarn_agrees_with_transformers(
    pairs: int, theta: float, factor: float, context: int, beta_slow: float, ratio: float, *, truncate: bool
) -> None:
    scaling = RopeScaling(factor, context, beta_slow * ratio, beta_slow, truncate)
    config = small_config(head_dim=2 * pairs, rope_theta=theta, rope_scaling=scaling)
    raw = {f: getattr(scaling, f) for f in RopeScaling.__slots__} | {"rope_type": "yarn", "rope_theta": theta}
    peer = GptOssConfig(
        head_dim=2 * pairs, rope_parameters=raw, max_position_embeddings=max(context, round(context * factor))
    )
    expected, concentration = ROPE_INIT_FUNCTIONS["yarn"](peer, device=torch.device("cpu"))
    inv_freq, ours = yarn_frequencies(config)
    assert ours == pytest.approx(concentration, rel=1e-12)
    assert torch.allclose(inv_freq.float(), expected, rtol=3e-6, atol=0)  # theirs is computed in float32


def test_cos_and_sin_carry_the_concentration_at_every_position() -> None:
    inv_freq, concentration = yarn_frequencies(GPT_OSS)
    cos, sin = rotation(torch.tensor([0, 1, 127, 128, 131_071]), inv_freq, concentration, dtype=torch.float64)
    assert torch.allclose(cos**2 + sin**2, torch.full_like(cos, concentration**2), rtol=1e-14, atol=0)
    assert torch.equal(cos[0], torch.full((32,), concentration, dtype=torch.float64))


@pytest.mark.parametrize("position", [0, 1, 33, 4_095, 4_096, 40_001, 131_071])
def test_angles_lose_nothing_at_any_position(position: int) -> None:
    inv_freq, concentration = yarn_frequencies(GPT_OSS)
    cos, sin = rotation(torch.tensor([position]), inv_freq, concentration)
    assert cos.dtype == sin.dtype == torch.float32
    for pair, frequency in enumerate(inv_freq.tolist()):
        assert abs(cos[0, pair].item() - concentration * math.cos(position * frequency)) < 1e-7
        assert abs(sin[0, pair].item() - concentration * math.sin(position * frequency)) < 1e-7


def test_a_pair_is_an_entry_of_the_first_half_and_its_counterpart_of_the_second() -> None:
    x = torch.zeros(1, 1, 6)
    x[0, 0, 1] = 1
    cos, sin = torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[0.4, 0.5, 0.6]])
    assert rope(x, cos, sin).flatten().tolist() == pytest.approx([0, 0.2, 0, 0, 0.5, 0])
    x = x.roll(3, dims=-1)
    assert rope(x, cos, sin).flatten().tolist() == pytest.approx([0, -0.5, 0, 0, 0.2, 0])


def test_scores_depend_on_the_distance_of_two_positions_only() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 64, dtype=torch.float64, generator=generator) for _ in range(2))
    inv_freq, concentration = yarn_frequencies(GPT_OSS)

    def score(query: int, key: int) -> float:
        turned = [
            rope(x, *rotation(torch.tensor([position]), inv_freq, concentration, dtype=torch.float64))
            for x, position in ((q, query), (k, key))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(1_000, 993) == pytest.approx(score(7, 0), rel=1e-9)
    assert score(7, 0) != pytest.approx(score(8, 0), rel=1e-3)
    assert score(5, 5) == pytest.approx(concentration**2 * float((q * k).sum()), rel=1e-12)
