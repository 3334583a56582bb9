"""`ossature.load` and what it returns, on random checkpoints of both layouts and on one that says a given text."""

import dataclasses
from pathlib import Path

import pytest
import torch

import ossature
from ossature.config import GenerationConfig
from ossature.errors import BackendError, CheckpointError, ConfigError, ContextLengthError, MessageError
from tests.random_checkpoint import small_config, write_random
from tests.scripted_checkpoint import ANSWER, TOOL_CALL, write_scripted

QUESTION = [{"role": "user", "content": "What is 37 + 58?"}]
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory) -> ossature.Session:
    return ossature.load(write_scripted(tmp_path_factory.mktemp("scripted") / "model", ANSWER))


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> ossature.Session:
    config = small_config(eos_token_id=(7, 9))
    generation = GenerationConfig(temperature=0.5, top_p=0.8, eos_token_id=(9, 11))
    directory = write_random(tmp_path_factory.mktemp("random") / "model", config, generation=generation)
    return ossature.load(directory, dtype="float32")


def test_a_reply_has_reasoning_answer_usage_and_the_reason_why_it_ended(scripted):
    reply = scripted.reply(QUESTION)
    assert (reply.analysis, reply.preamble, reply.final) == ("Let me add them", "", "It is 95")
    assert (reply.finish_reason, reply.tool_calls, reply.malformed) == ("stop", [], [])
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert dataclasses.asdict(reply)["usage"]["reasoning_tokens"] == 5


def test_streaming_yields_the_words_as_they_are_sampled_and_ends_with_the_same_reply(scripted):
    stream = scripted.stream(QUESTION)
    words = [event.text for event in stream if isinstance(event, ossature.chat.Delta)]
    assert words == ["Let", " me", " add", " them", "It", " is", " 95"]
    assert stream.reply == scripted.reply(QUESTION)


def test_the_effort_tools_and_format_are_part_of_the_prompt(scripted):
    def prompt_tokens(**options: object) -> int:
        return scripted.reply(QUESTION, **options).usage.prompt_tokens

    plain = prompt_tokens()
    assert prompt_tokens(reasoning_effort="low") < plain  # "low" is spelled in fewer bytes than "medium"
    assert prompt_tokens(tools=[ADD]) > plain
    assert prompt_tokens(response_format={"type": "json_object"}) > plain


def test_a_tool_call_and_its_result_go_round(tmp_path):
    session = ossature.load(write_scripted(tmp_path / "caller", TOOL_CALL))
    reply = session.reply(QUESTION, tools=[ADD])
    assert reply.finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "95"}
    again = session.reply([*QUESTION, reply.message(), result], tools=[ADD])
    assert again.tool_calls[0]["id"] != reply.tool_calls[0]["id"]


def test_max_new_tokens_ends_a_reply_with_length(scripted):
    reply = scripted.reply(QUESTION, max_new_tokens=5)
    assert (reply.finish_reason, reply.usage.completion_tokens, reply.analysis) == ("length", 5, "Let me")


def test_a_bias_reaches_the_sampler(scripted):
    banned = scripted.tokenizer.encode("It")[0]
    assert "It" not in scripted.reply(QUESTION, logit_bias={banned: -1e4}, max_new_tokens=17).final


@pytest.mark.parametrize("layout", ["huggingface", "original"])
def test_a_directory_without_a_tokenizer_loads_and_says_so_when_it_is_asked_for_text(tmp_path, layout):
    session = ossature.load(write_random(tmp_path / "model", layout=layout), dtype="float32")
    assert session.logits([1, 2, 3]).shape == (3, 211)
    assert len(list(session.generate([1, 2, 3], max_new_tokens=4, stop_ids=[]))) == 4
    for use in (lambda: session.tokenizer, lambda: session.reply(QUESTION)):
        with pytest.raises(ConfigError, match=r"tokenizer\.json"):
            use()


def test_logits_are_float32_after_each_token_and_those_that_generate_samples_from(random):
    ids = [5, 3, 8, 200, 1]
    logits = random.logits(ids)
    assert (logits.dtype, tuple(logits.shape)) == (torch.float32, (5, 211))
    torch.testing.assert_close(random.logits(ids[:3]), logits[:3], rtol=0, atol=1e-5)
    assert next(random.generate(ids, temperature=0, max_new_tokens=1)) == int(logits[-1].argmax())


def test_two_generators_read_in_turns_say_what_each_says_alone(random):
    prompts = [[5, 3, 8, 200, 1], [7, 7, 2]]
    options = {"seed": 3, "max_new_tokens": 12, "stop_ids": []}
    alone = [list(random.generate(prompt, **options)) for prompt in prompts]
    together = list(zip(*(random.generate(prompt, **options) for prompt in prompts), strict=True))
    assert [list(ids) for ids in zip(*together, strict=True)] == alone


