"""Functions that look something up: they take one word and return one value or two."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from recipes.mini import words
from recipes.mini.conversation import Answer, Call, phrase, phrasings
from recipes.mini.tasks.requests import Parameter, Request, output, schema, worded

__all__ = ["look_up"]

Draw = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A family of functions: `w` is the word looked up, `v` what is found, `second` a field that some also return."""

    family: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    keys: tuple[str, ...]
    word: Draw
    ask: tuple[str, ...]
    do: str
    value: Draw
    fields: tuple[str, ...]
    second: tuple[str, Draw]
    final: str


def _city(rng: random.Random) -> str:
    return words.pick(rng, words.CITIES, invented=0.3, capital=True)


def _item(rng: random.Random) -> str:
    return words.pick(rng, words.KNOWN_THINGS + words.RARE_THINGS, invented=0.3)


def _number(low: int, high: int) -> Draw:
    return lambda rng: str(rng.randint(low, high))


def _one_of(*choices: str) -> Draw:
    return lambda rng: rng.choice(choices)


LOOKUPS = (
    Lookup(
        family="weather",
        names=words.listed(
            "lookup_weather get_weather get_weather weather get_current_weather weather_report forecast"
        ),
        about=("Get the weather of a city.", "Current weather.", "Looks up the weather"),
        keys=words.listed("city city location place town where"),
        word=_city,
        ask=phrasings(
            """
            What is the weather in {w}? | What's the weather like in {w}? | How is the weather in {w}? |
            Tell me the weather in {w}. | Weather in {w}? | What is the weather like in {w} today? |
            I need the weather in {w}. | Check the weather in {w}. | What's the weather in {w}?
            """
        ),
        do="get the weather in {w}",
        value=_one_of("sunny", "rain", "cloudy", "snow", "windy", "fog", "clear", "storm", "light rain"),
        fields=words.listed("weather condition condition result sky description"),
        second=("temperature", _number(-9, 35)),
        final="The weather in {w}: {v}.",
    ),
    Lookup(
        family="time",
        names=words.listed("get_time current_time time_in clock what_time lookup_time local_time"),
        about=("Get the time in a city.", "Current local time.", "Tells the time"),
        keys=words.listed("city place location zone town"),
        word=_city,
        ask=phrasings(
            """
            What time is it in {w}? | Tell me the time in {w}. | What is the time in {w}? | Time in {w}? |
            What's the time in {w}? | Do you know what time it is in {w}? | I need the time in {w}. |
            Check the time in {w}.
            """
        ),
        do="get the time in {w}",
        value=lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        fields=words.listed("time clock result now"),
        second=("day", _one_of(*words.DAYS)),
        final="The time in {w}: {v}.",
    ),
    Lookup(
        family="price",
        names=words.listed("get_price price_of lookup_price item_price find_price price check_price"),
        about=("Get the price of an item.", "Price list.", "Looks up prices"),
        keys=words.listed("item product name article thing"),
        word=_item,
        ask=phrasings(
            """
            What is the price of the {w}? | How much does the {w} cost? | How much is the {w}? | Price of the {w}? |
            Tell me the price of the {w}. | What does the {w} cost? | I need the price of the {w}. |
            Check the price of the {w}.
            """
        ),
        do="get the price of the {w}",
        value=_number(1, 999),
        fields=words.listed("price cost amount result"),
        second=("currency", _one_of("EUR", "USD", "INR", "GBP")),
        final="The price of the {w}: {v}.",
    ),
    Lookup(
        family="search",
        names=words.listed("search_items search find_items stock count_items inventory search_stock"),
        about=("Search the stock.", "Counts items in stock.", "Search items"),
        keys=words.listed("query q item term text"),
        word=_item,
        ask=phrasings(
            """
            Search for {w}. | Search the stock for {w}. | Look for {w} in the stock. | Find {w} in the stock. |
            Is {w} in stock? | Do a search for {w}. | How many {w} are in stock? | Please search for {w}.
            """
        ),
        do="search for {w}",
        value=_number(0, 99),
        fields=words.listed("found count hits result"),
        second=("place", _one_of(*words.PLACES)),
        final="In stock for {w}: {v}.",
    ),
    Lookup(
        family="phone",
        names=words.listed("get_phone lookup_number phone_book find_phone phone_number contact directory"),
        about=("Find a phone number.", "Phone book.", "Looks up a person's number"),
        keys=words.listed("name person who contact first_name"),
        word=words.name,
        ask=phrasings(
            """
            What is the phone number of {w}? | Find the phone number of {w}. | What is {w}'s phone number? |
            Phone number of {w}? | Tell me the phone number of {w}. | Look up the phone number of {w}. |
            I need {w}'s phone number. | Which phone number has {w}?
            """
        ),
        do="find the phone number of {w}",
        value=_number(1000, 99999),
        fields=words.listed("phone number result"),
        second=("city", _city),
        final="The phone number of {w}: {v}.",
    ),
    Lookup(
        family="translate",
        names=words.listed("translate to_french dictionary translate_word translator lookup_word"),
        about=("Translate a word into French.", "English to French.", "French dictionary"),
        keys=words.listed("word text term english input"),
        word=words.spelling_word,
        ask=phrasings(
            """
            Translate {w} into French. | What is {w} in French? | How do you say {w} in French? | French for {w}? |
            Give me {w} in French. | Translate the word {w} to French. | What is the French word for {w}? |
            I need {w} in French.
            """
        ),
        do="translate {w} into French",
        value=lambda rng: words.invented_word(rng, 3, 7),
        fields=words.listed("translation french result word"),
        second=("gender", _one_of("f", "m")),
        final="{w} in French: {v}.",
    ),
)


def look_up(rng: random.Random) -> Request:
    """A look-up; one function in eight also takes an option that nobody asks for, one result in five has two fields."""
    family = rng.choice(LOOKUPS)
    name, key, word = rng.choice(family.names), rng.choice(family.keys), family.word(rng)
    optional: tuple[Parameter, ...] = ()
    if rng.random() < 0.12:
        choices = rng.choice((("short", "long"), ("metric", "imperial")))
        optional = (Parameter(rng.choice(("unit", "style", "mode")), "enum", choices),)
    tool = schema(rng, name, rng.choice(family.about), (Parameter(key, "string"),), optional)
    user = worded(rng, phrase(rng, family.ask, w=word), name, family.do.format(w=word))
    first = family.value(rng)
    fields: dict[str, object] = {rng.choice(family.fields): int(first) if first.isdecimal() else first}
    if rng.random() < 0.2:
        second, draw = family.second
        found = draw(rng)
        fields[second] = int(found) if found.lstrip("-").isdecimal() else found
        if rng.random() < 0.5:
            fields = dict(reversed(fields.items()))
    value = ", ".join(map(str, fields.values()))
    call = Call(name, {key: word}, output(rng, fields))
    final = family.final.format(w=word, v=value)
    return Request(family.family, tool, call, user, family.do.format(w=word), value, final, Answer("text", value))
