"""What a turn may say under a grammar: every legal turn, and nothing else, refused at the exact token."""

import json
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest

from ossature.chat import Constraint, Grammars, Parser, Tokenizer, load_tokenizer
from ossature.errors import ConfigError, MessageError
from ossature.session import find_model
from ossature.session.reply import ReplyStream

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Pune", "Köln"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_weather_of_clock"}}
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT}}
THINKING = "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant"
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Pune"}<|call|>'
OTHER_FORM = ' to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"city":"Köln"}<|call|>'
PREAMBLE = "<|channel|>commentary<|message|>I shall look.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>It rains.<|return|>"


@pytest.fixture(scope="module", params=["mini", "o200k_harmony"])
def grammars(request: pytest.FixtureRequest) -> Grammars:
    name = find_model("mini") if request.param == "mini" else request.param
    return Grammars(load_tokenizer(name))


def ids_of(tokenizer: Tokenizer, turn: str) -> list[int]:
    """Ids of text in which control tokens are spelled out."""
    parts = [part for part in re.split(r"(<\|[a-z]+\|>)", turn) if part]
    return [id_ for part in parts for id_ in ([tokenizer.special[part]] if "<|" in part else tokenizer.encode(part))]


def follow(grammars: Grammars, turn: str, **request: Any) -> tuple[str, str] | None:
    """None if the grammar allows the whole turn, else what it allowed, and the id that it refused, as texts."""
    constraint, said = grammars.turn(**request), b""
    assert constraint is not None
    for id_ in ids_of(grammars.tokenizer, turn):
        written = grammars.tokenizer.decode_bytes([id_])
        if not constraint.allowed()[id_]:
            return said.decode(), written.decode()
        constraint.take(id_)
        said += written
    assert not constraint.allowed().any()
    return None


@pytest.mark.parametrize("thinking", ["", THINKING, THINKING * 2])
@pytest.mark.parametrize("end", [FINAL, CALL, OTHER_FORM, PREAMBLE + CALL])
def test_a_turn_with_tools_thinks_and_then_calls_or_answers(grammars: Grammars, thinking: str, end: str) -> None:
    assert follow(grammars, thinking + end, tools=[WEATHER, CLOCK]) is None


CLOCK_ONLY = {"type": "function", "function": {"name": CLOCK["function"]["name"]}}


@pytest.mark.parametrize(
    ("legal", "wrong", "request_"),
    [
        ("<|channel|>", FINAL, {"tools": [WEATHER], "tool_choice": "required"}),
        ("<|channel|>", CALL, {"tools": [WEATHER], "tool_choice": "none"}),
        ("<|channel|>commentary to=functions.get_", "time<|message|>{}<|call|>", {"tools": [WEATHER]}),
        ("<|channel|>commentary to=functions.get_weather", "_of_clock<|message|>{}<|call|>", {"tools": [WEATHER]}),
        (
            "<|channel|>commentary to=functions.get_weather",
            "<|message|>{}<|call|>",
            {"tools": [WEATHER, CLOCK], "tool_choice": CLOCK_ONLY},
        ),
        (CALL.partition("Pune")[0], 'Rome"}<|call|>', {"tools": [WEATHER]}),
        ("<|channel|>final<|message|>", "It rains.<|return|>", {"response_format": FORMAT}),
        ('<|channel|>final<|message|>{"x": 1', "}<|return|>", {"response_format": FORMAT}),
        ("", "It rains.<|return|>", {"tools": [WEATHER]}),
        ("<|channel|>final<|message|>It rains.", "<|call|>", {"tools": [WEATHER]}),
        ("<|channel|>analysis<|message|>Hm.", "<|return|>", {"tools": [WEATHER]}),
    ],
)
def test_what_is_not_legal_is_refused_where_it_begins(
    grammars: Grammars, legal: str, wrong: str, request_: dict[str, Any]
) -> None:
    refused = follow(grammars, legal + wrong.removeprefix(legal), **request_)
    assert refused is not None
    said, id_ = refused
    assert len(said) <= len(legal) < len(said + id_)  # the id that holds the first wrong letter


@pytest.mark.parametrize("text", ['{"x": 1, "y": -2}', '{"x":1,"y":2}', '{\n  "x": 10,\n  "y": 2\n}'])
@pytest.mark.parametrize("typed", ["", " <|constrain|>json"])
def test_a_final_message_of_a_schema(grammars: Grammars, text: str, typed: str) -> None:
    turn = f"{THINKING}<|channel|>final{typed}<|message|>{text}<|return|>"
    assert follow(grammars, turn, response_format=FORMAT) is None
    assert follow(grammars, turn, response_format={"type": "json_object"}) is None


def test_arguments_of_a_tool_that_is_not_strict_are_some_object(grammars: Grammars) -> None:
    loose = {"type": "function", "function": {**WEATHER["function"], "strict": False}}
    turn = CALL.replace('{"city": "Pune"}', '{"town": [1, "é"]}')
    assert follow(grammars, turn, tools=[loose]) is None
    assert follow(grammars, turn, tools=[WEATHER]) is not None


def test_reasoning_ends_at_its_limit(grammars: Grammars) -> None:
    tokenizer = grammars.tokenizer
    constraint = grammars.turn(reasoning_tokens=5)
    assert constraint is not None
    for id_ in ids_of(tokenizer, "<|channel|>analysis<|message|>"):
        constraint.take(id_)
    word = tokenizer.encode("a")[0]
    for _ in range(5):
        assert constraint.allowed()[word]
        constraint.take(word)
    assert list(np.flatnonzero(constraint.allowed())) == [tokenizer.control.end]


def test_where_everything_is_allowed_there_is_no_constraint(grammars: Grammars) -> None:
    assert grammars.turn() is None
    assert grammars.turn(response_format={"type": "text"}) is None


def test_a_grammar_that_cannot_be_made_is_refused_before_anything_is_said(grammars: Grammars) -> None:
    for schema in ({"type": "no such type"}, {"$ref": "#/nowhere"}, {"enum": ["x" * 300_000]}):
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        with pytest.raises(ConfigError, match="grammar"):
            grammars.turn(response_format=form)


@pytest.mark.parametrize("choice", ["always", {"type": "function"}, {"type": "function", "function": {"name": "f"}}, 3])
def test_a_tool_choice_that_makes_no_sense_is_refused(grammars: Grammars, choice: object) -> None:
    with pytest.raises(MessageError, match="tool_choice"):
        grammars.turn(tools=[WEATHER], tool_choice=choice)
    with pytest.raises(MessageError, match="tool_choice"):
        grammars.turn(tool_choice="required")


def walk(constraint: Constraint, rng: random.Random, most: int) -> list[int]:
    """A turn by a model of no mind at all: any allowed id, one as likely as another."""
    said: list[int] = []
    while len(said) < most and (choices := np.flatnonzero(constraint.allowed())).size:
        said.append(int(rng.choice(choices)))
        constraint.take(said[-1])
    return said


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_said_under_a_grammar_is_whole_and_valid(grammars: Grammars, seed: int) -> None:
    rng, tokenizer = random.Random(seed), grammars.tokenizer
    constraint = grammars.turn(tools=[WEATHER], tool_choice="required", reasoning_tokens=8)
    assert constraint is not None
    said = walk(constraint, rng, 4000)
    stream = ReplyStream(iter(said), Parser(tokenizer), prompt=[], stop_ids=tokenizer.stop_ids)
    reply = stream.finish()
    assert reply.finish_reason == "tool_calls" or len(said) == 4000
    for call in reply.tool_calls:
        assert call["function"]["name"] == "get_weather"
        jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER["function"]["parameters"])
