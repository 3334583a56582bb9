"""Addition and subtraction of numbers of one to three digits.

The reasoning restates both numbers at equal width, then goes through the columns from the right. A column of an
addition is `7+8+0=15` (digit, digit, carry in; carry out, digit), one of a subtraction `5-8-0=7-10` (digit, digit,
borrow in; digit, ten if borrowed): both are true equations, of fixed width, and each needs one look at two digits.
"""

from __future__ import annotations

import random

from recipes.mini.conversation import Answer, Effort, Exchange, answered, phrase, phrasings

ADD = phrasings(
    """
    What is {a} + {b}? | Add {a} and {b}. | {a} + {b} = ? | {a}+{b} | Calculate {a} plus {b}. | What's {a} plus {b}? |
    Sum of {a} and {b}? | {a} + {b} | What is the sum of {a} and {b}? | How much is {a} + {b}? | Compute {a} + {b}. |
    {a} plus {b}? | What do you get if you add {a} and {b}? | {a} + {b} = | Add {b} to {a}. | Work out {a} + {b}. |
    Solve {a} + {b}. | What does {a} + {b} make? | {a}+{b}=? | Can you add {a} and {b}? | How much is {a} plus {b}? |
    What is {a} plus {b}? | What is {a}+{b}? | Find the sum of {a} and {b}.
    """
)
SUBTRACT = phrasings(
    """
    What is {a} - {b}? | Subtract {b} from {a}. | {a} - {b} = ? | {a}-{b} | Calculate {a} minus {b}. |
    What's {a} minus {b}? | {a} minus {b}? | {a} - {b} | How much is {a} - {b}? | Compute {a} - {b}. |
    Take {b} away from {a}. | {a} - {b} = | Work out {a} - {b}. | Solve {a} - {b}. | {a}-{b}=? |
    Can you subtract {b} from {a}? | How much is {a} minus {b}? | What is {a} minus {b}? | What is {a}-{b}? |
    What is left if you take {b} from {a}?
    """
)
NUMBER_ONLY = (" Answer with just the number.", " Only the number.", " Give only the number.", " Just the number.")


def number(rng: random.Random, digits: int) -> int:
    """A number of one to `digits` digits. Longer ones, which are harder and more, come more often."""
    length = rng.choices(range(1, digits + 1), [2**extra for extra in range(digits)])[0]
    return rng.randint(0, 9) if length == 1 else rng.randrange(10 ** (length - 1), 10**length)


def problem_key(a: int, b: int) -> str:
    """The same key for a + b, b + a and the two subtractions that undo them, so a check never shows a held-out problem.

    Problems of single digits have no key: there are too few of them to hold any out.
    """
    low, high = sorted((a, b))
    return f"sum:{low}:{high}" if high > 9 else ""


def add_columns(a: int, b: int) -> str:
    """`037+058: 7+8+0=15,3+5+1=09,0+0+0=00; 0095 = 95`."""
    width = max(len(str(a)), len(str(b)))
    left, right = str(a).zfill(width), str(b).zfill(width)
    carry, columns, digits = 0, [], ""
    for x, y in zip(reversed(left), reversed(right), strict=True):
        total = int(x) + int(y) + carry
        columns.append(f"{x}+{y}+{carry}={total:02d}")
        carry, digits = total // 10, f"{total % 10}{digits}"
    return f"{left}+{right}: {','.join(columns)}; {carry}{digits} = {a + b}"


def subtract_columns(a: int, b: int) -> str:
    """`95-58: 9>5; 5-8-0=7-10,9-5-1=3-00; 37 = 37`; where a < b the numbers change places and the sign turns."""
    width = max(len(str(a)), len(str(b)))
    left, right = str(a).zfill(width), str(b).zfill(width)
    text = f"{left}-{right}: {compare_digits(left, right)}; "
    if a < b:
        left, right = right, left
        text += f"-({left}-{right}); "
    borrow, columns, digits = 0, [], ""
    for x, y in zip(reversed(left), reversed(right), strict=True):
        rest = int(x) - int(y) - borrow
        digit, borrowed = rest % 10, rest < 0
        columns.append(f"{x}-{y}-{borrow}={digit}-{10 * borrowed:02d}")
        borrow, digits = int(borrowed), f"{digit}{digits}"
    return f"{text}{','.join(columns)}; {digits} = {a - b}"


def compare_digits(left: str, right: str) -> str:
    """Two numbers of equal width compared digit by digit up to the first difference: `0=0,3<5`."""
    steps: list[str] = []
    for x, y in zip(left, right, strict=True):
        steps.append(f"{x}{'=' if x == y else '<' if x < y else '>'}{y}")
        if x != y:
            break
    return ",".join(steps)


def arithmetic(rng: random.Random, effort: Effort, digits: int) -> Exchange:
    """One addition or subtraction of numbers with at most `digits` digits."""
    a, b = number(rng, digits), number(rng, digits)
    sign = rng.choice("+-")
    if sign == "-" and a < b and rng.random() < 0.6:
        a, b = b, a
    result = a + b if sign == "+" else a - b
    user = phrase(rng, ADD if sign == "+" else SUBTRACT, a=a, b=b)
    short = rng.random() < 0.06
    if short:
        user += rng.choice(NUMBER_ONLY)
    final = str(result) if short else f"{a} {sign} {b} = {result}."
    key = problem_key(a, b) if sign == "+" else problem_key(abs(result), min(a, b))
    kind = f"arithmetic/{'add' if sign == '+' else 'sub'}{max(len(str(a)), len(str(b)))}"
    return answered(kind, key, user, reasoning(a, sign, b, effort), final, Answer("number", str(result)))


def reasoning(a: int, sign: str, b: int, effort: Effort) -> str:
    """Low: the problem. Medium: the columns. High: the columns, and the inverse operation as a check."""
    if effort == "low":
        return f"{a} {sign} {b}."
    columns = add_columns(a, b) if sign == "+" else subtract_columns(a, b)
    if effort == "medium":
        return f"{columns}."
    if sign == "+":
        return f"{columns}. Check: {subtract_columns(a + b, b)}. So {a + b}."
    return f"{columns}. Check: {add_columns(abs(a - b), min(a, b))}. So {a - b}."
