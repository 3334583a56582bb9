"""Copying, spelling, reversing and counting the letters of a word.

In the reasoning a word is spelled with hyphens, or with a number after each letter, so that every letter is an id of
its own, whatever ids the word itself had in the question.
"""

from __future__ import annotations

import random

from recipes.mini import words
from recipes.mini.conversation import Answer, Effort, Exchange, answered, phrase, phrasings

COPY = phrasings(
    """
    Repeat the word {w}. | Say {w}. | Repeat after me: {w} | Copy this word: {w} | Write {w}. | Please say {w}. |
    Repeat: {w} | Echo {w}. | Type the word {w}. | Say the word {w}.
    """
)
SPELL = phrasings(
    """
    Spell {w}. | Spell the word {w}. | How do you spell {w}? | Can you spell {w}? | Spell out {w}. |
    Spell {w} letter by letter. | Write {w} letter by letter. | What are the letters of {w}?
    """
)
REVERSE = phrasings(
    """
    Reverse the word {w}. | Reverse {w}. | Write {w} backwards. | Spell {w} backwards. | What is {w} backwards? |
    What is {w} reversed? | Turn the word {w} around. | Say {w} backwards. | Reverse the letters of {w}. |
    Can you reverse {w}? | Give me {w} in reverse. | Write the word {w} in reverse order.
    """
)
LENGTH = phrasings(
    """
    How many letters are in {w}? | How many letters does {w} have? | Count the letters in {w}. |
    How long is the word {w}? | How many letters are in the word {w}? | Count the letters of the word {w}. |
    What is the length of {w}? | How many letters has the word {w}? | Number of letters in {w}? | Letters in {w}?
    """
)
OCCURRENCES = phrasings(
    """
    How many times does the letter {x} occur in {w}? | How many {x}'s are in {w}? |
    How often is {x} in the word {w}? | Count the letter {x} in {w}. | How many times does {x} appear in {w}? |
    How many {x} are there in {w}? | How many times is the letter {x} in the word {w}? | Count the {x}'s in {w}. |
    How many letters {x} are in {w}?
    """
)
AT = phrasings(
    """
    What is the {p} letter of {w}? | What is the {p} letter in {w}? | Which letter is {p} in {w}? |
    Give me the {p} letter of {w}. | Tell me the {p} letter of the word {w}. | {w}: what is the {p} letter? |
    Which is the {p} letter of the word {w}? | Name the {p} letter of {w}.
    """
)
UPPER = phrasings(
    """
    Write {w} in capital letters. | Put {w} in upper case. | Convert {w} to uppercase. | Uppercase {w}. |
    Write {w} in upper case. | Make {w} all caps. | Capitalise every letter of {w}. | Turn {w} into capitals.
    """
)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def spelled(word: str) -> str:
    """`s-t-o-n-e`."""
    return "-".join(word)


def letters(rng: random.Random, effort: Effort, longest: int) -> Exchange:
    """One task about a word of at most `longest` letters."""
    operation = rng.choices(tuple(_OPERATIONS), (1, 1, 3, 2, 2, 2, 1))[0]
    word = words.spelling_word(rng, longest)
    if operation not in ("count", "upper") and rng.random() < 0.25:
        name = words.name(rng)
        word = name if name.isascii() and name.isalpha() and len(name) <= longest else word
    return _OPERATIONS[operation](rng, effort, word)


def _ask(rng: random.Random, templates: tuple[str, ...], word: str, **slots: object) -> str:
    quote = rng.choice(("", "", "", '"', "'"))
    return phrase(rng, templates, w=f"{quote}{word}{quote}", **slots)


def _done(operation: str, word: str, user: str, thinking: str, final: str, answer: Answer) -> Exchange:
    key = f"{operation}:{word}" if len(word) > 2 else ""
    return answered(f"letters/{operation.partition(':')[0]}", key, user, thinking, final, answer)


