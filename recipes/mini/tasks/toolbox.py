"""The functions that are offered: what they are called, what they take, what they return, how one asks for them.

Each maker draws one function in one of its many spellings and a request that needs it. Nothing about a spelling can be
learnt by heart: names, descriptions, parameter names, their order and their types all vary.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import words
from ..conversation import Answer, Call, phrase
from .arithmetic import ADD, SUBTRACT, number


@dataclass(frozen=True, slots=True)
class Request:
    """A function (an OpenAI chat tool), the call that a request needs, what to answer, and the request itself.

    `wish` is the request in words for the reasoning; `asks` leave out the tool's name, `names` say it as `{tool}`.
    """

    tool: dict[str, Any]
    call: Call
    user: str
    wish: str
    final: str
    answer: Answer


Parameter = tuple[str, str, tuple[str, ...]]
"""Name, JSON schema type (`enum` for a string with choices) and the choices."""

PAIRS = (
    ("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"), ("num1", "num2"), ("number1", "number2"), ("n", "m"),
    ("one", "two"), ("p", "q"), ("lhs", "rhs"), ("augend", "addend"), ("value1", "value2"), ("i", "j"), ("u", "v"),
)  # fmt: skip
USE = (
    "Use the {tool} tool to {do}.", "Use {tool} to {do}.", "Call {tool} to {do}.", "{do} with {tool}.", "{do} using the {tool} tool.",
    "Please use the {tool} tool: {do}.", "With the {tool} tool, {do}.", "Let {tool} {do}.", "Use the tool {tool} and {do}.",
)  # fmt: skip
ASIDE = ("", "", "", "", " Use the tool.", " Use a tool.", " Use your tools.", " Call the tool.", " Please use the tool.")


def tool_schema(
    rng: random.Random, name: str, description: str, parameters: list[Parameter], optional: tuple[Parameter, ...] = ()
) -> dict[str, Any]:
    """An OpenAI chat tool. Descriptions and the `required` list are there or not, as in the wild."""
    properties: dict[str, Any] = {}
    for key, kind, choices in (*parameters, *optional):
        properties[key] = {"type": "string", "enum": list(choices)} if kind == "enum" else {"type": kind}
        if rng.random() < 0.15:
            properties[key]["description"] = f"The {key.replace('_', ' ')}"
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.85 or optional:
        schema["required"] = [key for key, _, _ in parameters]
    function: dict[str, Any] = {"name": name, "parameters": schema}
    if rng.random() < 0.8:
        function["description"] = description
    return {"type": "function", "function": function}


def _named(rng: random.Random, request: str, tool: str, do: str) -> str:
    """Either the plain request or one that names the tool."""
    if rng.random() < 0.55:
        return request + (rng.choice(ASIDE) if request[-1] in ".?" else "")
    template = rng.choice(USE)
    return template.format(tool=tool, do=do if not template.startswith("{do}") else do[0].upper() + do[1:])


def _output(rng: random.Random, key: str, value: object) -> str:
    """What a function returns: the bare value or JSON."""
    return str(value) if rng.random() < 0.45 else json.dumps({key: value})


def _sum(rng: random.Random) -> Request:
    plus = rng.random() < 0.6
    a, b = number(rng, 3), number(rng, 3)
    sign, result = ("+", a + b) if plus else ("-", a - b)
    style = rng.random()
    kind = rng.choice(("integer", "number", "number"))
    first, second = rng.choice(PAIRS)
    do = f"add {a} and {b}" if plus else f"subtract {b} from {a}"
    request = phrase(rng, ADD if plus else SUBTRACT, a=a, b=b)
    if style < 0.6:
        stems = ("add", "sum", "plus", "addition") if plus else ("subtract", "minus", "difference", "subtraction")
        name = rng.choice(("{}", "{}_numbers", "{}_two", "math_{}", "do_{}", "{}_tool", "compute_{}")).format(rng.choice(stems))
        about = rng.choice(("Add two numbers.", "Adds two numbers", "Returns the sum.") if plus else
                           ("Subtract two numbers.", "Subtracts the second from the first", "Returns the difference."))  # fmt: skip
        tool = tool_schema(rng, name, about, [(first, kind, ()), (second, kind, ())])
        arguments: dict[str, Any] = {first: a, second: b}
    elif style < 0.85:
        name = rng.choice(("calculator", "calculator", "calc", "compute", "arithmetic", "math"))
        choices = rng.choice((("add", "subtract"), ("+", "-"), ("plus", "minus"), ("sum", "difference")))
        key = rng.choice(("op", "operation", "operator", "action"))
        parameters: list[Parameter] = [(first, kind, ()), (second, kind, ())]
        parameters.insert(rng.randint(0, 2), (key, "enum", choices))
        tool = tool_schema(rng, name, rng.choice(("A calculator.", "Do arithmetic.", "Calculates.")), parameters)
        given: dict[str, Any] = {first: a, second: b, key: choices[0 if plus else 1]}
        arguments = {parameter[0]: given[parameter[0]] for parameter in parameters}
    else:
        name = rng.choice(("calculator", "calculator", "evaluate", "calc", "eval_expression", "solve"))
        key = rng.choice(("expression", "expr", "input", "formula"))
        tool = tool_schema(rng, name, rng.choice(("Evaluate an expression.", "A calculator.")), [(key, "string", ())])
        arguments = {key: f"{a} {sign} {b}"}
    output = _output(rng, rng.choice(("result", "value", "answer", "output")), result)
    user = _named(rng, request, name, do)
    answer = Answer("number", str(result))
    return Request(tool, Call(name, arguments, output), user, f"{a} {sign} {b}", f"{a} {sign} {b} = {result}.", answer)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A family of functions that take one word and return one value."""

    names: tuple[str, ...]
    about: tuple[str, ...]
    keys: tuple[str, ...]
    word: Callable[[random.Random], str]
    asks: tuple[str, ...]
    do: str
    value: Callable[[random.Random], str | int]
    fields: tuple[str, ...]
    final: str


