"""What is learnt from a conversation: what the model would have sampled, in a context that a prompt would hold."""

from typing import Any

import pytest

from ossature.chat import Tokenizer, load_tokenizer, render, render_training
from tests.harmony_cases import ADD, CASES, Message, assistant, call, result, user


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("o200k_harmony")


def learnt(tokenizer: Tokenizer, messages: list[Message], **options: Any) -> list[str]:
    """The stretches that are learnt, in order."""
    rendered = render_training(messages, tokenizer=tokenizer, **options)
    assert len(rendered.ids) == len(rendered.trained)
    out: list[str] = []
    before = False
    for id_, trained in zip(rendered.ids, rendered.trained, strict=True):
        if trained:
            out = [*out[:-1], out[-1] + tokenizer.decode([id_])] if before else [*out, tokenizer.decode([id_])]
        before = trained
    return out


CALL = assistant(thinking="Hm.", tool_calls=[call("add", "{}")])
SAMPLED_CALL = (
    "<|channel|>analysis<|message|>Hm.<|end|>"
    "<|start|>assistant to=functions.add<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
)


def test_one_sampling_run_is_learnt_from_the_end_of_its_prompt_to_its_end_token(tokenizer: Tokenizer) -> None:
    got = learnt(tokenizer, [user("a"), assistant("b", thinking="c")])
    assert got == ["<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>"]


def test_a_tool_loop_is_learnt_in_two_runs_without_the_result(tokenizer: Tokenizer) -> None:
    got = learnt(tokenizer, [user("a"), CALL, result("7"), assistant("b")], tools=[ADD])
    assert got == [SAMPLED_CALL, "<|channel|>final<|message|>b<|return|>"]


def test_a_conversation_may_end_in_a_call(tokenizer: Tokenizer) -> None:
    assert learnt(tokenizer, [user("a"), CALL]) == [SAMPLED_CALL]


def test_only_the_last_turn_is_learnt_and_earlier_reasoning_is_gone(tokenizer: Tokenizer) -> None:
    messages = [user("a"), assistant("b", thinking="c"), user("d"), assistant("e", thinking="f")]
    got = learnt(tokenizer, messages)
    assert got == ["<|channel|>analysis<|message|>f<|end|><|start|>assistant<|channel|>final<|message|>e<|return|>"]
    text = tokenizer.decode(render_training(messages, tokenizer=tokenizer).ids)
    assert "<|message|>c<|end|>" not in text
    assert "<|channel|>final<|message|>b<|end|>" in text


@pytest.mark.parametrize("name", [name for name, (messages, _) in CASES.items() if messages[-1:] != []])
def test_what_comes_before_the_learnt_part_is_the_prompt(tokenizer: Tokenizer, name: str) -> None:
    messages, options = CASES[name]
    last_user = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=-1)
    if last_user + 1 < len(messages):
        rendered = render_training(messages, tokenizer=tokenizer, **options)
        prompt = render(messages[: last_user + 1], tokenizer=tokenizer, **options)
        assert rendered.ids[: rendered.trained.index(True)] == prompt


def test_all_turns_are_learnt_on_request_with_their_reasoning(tokenizer: Tokenizer) -> None:
    messages = [user("a"), assistant("b", thinking="c"), user("d"), assistant("e")]
    got = learnt(tokenizer, messages, turns="all")
    assert got == [
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
        "<|channel|>final<|message|>e<|return|>",
    ]


def test_a_message_can_be_kept_out(tokenizer: Tokenizer) -> None:
    messages = [user("a"), {**CALL, "train": False}, result("7"), assistant("b")]
    assert learnt(tokenizer, messages) == ["<|channel|>final<|message|>b<|return|>"]
    assert learnt(tokenizer, [user("a"), {**assistant("b", thinking="c"), "train": False}]) == []


def test_the_message_after_one_kept_out_is_learnt_without_its_opening(tokenizer: Tokenizer) -> None:
    messages = [user("a"), {**assistant("b", channel="analysis"), "train": False}, assistant("c")]
    assert learnt(tokenizer, messages) == ["<|channel|>final<|message|>c<|return|>"]


def test_a_message_of_an_earlier_turn_can_be_taken_in_with_its_reasoning(tokenizer: Tokenizer) -> None:
    messages = [user("a"), {**assistant("b", thinking="c"), "train": True}, user("d"), assistant("e")]
    assert learnt(tokenizer, messages) == [
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
        "<|channel|>final<|message|>e<|return|>",
    ]


def test_a_conversation_without_an_answer_has_nothing_to_learn(tokenizer: Tokenizer) -> None:
    assert learnt(tokenizer, [user("a")]) == []
    assert learnt(tokenizer, []) == []
