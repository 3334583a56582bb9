"""Functions that calculate, and questions that need one. With a function `mini` can also multiply."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from recipes.mini.conversation import Answer, Call, phrase, phrasings
from recipes.mini.tasks.arithmetic import ADD, SUBTRACT, number
from recipes.mini.tasks.requests import Parameter, Request, output, schema, worded

__all__ = ["calculation"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: how one asks for it, what a function of its own is called, and its names in a calculator."""

    sign: str
    ask: tuple[str, ...]
    do: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    choices: tuple[str, ...]


OPERATIONS = (
    Operation(
        "+",
        ADD,
        "add {a} and {b}",
        ("add", "sum", "plus", "addition", "total"),
        ("Add two numbers.", "Adds two numbers", "Returns the sum.", "Sum of two numbers."),
        ("add", "+", "plus", "sum"),
    ),
    Operation(
        "-",
        SUBTRACT,
        "subtract {b} from {a}",
        ("subtract", "minus", "difference", "subtraction", "sub"),
        ("Subtract two numbers.", "Subtracts the second from the first", "Returns the difference."),
        ("subtract", "-", "minus", "difference"),
    ),
    Operation(
        "*",
        phrasings(
            """
            What is {a} * {b}? | What is {a} times {b}? | Multiply {a} by {b}. | {a} * {b} = ? | Calculate {a} * {b}. |
            How much is {a} times {b}? | Multiply {a} and {b}. | {a} * {b}
            """
        ),
        "multiply {a} by {b}",
        ("multiply", "times", "product", "mul"),
        ("Multiply two numbers.", "Returns the product.", "Multiplies two numbers"),
        ("multiply", "*", "times", "product"),
    ),
)
PAIRS = phrasings(
    """
    a b | x y | first second | left right | num1 num2 | number1 number2 | n m | one two | p q | lhs rhs |
    augend addend | value1 value2 | i j | u v | a b | x y | term1 term2 | first_number second_number
    """
)
NAMES = ("{}", "{}", "{}_numbers", "{}_two", "math_{}", "do_{}", "{}_tool", "compute_{}", "{}_integers")
CALCULATORS = ("calculator", "calculator", "calculator", "calc", "compute", "arithmetic", "math", "calculate")
EXPRESSIONS = ("calculator", "calculator", "evaluate", "calc", "eval_expression", "solve")


def calculation(rng: random.Random) -> Request:
    """A calculation with a function of its own (50 %), a calculator of operations (30 %) or of expressions (20 %)."""
    operation = rng.choices(OPERATIONS, (6, 4, 2))[0]
    a, b = number(rng, 5), number(rng, 5)
    if rng.random() < 0.6:
        a, b = number(rng, 3), number(rng, 3)
    result = {"+": a + b, "-": a - b, "*": a * b}[operation.sign]
    problem = f"{a} {operation.sign} {b}"
    style = rng.random()
    make = _own if style < 0.5 else _with_operations if style < 0.8 else _with_expression
    tool, arguments = make(rng, operation, a, b)
    name = tool["function"]["name"]
    returned = output(rng, {rng.choice(("result", "value", "answer", "output")): result})
    alias = "calculator" if rng.random() < 0.2 else name
    user = worded(rng, phrase(rng, operation.ask, a=a, b=b), alias, operation.do.format(a=a, b=b))
    final = f"{problem} = {result}."
    answer = Answer("number", str(result))
    return Request("sum", tool, Call(name, arguments, returned), user, problem, str(result), final, answer)


def _pair(rng: random.Random) -> tuple[Parameter, Parameter]:
    kind = rng.choice(("integer", "number", "number"))
    first, second = rng.choice(PAIRS).split()
    return Parameter(first, kind), Parameter(second, kind)


def _own(rng: random.Random, operation: Operation, a: int, b: int) -> tuple[dict[str, Any], dict[str, Any]]:
    name = rng.choice(NAMES).format(rng.choice(operation.names))
    first, second = _pair(rng)
    return schema(rng, name, rng.choice(operation.about), (first, second)), {first.name: a, second.name: b}


def _with_operations(rng: random.Random, operation: Operation, a: int, b: int) -> tuple[dict[str, Any], dict[str, Any]]:
    spelling = rng.randrange(len(operation.choices))
    offered = [operation, *rng.sample([one for one in OPERATIONS if one is not operation], rng.randint(1, 2))]
    choices = [one.choices[spelling] for one in sorted(offered, key=OPERATIONS.index)]
    chooser = Parameter(rng.choice(("op", "operation", "operator", "action")), "enum", tuple(choices))
    parameters = list(_pair(rng))
    values = {parameters[0].name: a, parameters[1].name: b, chooser.name: operation.choices[spelling]}
    parameters.insert(rng.randint(0, 2), chooser)
    tool = schema(
        rng, rng.choice(CALCULATORS), rng.choice(("A calculator.", "Do arithmetic.", "Calculates.")), parameters
    )
    return tool, {one.name: values[one.name] for one in parameters}


def _with_expression(rng: random.Random, operation: Operation, a: int, b: int) -> tuple[dict[str, Any], dict[str, Any]]:
    parameter = Parameter(rng.choice(("expression", "expr", "input", "formula")), "string")
    about = rng.choice(("Evaluate an expression.", "A calculator."))
    tool = schema(rng, rng.choice(EXPRESSIONS), about, (parameter,))
    return tool, {parameter.name: f"{a} {operation.sign} {b}"}