LOOKUPS = (
    Lookup(
        ("lookup_weather", "get_weather", "weather", "get_current_weather", "weather_report", "forecast", "check_weather"),
        ("Get the weather of a city.", "Current weather.", "Looks up the weather"), ("city", "location", "place", "town", "where"),
        lambda rng: words.pick(rng, words.CITIES, invented=0.3, capital=True),
        ("What is the weather in {w}?", "What's the weather like in {w}?", "How is the weather in {w}?", "Tell me the weather in {w}.",
         "Weather in {w}?", "What is the weather like in {w} today?", "I need the weather in {w}.", "Check the weather in {w}."),
        "get the weather in {w}",
        lambda rng: rng.choice(("sunny", "rain", "cloudy", "snow", "windy", "fog", f"{rng.randint(0, 35)} degrees")),
        ("weather", "condition", "result", "sky"), "The weather in {w}: {v}.",
    ),
    Lookup(
        ("get_time", "current_time", "time_in", "clock", "what_time", "lookup_time", "local_time"),
        ("Get the time in a city.", "Current local time.", "Tells the time"), ("city", "place", "location", "zone", "town"),
        lambda rng: words.pick(rng, words.CITIES, invented=0.3, capital=True),
        ("What time is it in {w}?", "Tell me the time in {w}.", "What is the time in {w}?", "Time in {w}?",
         "What's the time in {w}?", "Do you know what time it is in {w}?", "I need the time in {w}.", "Check the time in {w}."),
        "get the time in {w}", lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        ("time", "clock", "result", "now"), "The time in {w}: {v}.",
    ),
    Lookup(
        ("get_price", "price_of", "lookup_price", "item_price", "find_price", "price", "check_price"),
        ("Get the price of an item.", "Price list.", "Looks up prices"), ("item", "product", "name", "article", "thing"),
        lambda rng: words.pick(rng, words.KNOWN_THINGS + words.RARE_THINGS, invented=0.3),
        ("What is the price of the {w}?", "How much does the {w} cost?", "How much is the {w}?", "Price of the {w}?",
         "Tell me the price of the {w}.", "What does the {w} cost?", "I need the price of the {w}.", "Check the price of the {w}."),
        "get the price of the {w}", lambda rng: rng.randint(1, 999), ("price", "cost", "amount", "result"), "The price of the {w}: {v}.",
    ),
    Lookup(
        ("search_items", "search", "find_items", "stock", "count_items", "inventory", "search_stock"),
        ("Search the stock.", "Counts items in stock.", "Search items"), ("query", "q", "item", "term", "text"),
        lambda rng: words.pick(rng, words.KNOWN_THINGS + words.RARE_THINGS, invented=0.3),
        ("Search for {w}.", "Search the stock for {w}.", "Look for {w} in the stock.", "Find {w} in the stock.",
         "Is {w} in stock?", "Do a search for {w}.", "How many {w} are in stock?", "Please search for {w}."),
        "search for {w}", lambda rng: rng.randint(0, 99), ("found", "count", "hits", "result"), "In stock for {w}: {v}.",
    ),
    Lookup(
        ("get_phone", "lookup_number", "phone_book", "find_phone", "phone_number", "contact", "directory"),
        ("Find a phone number.", "Phone book.", "Looks up a person's number"), ("name", "person", "who", "contact", "first_name"),
        words.name,
        ("What is the phone number of {w}?", "Find the phone number of {w}.", "What is {w}'s phone number?", "Phone number of {w}?",
         "Tell me the phone number of {w}.", "Look up the phone number of {w}.", "I need {w}'s phone number.", "Which phone number has {w}?"),
        "find the phone number of {w}", lambda rng: str(rng.randint(1000, 99999)), ("phone", "number", "result"),
        "The phone number of {w}: {v}.",
    ),
    Lookup(
        ("translate", "to_french", "dictionary", "translate_word", "translator", "lookup_word"),
        ("Translate a word into French.", "English to French.", "French dictionary"), ("word", "text", "term", "english", "input"),
        words.spelling_word,
        ("Translate {w} into French.", "What is {w} in French?", "How do you say {w} in French?", "French for {w}?",
         "Give me {w} in French.", "Translate the word {w} to French.", "What is the French word for {w}?", "I need {w} in French."),
        "translate {w} into French", lambda rng: words.invented_word(rng, 3, 7), ("translation", "french", "result", "word"),
        "{w} in French: {v}.",
    ),
)  # fmt: skip


