"""Functions that nobody has seen: the call is what the request spells out, under the names that the schema gives."""

from __future__ import annotations

import random
from typing import Any

from recipes.mini import words
from recipes.mini.conversation import Answer, Call, phrase, phrasings
from recipes.mini.tasks.arithmetic import number
from recipes.mini.tasks.requests import Parameter, Request, output, schema

__all__ = ["bare_order", "order_with_values"]

ORDERS = phrasings(
    """
    Use {tool} with {l}. | Call {tool} with {l}. | Use the {tool} tool with {l}. | Run {tool} with {l}. |
    {tool} with {l}, please. | Please call the {tool} tool with {l}. | Start {tool} with {l}. |
    I want you to call {tool} with {l}. | Call the {tool} function with {l}. | Use {tool}: {l}.
    """
)
BARE = phrasings(
    """
    Use {tool}. | Call {tool}. | Use the {tool} tool. | Run {tool}. | Please call the {tool} tool. | Start {tool}. |
    I want you to call {tool}. | Call the {tool} function. | What does {tool} say?
    """
)
VERBS = words.listed("set get send start stop open move find make play book turn read save load mark ping")
NOUNS = words.listed("timer alarm light room table message note song door list file task ticket car seat order page")
KEYS = words.listed(
    "name minutes size level text person id colour count to amount label day place target code mode key value title"
)
SETTINGS = words.listed("low high on off red blue slow fast left right small large")
STATES = ("done", "ok", "saved", "started")


def _name(rng: random.Random) -> tuple[str, str]:
    """A function's name and the thing it is about."""
    noun = rng.choice(NOUNS) if rng.random() < 0.6 else words.invented_word(rng)
    verb = rng.choice(VERBS)
    return rng.choice((f"{verb}_{noun}", noun, f"{noun}_{verb}", words.invented_word(rng))), noun


def _about(rng: random.Random, noun: str) -> str:
    return rng.choice(("Does what its name says.", f"Handles the {noun}.", "A function."))


def _returned(rng: random.Random) -> tuple[str, str]:
    """What the function returns, and the value in it."""
    value = rng.choice((*STATES, words.invented_word(rng), str(rng.randint(0, 999))))
    return output(rng, {rng.choice(("result", "status", "state")): value}), value


def order_with_values(rng: random.Random) -> Request:
    """A function with one to three parameters, all of whose values the request names."""
    name, noun = _name(rng)
    keys = rng.sample(KEYS, rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.3:
        keys[0] = words.invented_word(rng)
    parameters: list[Parameter] = []
    arguments: dict[str, Any] = {}
    for key in dict.fromkeys(keys):
        kind = rng.choice(("integer", "number", "string", "string", "enum"))
        choices = tuple(rng.sample(SETTINGS, 3)) if kind == "enum" else ()
        parameters.append(Parameter(key, kind, choices))
        if choices:
            arguments[key] = rng.choice(choices)
        elif kind == "string":
            arguments[key] = rng.choice((words.name, words.colour, words.thing, words.invented_word))(rng)
        else:
            arguments[key] = number(rng, 3)
    joint = rng.choice((" ", " ", " = ", ": "))
    said = [f"{key}{joint}{value}" for key, value in arguments.items()]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return _request(
        rng, schema(rng, name, _about(rng, noun), parameters), arguments, phrase(rng, ORDERS, tool=name, l=listed)
    )


def bare_order(rng: random.Random) -> Request:
    """A function without parameters."""
    name, noun = _name(rng)
    return _request(rng, schema(rng, name, _about(rng, noun), ()), {}, phrase(rng, BARE, tool=name))


def _request(rng: random.Random, tool: dict[str, Any], arguments: dict[str, Any], user: str) -> Request:
    name = tool["function"]["name"]
    returned, value = _returned(rng)
    call = Call(name, arguments, returned)
    return Request(name, tool, call, user, f"call {name}", value, f"The tool says: {value}.", Answer("text", value))
