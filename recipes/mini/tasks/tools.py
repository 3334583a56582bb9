"""Calling an offered function: its choice, its arguments, and an answer made of what it returned."""

from __future__ import annotations

import json
import random
from typing import Any

from ..conversation import Answer, Effort, Exchange, Step
from .toolbox import Request, draw_request


def tools(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """A request that needs one of up to `most` offered functions."""
    request = draw_request(rng)
    if rng.random() < 0.05:
        request = _failing(rng, request)
    offered = [request.tool, *other_tools(rng, [request.call.name], rng.randint(0, most - 1))]
    rng.shuffle(offered)
    call = request.call
    steps = (Step(_before(request, effort), call=call), Step(_after(request, effort), request.final))
    key = f"tool:{call.name}:{json.dumps(call.arguments)}"
    return Exchange(f"tools/{family(call.name) if family(call.name) != call.name else 'order'}", key, request.user, steps, request.answer, tools=tuple(offered))


def other_tools(rng: random.Random, unlike: list[str], count: int) -> list[dict[str, Any]]:
    """`count` functions of other families than those of the names in `unlike`, so that the choice is clear."""
    found: list[dict[str, Any]] = []
    taken = {family(name) for name in unlike}
    while len(found) < count:
        tool = draw_request(rng).tool
        kind = family(tool["function"]["name"])
        if kind not in taken:
            taken.add(kind)
            found.append(tool)
    return found


def family(name: str) -> str:
    """What a function is for, as far as its name says: two functions of one family are never offered together."""
    kinds = {
        "sum": "add sum plus addition subtract minus difference subtraction calc compute arithmetic math eval solve",
        "weather": "weather forecast",
        "time": "time clock",
        "price": "price",
        "search": "search find_items stock count_items inventory",
        "phone": "phone lookup_number contact directory",
        "translate": "transl french dictionary lookup_word",
    }
    for kind, stems in kinds.items():
        if any(stem in name for stem in stems.split()):
            return kind
    return name


def _failing(rng: random.Random, request: Request) -> Request:
    reason = rng.choice(("not found", "no connection", "try again later", "timeout", "unknown value"))
    output = rng.choice((json.dumps({"error": reason}), f"error: {reason}"))
    call = type(request.call)(request.call.name, request.call.arguments, output)
    final = f"The tool failed: {reason}."
    return Request(request.tool, call, request.user, request.wish, final, Answer("text", reason))


def _before(request: Request, effort: Effort) -> str:
    name = request.call.name
    given = ", ".join(f"{key} = {value}" for key, value in request.call.arguments.items())
    if effort == "low":
        return f"Use {name}."
    if effort == "medium":
        return f"Use {name}: {given}."
    keys = ", ".join(request.call.arguments)
    return f"Wish: {request.wish}. Use {name}. It takes {keys}. {given}."


def _after(request: Request, effort: Effort) -> str:
    value = request.answer.value
    if effort == "low":
        return f"{value}."
    return f"Result: {value}." if effort == "medium" else f"{request.call.name} gave {value}. So: {value}."