def _look_up(rng: random.Random) -> Request:
    family = rng.choice(LOOKUPS)
    name, key, word = rng.choice(family.names), rng.choice(family.keys), family.word(rng)
    value = family.value(rng)
    optional: tuple[Parameter, ...] = ()
    if rng.random() < 0.12:
        optional = ((rng.choice(("unit", "style", "mode")), "enum", rng.choice((("short", "long"), ("metric", "imperial")))),)
    tool = tool_schema(rng, name, rng.choice(family.about), [(key, "string", ())], optional)
    user = _named(rng, phrase(rng, family.asks, w=word), name, family.do.format(w=word))
    output = _output(rng, rng.choice(family.fields), value)
    final = family.final.format(w=word, v=value)
    return Request(tool, Call(name, {key: word}, output), user, family.do.format(w=word), final, Answer("text", str(value)))


ORDERS = (
    "Use {tool} with {l}.", "Call {tool} with {l}.", "Use the {tool} tool with {l}.", "Run {tool} with {l}.", "{tool} with {l}, please.",
    "Please call the {tool} tool with {l}.", "Start {tool} with {l}.", "I want you to call {tool} with {l}.",
)  # fmt: skip
VERBS = "set get send start stop open move find make play book turn read save load mark ping".split()
NOUNS = "timer alarm light room table message note song door list file task ticket car seat order page".split()
KEYS = "name minutes size level text person id colour count to amount label day place target code mode key value title".split()


def _order(rng: random.Random) -> Request:
    """A function nobody has seen, called with one to three named values that the request spells out."""
    noun = rng.choice(NOUNS) if rng.random() < 0.6 else words.invented_word(rng)
    name = rng.choice((f"{rng.choice(VERBS)}_{noun}", noun, f"{noun}_{rng.choice(VERBS)}", words.invented_word(rng)))
    keys = rng.sample(KEYS, rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.3:
        keys = list(dict.fromkeys([words.invented_word(rng), *keys[1:]]))
    parameters: list[Parameter] = []
    arguments: dict[str, Any] = {}
    for key in keys:
        kind = rng.choice(("integer", "number", "string", "string", "enum"))
        choices = tuple(rng.sample(("low", "high", "on", "off", "red", "blue", "slow", "fast"), 3)) if kind == "enum" else ()
        parameters.append((key, kind, choices))
        if kind == "enum":
            arguments[key] = rng.choice(choices)
        elif kind == "string":
            arguments[key] = rng.choice((words.name, words.colour, words.thing, words.invented_word))(rng)
        else:
            arguments[key] = number(rng, 3)
    joint = rng.choice((" ", " ", " = ", ": "))
    said = [f"{key}{joint}{value}" for key, value in arguments.items()]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    tool = tool_schema(rng, name, rng.choice(("Does what its name says.", f"Handles the {noun}.", "A function.")), parameters)
    value = rng.choice(("done", "ok", "saved", "started", words.invented_word(rng), str(rng.randint(0, 999))))
    output = _output(rng, rng.choice(("result", "status", "state")), value)
    user = phrase(rng, ORDERS, tool=name, l=listed)
    return Request(tool, Call(name, arguments, output), user, name, f"The tool says: {value}.", Answer("text", value))


def draw_request(rng: random.Random) -> Request:
    """A request and the function it needs: sums 45 %, look-ups 35 %, functions nobody has seen 20 %."""
    kind = rng.random()
    return _sum(rng) if kind < 0.45 else _look_up(rng) if kind < 0.80 else _order(rng)
