"""Pure copying: the circuits that recall is made of, on text without meaning."""

from __future__ import annotations

import random

from recipes.mini import words
from recipes.mini.conversation import Answer, Effort, Exchange, answered, phrase, phrasings

REPEAT = phrasings(
    """
    Repeat this exactly: {t} | Repeat after me: {t} | Copy this text: {t} | Say exactly this: {t} | Echo this: {t} |
    Write this again: {t} | Repeat: {t} | Please repeat: {t}
    """
)
LOOK_UP = phrasings(
    """
    {l}. What is {k}? | {l}. What stands for {k}? | {l}. Which value has {k}? | {l}. Give me the value of {k}. |
    {l}
What is {k}? | {l}. {k}? | Look up {k}: {l}. | {l}. Find {k}.
    """
)
NEXT = phrasings(
    """
    {l}. Which word comes after {k}? | {l}. What comes after {k}? | {l}. Which word follows {k}? |
    In the list {l}, what comes after {k}? | {l}. What is next after {k}? | {l}. Name the word after {k}. |
    In {l}, which word follows {k}? | List: {l}. What follows {k}?
    """
)


def induction(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """Repeat a text (40 %), look up a pair (45 %), or name the next word of a list (15 %)."""
    kind = rng.random()
    if kind < 0.40:
        return _repeat(rng, effort, most)
    return _look_up(rng, effort, most) if kind < 0.85 else _next(rng, effort, most)


def _word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        return words.random_letters(rng, 2, 6)
    if kind < 0.45:
        return words.invented_word(rng, 3, 7)
    if kind < 0.60:
        return words.name(rng)
    if kind < 0.70:
        return str(rng.randint(0, 999))
    return rng.choice((words.colour, words.thing))(rng)


def _words(rng: random.Random, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        one = _word(rng)
        if one not in found:
            found.append(one)
    return found


def _repeat(rng: random.Random, effort: Effort, most: int) -> Exchange:
    text = rng.choice((" ", " ", ", ", "-")).join(_words(rng, rng.randint(2, most + 2)))
    count = f"{text}." if effort == "low" else f"Repeat: {text}."
    thinking = count if effort != "high" else f"{count} Check: {text}."
    return answered(
        "induction/repeat", f"repeat:{text}", phrase(rng, REPEAT, t=text), thinking, text, Answer("exact", text)
    )


def _look_up(rng: random.Random, effort: Effort, most: int) -> Exchange:
    count = rng.randint(2, most + 1)
    drawn = _words(rng, 2 * count)
    keys, values = drawn[:count], drawn[count:]
    joint = rng.choice((": ", ": ", " = ", " is ", " -> "))
    listed = rng.choice((", ", ", ", "; ", "\n")).join(
        f"{key}{joint}{value}" for key, value in zip(keys, values, strict=True)
    )
    asked = rng.randrange(count)
    key, value = keys[asked], values[asked]
    user = phrase(rng, LOOK_UP, l=listed, k=key)
    thinking = f"{key}{joint}{value}."
    if effort == "high":
        thinking = f"Find {key}. {thinking} So: {value}."
    answer = Answer("text", value, tuple(other for other in values if other != value))
    return answered("induction/look_up", f"look:{listed}?{key}", user, thinking, f"{value}.", answer)


def _next(rng: random.Random, effort: Effort, most: int) -> Exchange:
    listed = _words(rng, rng.randint(3, most + 2))
    place = rng.randrange(len(listed) - 1)
    key, value = listed[place], listed[place + 1]
    joint = rng.choice((" ", ", "))
    user = phrase(rng, NEXT, l=joint.join(listed), k=key)
    thinking = f"{key}{joint}{value}."
    if effort == "high":
        thinking = f"Find {key}. {thinking} So: {value}."
    answer = Answer("text", value, tuple(other for other in listed if other not in (key, value)))
    return answered("induction/next", f"next:{joint.join(listed)}?{key}", user, thinking, f"{value}.", answer)
