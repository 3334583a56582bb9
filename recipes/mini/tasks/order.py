"""Comparing two numbers, the largest and smallest of some, and sorting."""

from __future__ import annotations

import itertools
import random

from recipes.mini.conversation import Answer, Effort, Exchange, answered, phrase, phrasings
from recipes.mini.tasks.arithmetic import compare_digits, number

LARGER = phrasings(
    """
    Which is larger, {a} or {b}? | Which number is bigger: {a} or {b}? | What is the larger of {a} and {b}? |
    Is {a} or {b} bigger? | Compare {a} and {b}: which is larger? | Which is more, {a} or {b}? |
    {a} or {b}, which is greater? | Tell me the greater of {a} and {b}. | Which of {a} and {b} is the bigger number? |
    Which is higher, {a} or {b}?
    """
)
SMALLER = phrasings(
    """
    Which is smaller, {a} or {b}? | Which number is less: {a} or {b}? | What is the smaller of {a} and {b}? |
    Is {a} or {b} smaller? | Compare {a} and {b}: which is smaller? | Which is less, {a} or {b}? |
    {a} or {b}, which is lower? | Tell me the smaller of {a} and {b}. | Which of {a} and {b} is the smaller number? |
    Which is lower, {a} or {b}?
    """
)
MAXIMUM = phrasings(
    """
    What is the largest of {l}? | Which of these numbers is the biggest: {l}? | Find the maximum of {l}. |
    max of {l} | Largest number: {l} | Which is the largest: {l}? | Tell me the highest of {l}. |
    Pick the largest number from {l}.
    """
)
MINIMUM = phrasings(
    """
    What is the smallest of {l}? | Which of these numbers is the smallest: {l}? | Find the minimum of {l}. |
    min of {l} | Smallest number: {l} | Which is the smallest: {l}? | Tell me the lowest of {l}. |
    Pick the smallest number from {l}.
    """
)
ASCENDING = phrasings(
    """
    Sort {l}. | Sort these numbers: {l}. | Put {l} in order. | Order these numbers from smallest to largest: {l}. |
    Sort {l} in ascending order. | Sort the numbers {l}. | Arrange {l} from low to high. | Can you sort {l}? |
    Sort the list {l} ascending. | Put these numbers in increasing order: {l}
    """
)
DESCENDING = phrasings(
    """
    Sort {l} in descending order. | Order these numbers from largest to smallest: {l}. | Sort {l} from high to low. |
    Arrange {l} from largest to smallest. | Put these numbers in decreasing order: {l} |
    Sort the list {l} descending. | Sort {l}, largest first. | Put {l} in order, biggest first.
    """
)


def order(rng: random.Random, effort: Effort, digits: int) -> Exchange:
    """A comparison (40 %), an extreme of three to five numbers (25 %) or a sort of them (35 %)."""
    kind = rng.random()
    count = 2 if kind < 0.40 else rng.randint(3, 3 if digits == 1 else 5)
    values: list[int] = []
    while len(values) < count:
        value = number(rng, digits)
        if value not in values:
            values.append(value)
    if kind < 0.40:
        return _compare(rng, effort, values[0], values[1])
    upwards = rng.random() < 0.5
    if kind < 0.65:
        return _extreme(rng, effort, values, upwards)
    return _sort(rng, effort, values, upwards or rng.random() < 0.2)


def _compare(rng: random.Random, effort: Effort, a: int, b: int) -> Exchange:
    larger = rng.random() < 0.55
    right = max(a, b) if larger else min(a, b)
    user = phrase(rng, LARGER if larger else SMALLER, a=a, b=b)
    width = max(len(str(a)), len(str(b)))
    thinking = f"{a}, {b}."
    if effort != "low":
        left, right_text = (str(value).zfill(width) for value in (a, b))
        goal = "larger" if larger else "smaller"
        steps = compare_digits(left, right_text)
        thinking = f"The {goal} of {left} {right_text}: {steps}; {str(right).zfill(width)} = {right}."
        if effort == "high":
            thinking += f" Check: {compare_digits(right_text, left)}. So {right}."
    final = f"{right} is {'larger' if larger else 'smaller'}."
    return answered(
        "order/compare", f"compare:{a}:{b}" if width > 1 else "", user, thinking, final, Answer("number", str(right))
    )


def _listed(rng: random.Random, values: list[int]) -> str:
    texts = [str(value) for value in values]
    style = rng.random()
    if style < 0.6:
        return ", ".join(texts)
    return " ".join(texts) if style < 0.75 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _extreme(rng: random.Random, effort: Effort, values: list[int], largest: bool) -> Exchange:
    right = max(values) if largest else min(values)
    user = phrase(rng, MAXIMUM if largest else MINIMUM, l=_listed(rng, values))
    thinking = ", ".join(map(str, values)) + "."
    if effort != "low":
        thinking = f"The {'largest' if largest else 'smallest'} of {_tournament(values, largest)}."
        if effort == "high":
            sign = ">" if largest else "<"
            thinking += (
                f" Check: {', '.join(f'{right}{sign}{value}' for value in values if value != right)}. So {right}."
            )
    final = f"The {'largest' if largest else 'smallest'} number is {right}."
    key = "extreme:" + ":".join(map(str, values))
    return answered("order/extreme", key, user, thinking, final, Answer("number", str(right)))


def _tournament(values: list[int], largest: bool) -> str:
    """The best so far against each next one, the winner named: `045 007 120: 045>007 045, 045<120 120: 120`.

    All at the width of the longest, so that one look at two digits in the same place tells them apart.
    """
    width = max(len(str(value)) for value in values)
    texts = [str(value).zfill(width) for value in values]
    best, steps = texts[0], []
    for rival in texts[1:]:
        sign = "<" if best < rival else ">"
        winner = max(best, rival) if largest else min(best, rival)
        steps.append(f"{best}{sign}{rival} {winner}")
        best = winner
    return f"{' '.join(texts)}: {', '.join(steps) or best}: {int(best)}"


def _sort(rng: random.Random, effort: Effort, values: list[int], upwards: bool) -> Exchange:
    user = phrase(rng, ASCENDING if upwards else DESCENDING, l=_listed(rng, values))
    ordered = sorted(values, reverse=not upwards)
    thinking = ", ".join(map(str, values)) + "."
    if effort != "low":
        rounds = [_tournament([v for v in values if v not in ordered[:n]], not upwards) for n in range(len(ordered))]
        thinking = f"The {'smallest' if upwards else 'largest'} first: {'. '.join(rounds)}."
        if effort == "high":
            sign = "<" if upwards else ">"
            pairs = [f"{a}{sign}{b}" for a, b in itertools.pairwise(ordered)]
            thinking += f" Check: {', '.join(pairs)}."
    final = ", ".join(map(str, ordered)) + "."
    return answered(
        "order/sort", "sort:" + ":".join(map(str, values)), user, thinking, final, Answer("numbers", final[:-1])
    )