def test_a_generator_dropped_half_way_is_cancelled(random):
    ids = random.generate([5, 3], max_new_tokens=40, stop_ids=[])
    next(ids)
    assert random.engine.stats().running == 1
    del ids
    assert random.engine.stats().running == 0


def test_an_answer_read_half_way_is_not_computed_to_its_end(scripted):
    stream = scripted.stream(QUESTION)
    next(iter(stream))
    assert scripted.engine.stats().running == 1
    assert stream.reply.finish_reason == "cancelled"
    assert scripted.engine.stats().running == 0


def test_the_next_turn_of_a_conversation_finds_the_last_one_computed(scripted):
    question = [{"role": "user", "content": "What is 38 + 58, once more and in more words than before?"}]
    before = scripted.engine.stats().prefix_hit_tokens
    reply = scripted.reply(question)
    assert scripted.engine.stats().prefix_hit_tokens == before
    again = [*question, reply.message(), {"role": "user", "content": "Thanks"}]
    assert scripted.reply(again).usage.prompt_tokens > reply.usage.prompt_tokens
    assert scripted.engine.stats().prefix_hit_tokens >= before + reply.usage.prompt_tokens - 1


def test_a_session_whose_engine_has_failed_makes_another(random, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    expected = list(random.generate([5, 3], temperature=0, max_new_tokens=4))
    with monkeypatch.context() as broken:
        broken.setattr(random.model, "forward", fail)
        with pytest.raises(MemoryError, match="no room"):
            list(random.generate([5, 3], temperature=0, max_new_tokens=4))
    assert list(random.generate([5, 3], temperature=0, max_new_tokens=4)) == expected


def test_ids_may_come_in_a_tensor(random):
    ids = torch.tensor([5, 3, 8])
    assert list(random.generate(ids, seed=1, max_new_tokens=5)) == list(
        random.generate(ids.tolist(), seed=1, max_new_tokens=5)
    )


def test_none_means_what_the_generation_config_says(random):
    def sampled(**options: object) -> list[int]:
        return list(random.generate([5, 3], seed=3, max_new_tokens=40, stop_ids=[], **options))

    assert sampled() == sampled(temperature=0.5, top_p=0.8) != sampled(temperature=1.0, top_p=1.0)


def test_do_sample_false_means_greedy_unless_a_temperature_is_given(tmp_path):
    generation = GenerationConfig(do_sample=False, temperature=0.9)
    session = ossature.load(write_random(tmp_path / "model", generation=generation), dtype="float32")
    greedy = list(session.generate([4, 2], max_new_tokens=12, temperature=0))
    assert list(session.generate([4, 2], max_new_tokens=12)) == greedy
    assert list(session.generate([4, 2], max_new_tokens=12, temperature=1.0, seed=1)) != greedy


def test_stop_ids_none_are_the_ends_of_both_configs_and_of_the_tokenizer(random, scripted):
    assert random.stop_ids == {7, 9, 11}
    special = scripted.tokenizer.special
    assert scripted.stop_ids == {special["<|return|>"], special["<|call|>"], special["<|endoftext|>"]}


def test_an_empty_list_of_stop_ids_means_none(scripted):
    prompt = ossature.chat.render(QUESTION, tokenizer=scripted.tokenizer)
    whole = list(scripted.generate(prompt))
    assert whole[-1] == scripted.tokenizer.special["<|return|>"]
    assert len(list(scripted.generate(prompt, stop_ids=[], max_new_tokens=30))) == 30


def test_the_same_seed_gives_the_same_reply(tmp_path):
    session = ossature.load(write_scripted(tmp_path / "sampled", ANSWER, greedy=False))

    def said(seed: int) -> object:
        return session.reply(QUESTION, seed=seed, temperature=30.0, max_new_tokens=40)

    assert said(5) == said(5) != said(6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": "float16"}, ConfigError, "dtype is 'float16'"),
        ({"weights": "copied"}, ConfigError, "weights is 'copied'"),
        ({"numerics": "quick"}, ConfigError, "numerics is 'quick'"),
        ({"adapter": Path("somewhere")}, ConfigError, "adapter='somewhere': this version cannot load adapters yet"),
        ({"device": "abacus"}, BackendError, "device 'abacus'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_not_ignored(scripted, options, error, message):
    with pytest.raises(error, match=message):
        ossature.load(scripted.checkpoint.directory, **options)


def test_a_model_that_is_not_there_is_refused_with_what_a_model_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such directory\. A model is the directory of a checkpoint"):
        ossature.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="not a directory"):
        ossature.load(tmp_path / "file")


def test_wrong_messages_and_too_long_ones_are_refused_before_anything_is_computed(scripted):
    with pytest.raises(MessageError, match="role"):
        scripted.stream([{"role": "king", "content": "x"}])
    with pytest.raises(ContextLengthError, match="4096"):
        scripted.stream([{"role": "user", "content": "x" * 5000}])
    with pytest.raises(ContextLengthError, match="and 4000 new ones"):
        scripted.stream(QUESTION, max_new_tokens=4000)
