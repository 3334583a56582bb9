"""Calling an offered function: its choice, its arguments, and an answer made of what it returned."""

from __future__ import annotations

import json
import random
from collections.abc import Container
from dataclasses import replace
from typing import Any

from recipes.mini.conversation import Answer, Effort, Exchange, Message, Step, said
from recipes.mini.tasks.lookups import look_up
from recipes.mini.tasks.orders import bare_order, order_with_values
from recipes.mini.tasks.requests import Request
from recipes.mini.tasks.sums import calculation

__all__ = ["other_tools", "tools"]

FAILURES = ("not found", "no connection", "try again later", "timeout", "unknown value")


def tools(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """A request that needs one of up to `most` offered functions, now and then after another one."""
    request = _request(rng)
    if rng.random() < 0.05:
        request = _failing(rng, request)
    offered = [request.tool]
    families = {request.family}
    before: tuple[Message, ...] = ()
    if most > 1 and rng.random() < 0.08:
        past = _request_unlike(rng, families)
        families.add(past.family)
        offered.append(past.tool)
        before = ({"role": "user", "content": past.user}, *said(_exchange(past, "low").steps))
    offered += other_tools(rng, families, rng.randint(0, most - len(offered)))
    rng.shuffle(offered)
    return replace(_exchange(request, effort), tools=tuple(offered), before=before)


def _request(rng: random.Random) -> Request:
    """Calculations 45 %, look-ups 33 %, functions nobody has seen 22 %."""
    kind = rng.random()
    if kind < 0.45:
        return calculation(rng)
    if kind < 0.78:
        return look_up(rng)
    return order_with_values(rng) if kind < 0.96 else bare_order(rng)


def _request_unlike(rng: random.Random, families: Container[str]) -> Request:
    while (request := _request(rng)).family in families:
        pass
    return request


def other_tools(rng: random.Random, unlike: Container[str], count: int) -> list[dict[str, Any]]:
    """`count` functions of different families, none in `unlike`, so that the choice is clear."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        request = _request_unlike(rng, unlike)
        found.setdefault(request.family, request.tool)
    return list(found.values())


def _exchange(request: Request, effort: Effort) -> Exchange:
    """The request, the call and the answer, with the reasoning of an effort."""
    steps = (Step(_before(request, effort), call=request.call), Step(_after(request, effort), request.final))
    kind = request.family if request.family != request.call.name else "order"
    key = f"tool:{request.call.name}:{json.dumps(request.call.arguments)}" if request.call.arguments else ""
    return Exchange(f"tools/{kind}", key, request.user, steps, request.answer)


def _failing(rng: random.Random, request: Request) -> Request:
    """The same request where the function returns an error."""
    reason = rng.choice(FAILURES)
    result = rng.choice((json.dumps({"error": reason}), f"error: {reason}"))
    final = f"The tool failed: {reason}."
    call = replace(request.call, result=result)
    return replace(request, call=call, value=f"failed, {reason}", final=final, answer=Answer("text", reason))


def _before(request: Request, effort: Effort) -> str:
    name = request.call.name
    if effort == "low":
        return f"Use {name}."
    given = ", ".join(f"{key} = {value}" for key, value in request.call.arguments.items()) or "no values"
    if effort == "medium":
        return f"Use {name}: {given}."
    return f"Wish: {request.wish}. Use {name}: {', '.join(request.call.arguments) or 'nothing'}. So: {given}."


def _after(request: Request, effort: Effort) -> str:
    if effort == "low":
        return f"{request.value}."
    return (
        f"Result: {request.value}."
        if effort == "medium"
        else f"{request.call.name}: {request.value}. So: {request.value}."
    )
