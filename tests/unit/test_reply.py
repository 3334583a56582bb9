"""What a stream of sampled ids amounts to as a reply: the ids are scripted, tokenizer and parser are the real ones."""

import re
from collections.abc import Iterator

import pytest

from ossature.chat import Malformed, Parser, Tokenizer, load_tokenizer
from ossature.session import Reply, ReplyStream

WEATHER = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("o200k_harmony")


def scripted(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text` as a model samples it: what looks like a control token is one."""
    ids: list[int] = []
    for part in re.split(r"(<\|\w+\|>)", text):
        ids += [tokenizer.special[part]] if part in tokenizer.special else tokenizer.encode(part)
    return ids


def stream_of(tokenizer: Tokenizer, text: str, *, prompt: list[int] | None = None) -> ReplyStream:
    ids = iter(scripted(tokenizer, text))
    parser = Parser(tokenizer, tools=["weather"])
    return ReplyStream(ids, parser, prompt=prompt or [1, 2, 3], stop_ids=tokenizer.stop_ids)


def reply_to(tokenizer: Tokenizer, text: str) -> Reply:
    return stream_of(tokenizer, text).finish()


def test_reasoning_preamble_and_answer_are_told_apart(tokenizer):
    said = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
    reply = reply_to(tokenizer, f"{ANALYSIS}{said}<|channel|>final<|message|>It is 4 °C, 漢字.<|return|>")
    assert (reply.analysis, reply.preamble, reply.final) == ("Let me think.", "I will look.", "It is 4 °C, 漢字.")
    assert reply.finish_reason == "stop"
    assert reply.tool_calls == []
    assert reply.malformed == []


def test_usage_counts_every_sampled_id_and_the_reasoning_among_them(tokenizer):
    text = f"{ANALYSIS}<|channel|>final<|message|>4<|return|>"
    usage = reply_to(tokenizer, text).usage
    sampled = len(scripted(tokenizer, text))
    assert usage.prompt_tokens == 3
    assert usage.completion_tokens == sampled
    assert usage.reasoning_tokens == len(tokenizer.encode("Let me think.")) + 1  # its <|end|>
    assert usage.total_tokens == 3 + sampled


def test_a_tool_call_has_the_shape_of_openais(tokenizer):
    reply = reply_to(tokenizer, f'{ANALYSIS}{WEATHER}{{"city": "Pune"}}<|call|>')
    (call,) = reply.tool_calls
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Pune"}'}
    assert re.fullmatch(r"call_[0-9a-f]{24}", call["id"])
    assert reply.finish_reason == "tool_calls"


def test_call_ids_repeat_for_the_same_ids_and_differ_for_another_prompt(tokenizer):
    def call_id(prompt: list[int]) -> str:
        stream = stream_of(tokenizer, f"{WEATHER}{{}}<|call|>", prompt=prompt)
        list(stream)
        return stream.reply.tool_calls[0]["id"]

    assert call_id([1, 2]) == call_id([1, 2]) != call_id([1, 3])


@pytest.mark.parametrize("end", ["<|end|>", "<|return|>", "<|endoftext|>", "<|start|>assistant"])
def test_a_call_that_ends_in_another_way_is_still_a_call(tokenizer, end):
    reply = reply_to(tokenizer, f'{WEATHER}{{"city": "Pune"}}{end}<|channel|>final<|message|>more')
    assert [call["function"]["arguments"] for call in reply.tool_calls] == ['{"city": "Pune"}']
    assert reply.finish_reason == "tool_calls"
    assert reply.final == ""


def test_a_call_cut_off_by_the_length_is_no_call_and_keeps_its_text(tokenizer):
    reply = reply_to(tokenizer, f'{WEATHER}{{"city": "Pu')
    assert reply.tool_calls == []
    assert reply.finish_reason == "length"
    (cut,) = reply.malformed
    assert cut.raw == '{"city": "Pu'
    assert "functions.weather" in cut.reason


def test_running_out_of_tokens_keeps_what_was_said(tokenizer):
    reply = reply_to(tokenizer, f"{ANALYSIS}<|channel|>final<|message|>It is")
    assert (reply.final, reply.finish_reason) == ("It is", "length")


def test_nothing_is_read_after_a_final_message_that_ended_like_any_other(tokenizer):
    reply = reply_to(tokenizer, "<|channel|>final<|message|>Yes.<|end|><|start|>user<|message|>And now?")
    assert (reply.final, reply.analysis, reply.finish_reason) == ("Yes.", "", "stop")


def test_the_turn_ends_where_the_model_speaks_for_somebody_else(tokenizer):
    said = "<|channel|>analysis<|message|>Hm.<|end|><|start|>user<|message|>And now? Tell me more."
    reply = reply_to(tokenizer, said)
    assert (reply.analysis, reply.final, reply.finish_reason) == ("Hm.", "", "stop")


def test_garbled_output_is_data_not_an_exception(tokenizer):
    reply = reply_to(tokenizer, "<|channel|>final<|message|>Yes.<|constrain|>No<|message|><|end|>")
    assert reply.finish_reason == "stop"
    assert "Yes." in reply.final
    assert all(isinstance(item, Malformed) and item.reason for item in reply.malformed)


def test_a_stream_left_early_gives_the_reply_so_far(tokenizer):
    stream = stream_of(tokenizer, f"{ANALYSIS}<|channel|>final<|message|>One two three four.<|return|>")
    for event in stream:
        if getattr(event, "text", "") == " two":
            break
    assert (stream.reply.final, stream.reply.finish_reason) == ("One two", "cancelled")
    assert stream.reply == stream.reply
    assert list(stream) == []


def test_an_interrupt_inside_the_model_leaves_the_reply_so_far(tokenizer):
    def ids() -> Iterator[int]:
        yield from scripted(tokenizer, "<|channel|>final<|message|>One two")
        raise KeyboardInterrupt

    stream = ReplyStream(ids(), Parser(tokenizer), prompt=[1], stop_ids=tokenizer.stop_ids)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert (stream.reply.final, stream.reply.finish_reason) == ("One two", "cancelled")


def test_the_message_of_a_reply_continues_the_conversation(tokenizer):
    answer = reply_to(tokenizer, f"{ANALYSIS}<|channel|>final<|message|>4<|return|>")
    assert answer.message() == {"role": "assistant", "thinking": "Let me think.", "content": "4"}
    call = reply_to(tokenizer, f"{WEATHER}{{}}<|call|>")
    assert call.message() == {"role": "assistant", "tool_calls": call.tool_calls}
    assert reply_to(tokenizer, "<|return|>").message() == {"role": "assistant", "content": ""}