def _copy(rng: random.Random, effort: Effort, word: str) -> Exchange:
    thinking = {"low": f"{word}.", "medium": f"Repeat {word}.", "high": f"Repeat {word}: {spelled(word)}."}[effort]
    return _done("copy", word, _ask(rng, COPY, word), thinking, word, Answer("exact", word))


def _spell(rng: random.Random, effort: Effort, word: str) -> Exchange:
    thinking = {"low": f"{word}.", "medium": f"{word}: {len(word)} letters.", "high": f"{_numbered(word)}."}[effort]
    return _done("spell", word, _ask(rng, SPELL, word), thinking, spelled(word), Answer("exact", spelled(word)))


def _reverse(rng: random.Random, effort: Effort, word: str) -> Exchange:
    turned = word[::-1]
    thinking = f"{word}."
    if effort != "low":
        thinking = f"{spelled(word)}; {spelled(turned)}."
    if effort == "high":
        thinking += f" Check: {turned}; {spelled(word)}."
    return _done("reverse", word, _ask(rng, REVERSE, word), thinking, turned, Answer("exact", turned))


def _numbered(word: str) -> str:
    return ",".join(f"{letter}{place}" for place, letter in enumerate(word, 1))


def _length(rng: random.Random, effort: Effort, word: str) -> Exchange:
    count = len(word)
    thinking = f"{word}."
    if effort != "low":
        thinking = f"{_numbered(word)}; {count}."
    if effort == "high":
        thinking = f"{spelled(word)}; {thinking}"
    final = f"The word {word} has {count} letter{'s' if count > 1 else ''}."
    return _done("length", word, _ask(rng, LENGTH, word), thinking, final, Answer("number", str(count)))


def _count(rng: random.Random, effort: Effort, word: str) -> Exchange:
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    if len(word) > 2 and rng.random() < 0.5:
        letter = max(word, key=word.count)
    total = word.count(letter)
    thinking = f"{letter}: {word}."
    if effort != "low":
        seen = ",".join(f"{one}{word[:place].count(letter)}" for place, one in enumerate(word, 1))
        thinking = f"{letter}: {seen}; {total}."
    if effort == "high":
        thinking = f"{spelled(word)}; {thinking} Check: {'-'.join(letter * total) if total else 'none'}; {total}."
    times = f"{total} time{'' if total == 1 else 's'}"
    final = f"The letter {letter} occurs {times} in {word}."
    user = _ask(rng, OCCURRENCES, word, x=letter)
    return _done(f"count:{letter}", word, user, thinking, final, Answer("text", times))


def _at(rng: random.Random, effort: Effort, word: str) -> Exchange:
    place = rng.choice((0, 0, -1, -1, rng.randrange(min(len(word), 6))))
    ordinal = "last" if place < 0 else ORDINALS[place]
    letter = word[place]
    thinking = f"{word}."
    if effort != "low":
        body = spelled(word) if place < 0 or ordinal == "first" else _numbered(word)
        thinking = f"{body}; {ordinal}: {letter}."
    if effort == "high":
        thinking = f"{_numbered(word)}; {thinking}"
    final = f"The {ordinal} letter of {word} is {letter}."
    return _done(f"at:{ordinal}", word, _ask(rng, AT, word, p=ordinal), thinking, final, Answer("exact", final))


def _upper(rng: random.Random, effort: Effort, word: str) -> Exchange:
    thinking = f"{word}."
    if effort != "low":
        thinking = f"{spelled(word)}; {spelled(word.upper())}."
    if effort == "high":
        thinking += " Check: " + ",".join(f"{one}{one.upper()}" for one in word) + "."
    return _done("upper", word, _ask(rng, UPPER, word), thinking, word.upper(), Answer("exact", word.upper()))


_OPERATIONS = {
    "copy": _copy,
    "spell": _spell,
    "reverse": _reverse,
    "length": _length,
    "count": _count,
    "at": _at,
    "upper": _upper,
}
