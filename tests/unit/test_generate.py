"""The loop over token ids: against one forward pass a token, alone and in a batch, and what it refuses."""

from collections import defaultdict
from collections.abc import Sequence

import pytest
import torch

from ossature.checkpoint import open_checkpoint
from ossature.engine import SamplingParams, generate
from ossature.errors import ConfigError, ContextLengthError
from ossature.model import Batch, Transformer, load_model
from tests.random_checkpoint import small_config, write_random

GREEDY = SamplingParams(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Transformer:
    directory = write_random(tmp_path_factory.mktemp("random") / "model", small_config(max_position_embeddings=96))
    return load_model(open_checkpoint(directory), dtype=torch.float32)


def prompt_of(length: int, *, seed: int = 0) -> list[int]:
    return torch.randint(0, 211, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def continued(
    model: Transformer, prompts: Sequence[list[int]], params: SamplingParams | list[SamplingParams], **options: int
) -> list[list[int]]:
    made: dict[int, list[int]] = defaultdict(list)
    for index, token in generate(model, prompts, params, **options):
        made[index].append(token)
    return [made[index] for index in range(len(prompts))]


def one_pass_a_token(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Greedy continuation without cache, chunks or batch."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(Batch.packed([ids], last_only=True))[0].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("length", [1, 6, 7, 8, 33])
def test_greedy_ids_are_those_of_one_forward_pass_a_token(model, length):
    prompt = prompt_of(length)
    assert continued(model, [prompt], GREEDY) == [one_pass_a_token(model, prompt, 12)]


@pytest.mark.parametrize("chunk", [1, 5, 7, 64])
def test_the_size_of_a_chunk_does_not_change_what_is_said(model, chunk):
    prompts = [prompt_of(23, seed=1), prompt_of(4, seed=2), prompt_of(9, seed=3)]
    assert continued(model, prompts, GREEDY, chunk=chunk) == [one_pass_a_token(model, p, 12) for p in prompts]


def test_sequences_of_a_batch_have_their_own_limits_ends_and_seeds(model):
    prompts = [prompt_of(5, seed=1), prompt_of(13, seed=2), prompt_of(2, seed=3), prompt_of(5, seed=1)]
    stop = one_pass_a_token(model, prompts[1], 4)[3]
    each = [
        SamplingParams(seed=4, max_new_tokens=9),
        SamplingParams(temperature=0, max_new_tokens=20, stop_ids={stop}),
        SamplingParams(max_new_tokens=0),
        SamplingParams(seed=4, max_new_tokens=3, top_p=0.9),
    ]
    together = continued(model, prompts, each)
    alone = [continued(model, [prompt], [own])[0] for prompt, own in zip(prompts, each, strict=True)]
    assert together == alone
    assert [len(ids) for ids in together] == [9, together[1].index(stop) + 1, 0, 3]


def test_the_stop_id_is_yielded_and_is_the_last(model):
    prompt = prompt_of(8)
    plain = one_pass_a_token(model, prompt, 12)
    stop = plain[5]
    params = SamplingParams(temperature=0, max_new_tokens=12, stop_ids={stop, 210})
    assert continued(model, [prompt], params) == [plain[: plain.index(stop) + 1]]


def test_without_a_limit_a_sequence_fills_the_context_and_no_more(model):
    (ids,) = continued(model, [prompt_of(90)], SamplingParams(seed=1))
    assert len(ids) == 6


def test_the_same_seed_gives_the_same_ids_and_another_seed_others(model):
    def sampled(seed: int | None) -> list[list[int]]:
        return continued(model, [prompt_of(6)], SamplingParams(seed=seed, max_new_tokens=20))

    assert sampled(1) == sampled(1) != sampled(2)
    assert sampled(None) != sampled(None)


@pytest.mark.parametrize(
    ("prompt", "limit", "error", "message"),
    [
        ([], 1, ConfigError, "there are no token ids"),
        ([3, 211], 1, ConfigError, "token id 211 is not one of the model's 211 ids"),
        ([3, -1], 1, ConfigError, "token id -1"),
        ([1.5], 1, ConfigError, "have to be integers"),
        ([1] * 97, 1, ContextLengthError, "97 tokens were given, and the model's context holds 96"),
        ([1] * 96, None, ContextLengthError, "96 tokens of prompt .*context holds 96"),
        ([1] * 90, 7, ContextLengthError, "90 tokens of prompt and 7 new ones .* holds 96.* at most 6"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_the_call_with_both_numbers(model, prompt, limit, error, message):
    with pytest.raises(error, match=message):
        generate(model, [[1, 2], prompt], SamplingParams(max_new_tokens=limit))


def test_a_bias_for_an_unknown_token_and_a_missing_parameter_are_refused(model):
    with pytest.raises(ConfigError, match="token 211"):
        generate(model, [[1]], SamplingParams(logit_bias={211: 1.0}))
    with pytest.raises(ConfigError, match="2 prompts came with 1"):
        generate(model, [[1], [2]], [GREEDY])
