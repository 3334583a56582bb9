"""The kinds of facts that a prompt may give, and how one asks for them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from recipes.mini import words
from recipes.mini.conversation import phrasings

__all__ = ["ABOUT_ME", "ABOUT_PEOPLE", "ABOUT_THINGS", "HARMLESS", "HAS", "Relation"]

Draw = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact: the sentence, how a value is drawn, and how one asks from the name or from the value.

    Slots of the templates: `n` the name, `v` the value, `o` one object shared by all facts of the prompt. `handle` is
    what a question from the value says of it; `told` is the answer where it is not the fact itself.
    """

    fact: str
    value: Draw
    ask: tuple[str, ...]
    ask_back: tuple[str, ...] = ()
    handle: str = "{v}"
    shared: Draw | None = None
    told: str = ""


def _listed(known: tuple[str, ...], *, capital: bool = False, article: bool = False) -> Draw:
    def draw(rng: random.Random) -> str:
        word = words.pick(rng, known, capital=capital)
        return words.article(word) if article else word

    return draw


def _number(low: int, high: int) -> Draw:
    return lambda rng: str(rng.randint(low, high))


HAS = Relation(
    fact="{n} has the {v} {o}.",
    value=words.colour,
    ask=phrasings(
        """
        Which {o} does {n} have? | What {o} does {n} have? | What colour is {n}'s {o}? |
        What is the colour of {n}'s {o}? | Which {o} is {n}'s? | What color {o} does {n} have? |
        Which {o} has {n} got? | Tell me which {o} {n} has. | What does {n} have? | {n} has which {o}? |
        Say which {o} {n} has. | Which colour {o} does {n} have? | Which {o} belongs to {n}? |
        Do you know which {o} {n} has?
        """
    ),
    ask_back=phrasings(
        """
        Who has the {v} {o}? | Which person has the {v} {o}? | Who has got the {v} {o}? | Whose is the {v} {o}? |
        Tell me who has the {v} {o}. | The {v} {o}: who has it? | Who has the {v} {o}? | Who owns the {v} {o}?
        """
    ),
    handle="{v} {o}",
    shared=words.thing,
)
LIVES = Relation(
    fact="{n} lives in {v}.",
    value=_listed(words.CITIES, capital=True),
    ask=phrasings(
        """
        Where does {n} live? | In which city does {n} live? | Which city does {n} live in? |
        What city does {n} live in? | Where is {n}'s home? | Tell me where {n} lives. | What is {n}'s city? |
        {n} lives where? | Do you know where {n} lives? | What is the home of {n}?
        """
    ),
    ask_back=phrasings(
        "Who lives in {v}? | Which person lives in {v}? | Tell me who lives in {v}. | Who has a home in {v}?"
    ),
)
LIKES = Relation(
    fact="{n} likes {v}.",
    value=_listed(words.FOODS),
    ask=phrasings(
        """
        What does {n} like? | What food does {n} like? | Which food does {n} like? | Tell me what {n} likes. |
        What is it that {n} likes? | {n} likes what? | Say what {n} likes. | Do you know what {n} likes?
        """
    ),
    ask_back=phrasings("Who likes {v}? | Which person likes {v}? | Tell me who likes {v}. | Who is it that likes {v}?"),
)
COMES = Relation(
    fact="{n} comes on {v}.",
    value=_listed(words.DAYS),
    ask=phrasings(
        """
        When does {n} come? | On which day does {n} come? | What day does {n} come? | Which day does {n} come on? |
        Tell me when {n} comes. | {n} comes when? | Say when {n} comes. | Do you know when {n} comes?
        """
    ),
    ask_back=phrasings(
        "Who comes on {v}? | Which person comes on {v}? | Tell me who comes on {v}. | Who is it that comes on {v}?"
    ),
)
HARMLESS = (LIKES, COMES)
"""Facts that may stand beside any other fact about the same person without answering a question about it."""
ABOUT_PEOPLE = (
    LIVES,
    LIKES,
    COMES,
    Relation(
        fact="{n} is in room {v}.",
        value=_number(1, 99),
        ask=phrasings(
            """
            Which room is {n} in? | What room is {n} in? | Where is {n}? | In which room is {n}? |
            In what room is {n}? | Tell me the room of {n}. | What is {n}'s room? | What is the number of {n}'s room?
            """
        ),
        ask_back=phrasings(
            "Who is in room {v}? | Which person is in room {v}? | Tell me who is in room {v}. | Room {v}: who is there?"
        ),
        handle="room {v}",
    ),
    Relation(
        fact="{n} plays {v}.",
        value=_listed(words.GAMES),
        ask=phrasings(
            """
            What does {n} play? | Which game does {n} play? | Tell me what {n} plays. | What is it that {n} plays? |
            {n} plays what? | Say what {n} plays. | Do you know what {n} plays? | What can {n} play?
            """
        ),
        ask_back=phrasings(
            "Who plays {v}? | Which person plays {v}? | Tell me who plays {v}. | Who is it that plays {v}?"
        ),
    ),
    Relation(
        fact="{n} owns {v}.",
        value=_listed(words.ANIMALS, article=True),
        ask=phrasings(
            """
            What does {n} own? | Which animal does {n} own? | What animal does {n} own? | Tell me what {n} owns. |
            What is {n}'s animal? | What pet does {n} own? | {n} owns what? | Which pet does {n} own?
            """
        ),
        ask_back=phrasings("Who owns {v}? | Which person owns {v}? | Tell me who owns {v}. | Who is it that owns {v}?"),
    ),
    Relation(
        fact="{n}'s {o} is {v}.",
        value=words.colour,
        ask=phrasings(
            """
            What colour is {n}'s {o}? | What color is {n}'s {o}? | Which colour is {n}'s {o}? |
            What is the colour of {n}'s {o}? | Which colour does {n}'s {o} have? | Tell me the colour of {n}'s {o}. |
            {n}'s {o} is which colour? | What is the color of {n}'s {o}?
            """
        ),
        ask_back=phrasings(
            "Whose {o} is {v}? | Who has a {v} {o}? | Whose is the {v} {o}? | Tell me whose {o} is {v}."
        ),
        handle="{v} {o}",
        shared=lambda rng: rng.choice(("car", "house", "bike", "door", "coat", words.thing(rng))),
    ),
    Relation(
        fact="{n} is {v}.",
        value=_listed(words.JOBS, article=True),
        ask=phrasings(
            """
            What is {n}'s job? | What does {n} do? | What is the job of {n}? | Which job does {n} have? | What is {n}? |
            Tell me {n}'s job. | What job does {n} have? | What does {n} do for a living?
            """
        ),
        ask_back=phrasings("Who is {v}? | Which person is {v}? | Tell me who is {v}. | Who works as {v}?"),
    ),
    Relation(
        fact="{n} is {v} years old.",
        value=_number(2, 99),
        ask=phrasings(
            """
            How old is {n}? | What is {n}'s age? | What age is {n}? | Tell me how old {n} is. |
            What is the age of {n}? | Do you know how old {n} is? | {n} is how old? | Say how old {n} is.
            """
        ),
        ask_back=phrasings(
            "Who is {v} years old? | Which person is {v} years old? | Tell me who is {v} years old. | Who is {v}?"
        ),
    ),
    Relation(
        fact="{n}'s code is {v}.",
        value=_number(100, 9999),
        ask=phrasings(
            """
            What is {n}'s code? | What is the code of {n}? | Which code does {n} have? | Tell me {n}'s code. |
            Give me {n}'s code. | {n}'s code is what? | What code does {n} have? | Say {n}'s code.
            """
        ),
        ask_back=phrasings(
            "Whose code is {v}? | Who has the code {v}? | Tell me whose code is {v}. | Which person has the code {v}?"
        ),
        handle="code {v}",
    ),
)
ABOUT_THINGS = (
    Relation(
        fact="The {n} is in the {v}.",
        value=_listed(words.PLACES),
        ask=phrasings(
            """
            Where is the {n}? | In which place is the {n}? | Tell me where the {n} is. | What is the place of the {n}? |
            Where can I find the {n}? | Do you know where the {n} is? | Where did I put the {n}? | Say where the {n} is.
            """
        ),
        ask_back=phrasings(
            "What is in the {v}? | Which thing is in the {v}? | Tell me what is in the {v}. | The {v}: what is in it?"
        ),
        handle="the {v}",
    ),
    Relation(
        fact="The {n} is {v}.",
        value=words.colour,
        ask=phrasings(
            """
            What colour is the {n}? | What color is the {n}? | What is the colour of the {n}? |
            Which colour is the {n}? | Tell me the colour of the {n}. | Which colour does the {n} have? |
            The {n} is which colour? | Say the colour of the {n}.
            """
        ),
        ask_back=phrasings("What is {v}? | Which thing is {v}? | Tell me what is {v}. | What thing is {v}?"),
    ),
    Relation(
        fact="The {n} costs {v}.",
        value=_number(1, 999),
        ask=phrasings(
            """
            How much does the {n} cost? | What does the {n} cost? | What is the price of the {n}? |
            How much is the {n}? | Tell me the price of the {n}. | What is the cost of the {n}? |
            The {n} costs how much? | Say what the {n} costs.
            """
        ),
        ask_back=phrasings(
            "What costs {v}? | Which thing costs {v}? | Tell me what costs {v}. | What has the price {v}?"
        ),
    ),
)
ABOUT_ME = (
    Relation(
        fact="My name is {v}.",
        value=words.name,
        ask=phrasings(
            "What is my name? | What's my name? | Tell me my name. | Do you know my name? | Who am I? | Say my name."
        ),
        told="Your name is {v}.",
    ),
    Relation(
        fact="I live in {v}.",
        value=LIVES.value,
        ask=phrasings(
            "Where do I live? | In which city do I live? | Tell me where I live. | Do you know where I live?"
        ),
        told="You live in {v}.",
    ),
    Relation(
        fact="I like {v}.",
        value=LIKES.value,
        ask=phrasings("What do I like? | Tell me what I like. | Do you know what I like? | Which food do I like?"),
        told="You like {v}.",
    ),
    Relation(
        fact="My favourite colour is {v}.",
        value=words.colour,
        ask=phrasings(
            """
            What is my favourite colour? | Which colour is my favourite? |
            Tell me my favourite colour. | What's my favourite colour?
            """
        ),
        told="Your favourite colour is {v}.",
    ),
    Relation(
        fact="I am {v} years old.",
        value=_number(2, 99),
        ask=phrasings("How old am I? | What is my age? | Tell me how old I am. | Do you know how old I am?"),
        told="You are {v} years old.",
    ),
    Relation(
        fact="My code is {v}.",
        value=_number(100, 9999),
        ask=phrasings(
            "What is my code? | Tell me my code. | Do you know my code? | Which code do I have? | Give me my code."
        ),
        told="Your code is {v}.",
    ),
    Relation(
        fact="My dog is called {v}.",
        value=words.name,
        ask=phrasings(
            "What is my dog called? | What is the name of my dog? | Tell me the name of my dog. | How is my dog called?"
        ),
        told="Your dog is called {v}.",
    ),
)
