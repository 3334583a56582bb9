"""What a request for a function is made of. The functions themselves are in sums.py, lookups.py and orders.py."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.mini.conversation import Answer, Call, phrasings

__all__ = ["Parameter", "Request", "output", "schema", "worded"]


@dataclass(frozen=True, slots=True)
class Request:
    """A function (an OpenAI chat tool), what the user asks, the call that it needs, and the answer from its result.

    `family` says what the function is for: two of one family are never offered together. `wish` is the request in
    words, `value` the result in words, both for the reasoning.
    """

    family: str
    tool: dict[str, Any]
    call: Call
    user: str
    wish: str
    value: str
    final: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: `type` is a JSON schema type, or `enum` for a string of `choices`."""

    name: str
    type: str
    choices: tuple[str, ...] = ()


USE = phrasings(
    """
    Use the {tool} tool to {do}. | Use {tool} to {do}. | Use the {tool} to {do}. | Call {tool} to {do}. |
    {Do} with {tool}. | {Do} using the {tool} tool. | Please use the {tool} tool: {do}. | With the {tool} tool, {do}. |
    Let {tool} {do}. | Use the tool {tool} and {do}. | Please use {tool} to {do}. | Can you use {tool} to {do}? |
    {Do}. Use {tool}. | I want you to use {tool} to {do}. | Use the {tool} function to {do}.
    """
)
ASIDE = (
    *("",) * 7,
    *(" Use the tool.", " Use a tool.", " Use your tools.", " Call the tool.", " Please use the tool."),
    *(" Use the function.", " Use the tools.", " Look it up with the tool."),
)


def schema(
    rng: random.Random,
    name: str,
    description: str,
    parameters: Sequence[Parameter],
    optional: Sequence[Parameter] = (),
) -> dict[str, Any]:
    """An OpenAI chat tool. Descriptions and the list of what is required are there or not, as they are in the wild."""
    properties: dict[str, Any] = {}
    for one in (*parameters, *optional):
        kind: dict[str, Any] = {"type": "string", "enum": list(one.choices)} if one.choices else {"type": one.type}
        if rng.random() < 0.15:
            kind["description"] = f"The {one.name.replace('_', ' ')}"
        properties[one.name] = kind
    form: dict[str, Any] = {"type": "object", "properties": properties}
    if parameters and (optional or rng.random() < 0.85):
        form["required"] = [one.name for one in parameters]
    function: dict[str, Any] = {"name": name}
    if rng.random() < 0.8:
        function["description"] = description
    if parameters or rng.random() < 0.5:
        function["parameters"] = form
    return {"type": "function", "function": function}


def worded(rng: random.Random, plain: str, tool: str, do: str) -> str:
    """The request: as it is (perhaps asking for a tool), or in words that name the tool."""
    if rng.random() < 0.5:
        return plain + (rng.choice(ASIDE) if plain[-1] in ".?" else "")
    return rng.choice(USE).format(tool=tool, do=do, Do=do[0].upper() + do[1:])


def output(rng: random.Random, fields: Mapping[str, object]) -> str:
    """What a function returns: bare values or JSON."""
    if rng.random() < 0.4:
        return ", ".join(map(str, fields.values()))
    return json.dumps(dict(fields))
