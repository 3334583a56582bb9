"""Bytes and products by arithmetic, held against numbers worked out by hand; and the loop that times a model."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ossature.checkpoint import open_checkpoint
from ossature.config import ModelConfig
from ossature.errors import ConfigError, ContextLengthError
from ossature.model import KVCache, Transformer, load_model
from ossature.plan import (
    Effort,
    Workload,
    decode_traffic,
    expected_experts,
    measure_decode,
    measure_prefill,
    prefill_operations,
    speed,
)
from tests.published_configs import huggingface
from tests.random_checkpoint import small_config, write_random

THREE = Effort(least=3, most=3, seconds=0)


@pytest.fixture(scope="module")
def gpt_oss_20b() -> ModelConfig:
    return ModelConfig.from_dict(huggingface("20b"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    directory = write_random(tmp_path_factory.mktemp("random") / "model")
    return load_model(open_checkpoint(directory), dtype=torch.float32)


def test_a_token_of_gpt_oss_20b_reads_3_7_gigabytes(gpt_oss_20b: ModelConfig) -> None:
    traffic = decode_traffic(gpt_oss_20b, depths=[0])
    # 4 experts of 24 layers: (5760 + 2880) rows of 2880 in 17 bytes for 32, and a bfloat16 bias a row
    assert traffic.experts == 24 * 4 * (8640 * 2880 * 17 // 32 + 8640 * 2)
    assert traffic.experts / 1e9 == pytest.approx(1.27, abs=0.005)
    # q and o of 4096, k and v of 512, their biases, sinks, two norms and the router, and the last norm
    attention = 2 * (2 * 4096 + 2 * 512) * 2880 + 2 * (4096 + 2 * 512 + 2880 + 64)
    router, norms = 2 * 32 * (2880 + 1), 2 * 2 * 2880
    assert traffic.dense == 24 * (attention + router + norms) + 2 * 2880
    assert 24 * attention / 1e9 == pytest.approx(1.27, abs=0.005)
    assert traffic.unembedding == 201088 * 2880 * 2
    assert traffic.cache == 24 * 2 * 512 * 2
    assert traffic.total / 1e9 == pytest.approx(3.71, abs=0.005)


def test_int8_matrices_read_17_bytes_where_bfloat16_read_32(gpt_oss_20b: ModelConfig) -> None:
    exact, fast = (decode_traffic(gpt_oss_20b, depths=[0], numerics=numerics) for numerics in ("exact", "fast"))
    assert fast.unembedding == pytest.approx(exact.unembedding * 17 / 32)
    assert fast.dense == pytest.approx(exact.dense * 17 / 32, rel=1e-6)
    assert fast.experts == exact.experts
    assert fast.total / 1e9 == pytest.approx(2.57, abs=0.005)


def test_the_cache_is_read_as_far_as_each_layer_sees(gpt_oss_20b: ModelConfig) -> None:
    row = 2 * 8 * 64 * 2
    assert decode_traffic(gpt_oss_20b, depths=[16384]).cache == 12 * (16385 + 128) * row
    assert decode_traffic(gpt_oss_20b, depths=[99, 126, 127, 200]).cache == row * 12 * (
        100 + 100 + 127 + 127 + 128 + 128 + 201 + 128
    )
    assert decode_traffic(gpt_oss_20b, depths=[0], cache_itemsize=4).cache == 2 * 24 * row


def test_a_batch_reads_the_matrices_once_and_the_experts_that_it_chose(gpt_oss_20b: ModelConfig) -> None:
    one, eight = (decode_traffic(gpt_oss_20b, depths=[0] * batch, experts=4) for batch in (1, 8))
    assert eight == replace(one, cache=8 * one.cache)
    assert decode_traffic(gpt_oss_20b, depths=[0, 0], experts=8).experts == 2 * one.experts


def test_the_expectation_of_distinct_experts_is_that_of_independent_choices(gpt_oss_20b: ModelConfig) -> None:
    assert expected_experts(gpt_oss_20b, 1) == pytest.approx(4)
    assert expected_experts(gpt_oss_20b, 2) == pytest.approx(4 + 4 * 28 / 32)
    assert expected_experts(gpt_oss_20b, 10_000) == pytest.approx(32)


def test_the_products_of_a_prompt_are_those_of_its_matrices_and_of_the_keys_seen(gpt_oss_20b: ModelConfig) -> None:
    layer = 2880 * (2 * 4096 + 2 * 512) + 4 * 3 * 2880 * 2880 + 2880 * 32
    seen = 12 * (1 + 2 + 3) * 2
    assert prefill_operations(gpt_oss_20b, 3) == 2 * (3 * 24 * layer + seen * 2 * 4096 + 2880 * 201088)
    assert 24 * layer / 1e9 == pytest.approx(3.03, abs=0.005)


def test_a_decode_step_counts_the_experts_that_were_chosen(model: Transformer) -> None:
    config = model.config
    one = measure_decode(model, batch=1, depth=0, effort=THREE)
    assert one.experts == config.num_experts_per_tok
    several = measure_decode(model, batch=4, depth=30, effort=THREE)
    assert config.num_experts_per_tok < several.experts <= config.num_local_experts
    assert len(several.seconds) == 3
    assert several.tokens_per_second == pytest.approx(4 / sorted(several.seconds)[1])
    expected = decode_traffic(config, depths=[33] * 4, experts=several.experts, cache_itemsize=4)
    assert several.traffic == expected
    assert several.gigabytes_per_second == pytest.approx(expected.total / sorted(several.seconds)[1] / 1e9)


@pytest.mark.parametrize("depth", [1, 512, 700])
def test_a_filled_sequence_holds_random_rows_as_deep_as_asked(model: Transformer, depth: int) -> None:
    cache = KVCache(model.config, max_sequences=2, max_tokens=depth + 1, dtype=model.dtype)
    slots = [cache.open(), cache.open()]
    for slot in slots:
        speed._fill(cache, slot, depth, model, torch.Generator().manual_seed(slot))
    assert [cache.length(slot) for slot in slots] == [depth, depth]
    rows = cache.rows(torch.tensor([depth - 1]), torch.tensor([slots[0]]))
    for layer, kind in enumerate(model.config.layer_types):
        stored = cache._pool[layer][0][rows[kind].key_rows(slots[0], depth - 1)]
        assert stored.isfinite().all()
        assert len(stored.flatten(1).unique(dim=0)) == len(stored)


def test_a_prompt_longer_than_a_chunk_is_read_whole(model: Transformer) -> None:
    speeds = measure_prefill(model, tokens=speed.CHUNK + 5, effort=Effort(1, 2, 0))
    assert len(speeds.seconds) == 1
    assert speeds.operations == prefill_operations(model.config, speed.CHUNK + 5)
    assert speeds.tokens_per_second == pytest.approx((speed.CHUNK + 5) / speeds.seconds[0])


def test_a_row_is_measured_until_its_time_is_over() -> None:
    effort = Effort(least=2, most=4, seconds=1)
    assert [effort.enough([0.1] * n) for n in range(5)] == [False, False, False, False, True]
    assert [effort.enough([3.0] * n) for n in range(3)] == [False, False, True]


def test_the_usual_sizes_are_shortened_to_the_context() -> None:
    config = small_config(max_position_embeddings=1024)
    usual = Workload.fitting(config)
    assert usual.batches == (1, 2, 4, 8)
    assert usual.depths == (0, 1024 - speed.WARM_STEPS - usual.decode.most)
    assert usual.prefills == (128, 512, 1024)
    assert list(usual.decode_rows()) == [(1, 0), (2, 0), (4, 0), (8, 0), (1, usual.depths[1])]
    long = Workload.fitting(ModelConfig.from_dict(huggingface("20b")))
    assert (long.depths, long.prefills) == ((0, 4096, 16384), (128, 512, 2048))


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"batches": [0]}, ConfigError, "batch 0 cannot be measured"),
        ({"depths": [-1]}, ConfigError, "depth -1 cannot be measured"),
        ({"prefills": [0]}, ConfigError, "prefill 0 cannot be measured"),
        ({"depths": [1000]}, ContextLengthError, "depth 1000 does not fit the model's context of 1024 tokens"),
        ({"prefills": [1025]}, ContextLengthError, "prefill 1025 does not fit"),
    ],
)
def test_a_size_that_was_asked_for_and_cannot_be_is_refused(
    asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Workload.fitting(small_config(max_position_embeddings=1024), **asked)


def test_sizes_asked_for_are_measured_as_they_are() -> None:
    config = small_config(max_position_embeddings=1024)
    asked = Workload.fitting(config, batches=[3], depths=[5, 9], prefills=[1024], quick=True)
    assert list(asked.decode_rows()) == [(3, 5), (3, 9)]
    assert asked.prefills == (1024,)
