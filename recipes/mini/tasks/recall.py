"""Recall of facts given in the prompt: in the question, in an earlier turn or in the instructions.

The reasoning restates the one fact that matters, with the queried name right before the value, so that finding it is
continuing a sentence that already stands in the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .. import words
from ..conversation import Answer, Effort, Exchange, Message, Step, phrase

Draw = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact: the sentence, how a value is drawn, and how one asks from the name or from the value.

    Slots: `n` the name, `v` the value, `o` one object shared by all facts of the prompt.
    """

    fact: str
    value: Draw
    ask: tuple[str, ...]
    ask_back: tuple[str, ...] = ()
    handle: str = "{v}"
    shared: Draw | None = None


def _listed(known: tuple[str, ...], *, capital: bool = False, article: bool = False) -> Draw:
    def draw(rng: random.Random) -> str:
        word = words.pick(rng, known, capital=capital)
        return words.article(word) if article else word

    return draw


def _number(low: int, high: int) -> Draw:
    return lambda rng: str(rng.randint(low, high))


HAS = Relation(
    "{n} has the {v} {o}.", words.colour,
    ("Which {o} does {n} have?", "What {o} does {n} have?", "What colour is {n}'s {o}?", "What is the colour of {n}'s {o}?",
     "Which {o} is {n}'s?", "What color {o} does {n} have?", "Which {o} has {n} got?", "Tell me which {o} {n} has.",
     "What does {n} have?", "{n} has which {o}?", "Say which {o} {n} has.", "Which colour {o} does {n} have?"),
    ("Who has the {v} {o}?", "Which person has the {v} {o}?", "Who has got the {v} {o}?", "Whose is the {v} {o}?",
     "Tell me who has the {v} {o}.", "The {v} {o}: who has it?"),
    "{v} {o}", words.thing,
)  # fmt: skip
RELATIONS = (
    Relation(
        "{n} lives in {v}.", _listed(words.CITIES, capital=True),
        ("Where does {n} live?", "In which city does {n} live?", "Which city does {n} live in?", "What city does {n} live in?",
         "Where is {n}'s home?", "Tell me where {n} lives.", "What is {n}'s city?", "{n} lives where?"),
        ("Who lives in {v}?", "Which person lives in {v}?", "Tell me who lives in {v}.", "Who has a home in {v}?"),
    ),
    Relation(
        "{n} likes {v}.", _listed(words.FOODS),
        ("What does {n} like?", "What food does {n} like?", "Which food does {n} like?", "Tell me what {n} likes.",
         "What is it that {n} likes?", "{n} likes what?", "Say what {n} likes.", "Do you know what {n} likes?"),
        ("Who likes {v}?", "Which person likes {v}?", "Tell me who likes {v}.", "Who is it that likes {v}?"),
    ),
    Relation(
        "{n} is in room {v}.", _number(1, 99),
        ("Which room is {n} in?", "What room is {n} in?", "Where is {n}?", "In which room is {n}?", "In what room is {n}?",
         "Tell me the room of {n}.", "What is {n}'s room?", "What is the number of {n}'s room?"),
        ("Who is in room {v}?", "Which person is in room {v}?", "Tell me who is in room {v}.", "Room {v}: who is there?"),
        "room {v}",
    ),
    Relation(
        "{n} plays {v}.", _listed(words.GAMES),
        ("What does {n} play?", "Which game does {n} play?", "Tell me what {n} plays.", "What is it that {n} plays?",
         "{n} plays what?", "Say what {n} plays.", "Do you know what {n} plays?", "What can {n} play?"),
        ("Who plays {v}?", "Which person plays {v}?", "Tell me who plays {v}.", "Who is it that plays {v}?"),
    ),
    Relation(
        "{n} owns {v}.", _listed(words.ANIMALS, article=True),
        ("What does {n} own?", "Which animal does {n} own?", "What animal does {n} own?", "Tell me what {n} owns.",
         "What is {n}'s animal?", "What pet does {n} own?", "{n} owns what?", "Which pet does {n} own?"),
        ("Who owns {v}?", "Which person owns {v}?", "Tell me who owns {v}.", "Who is the owner of {v}?"),
    ),
    Relation(
        "{n}'s {o} is {v}.", words.colour,
        ("What colour is {n}'s {o}?", "What color is {n}'s {o}?", "Which colour is {n}'s {o}?", "What is the colour of {n}'s {o}?",
         "Which colour does {n}'s {o} have?", "Tell me the colour of {n}'s {o}.", "{n}'s {o} is which colour?",
         "What is the color of {n}'s {o}?"),
        ("Whose {o} is {v}?", "Who has a {v} {o}?", "Whose is the {v} {o}?", "Tell me whose {o} is {v}."),
        "{v} {o}", lambda rng: rng.choice(("car", "house", "bike", "door", "coat", words.thing(rng))),
    ),
    Relation(
        "{n} is {v}.", _listed(words.JOBS, article=True),
        ("What is {n}'s job?", "What does {n} do?", "What is the job of {n}?", "Which job does {n} have?", "What is {n}?",
         "Tell me {n}'s job.", "What job does {n} have?", "What does {n} do for a living?"),
        ("Who is {v}?", "Which person is {v}?", "Tell me who is {v}.", "Who works as {v}?"),
    ),
    Relation(
        "{n} is {v} years old.", _number(2, 99),
        ("How old is {n}?", "What is {n}'s age?", "What age is {n}?", "Tell me how old {n} is.", "What is the age of {n}?",
         "Do you know how old {n} is?", "{n} is how old?", "Say how old {n} is."),
        ("Who is {v} years old?", "Which person is {v} years old?", "Tell me who is {v} years old.", "Who is {v}?"),
    ),
    Relation(
        "{n}'s code is {v}.", _number(100, 9999),
        ("What is {n}'s code?", "What is the code of {n}?", "Which code does {n} have?", "Tell me {n}'s code.",
         "Give me {n}'s code.", "{n}'s code is what?", "What code does {n} have?", "Say {n}'s code."),
        ("Whose code is {v}?", "Who has the code {v}?", "Tell me whose code is {v}.", "Which person has the code {v}?"),
        "code {v}",
    ),
    Relation(
        "{n} comes on {v}.", _listed(words.DAYS),
        ("When does {n} come?", "On which day does {n} come?", "What day does {n} come?", "Which day does {n} come on?",
         "Tell me when {n} comes.", "{n} comes when?", "Say when {n} comes.", "Do you know when {n} comes?"),
        ("Who comes on {v}?", "Which person comes on {v}?", "Tell me who comes on {v}.", "Who is it that comes on {v}?"),
    ),
)  # fmt: skip
ABOUT_THINGS = (
    Relation(
        "The {n} is in the {v}.", _listed(words.PLACES),
        ("Where is the {n}?", "In which place is the {n}?", "Tell me where the {n} is.", "What is the place of the {n}?",
         "Where can I find the {n}?", "Do you know where the {n} is?", "Where did I put the {n}?", "Say where the {n} is."),
        ("What is in the {v}?", "Which thing is in the {v}?", "Tell me what is in the {v}.", "The {v}: what is in it?"),
    ),
    Relation(
        "The {n} is {v}.", words.colour,
        ("What colour is the {n}?", "What color is the {n}?", "What is the colour of the {n}?", "Which colour is the {n}?",
         "Tell me the colour of the {n}.", "Which colour does the {n} have?", "The {n} is which colour?", "Say the colour of the {n}."),
        ("What is {v}?", "Which thing is {v}?", "Tell me what is {v}.", "What thing is {v}?"),
    ),
    Relation(
        "The {n} costs {v}.", _number(1, 999),
        ("How much does the {n} cost?", "What does the {n} cost?", "What is the price of the {n}?", "How much is the {n}?",
         "Tell me the price of the {n}.", "What is the cost of the {n}?", "The {n} costs how much?", "Say what the {n} costs."),
        ("What costs {v}?", "Which thing costs {v}?", "Tell me what costs {v}.", "What has the price {v}?"),
    ),
)  # fmt: skip
DISTRACTIONS = (
    "The weather is fine.", "It is late.", "The shop is closed today.", "There is a lot of noise outside.", "Dinner is at seven.",
    "Everybody is here.", "The sun is out.", "The train was late.", "We are all happy.", "It is raining.",
)  # fmt: skip
OPENINGS = ("", "", "", "", "Remember this. ", "Here are some facts. ", "Facts: ", "Read this. ", "Please remember: ")
REMEMBER = ("", "", " Remember this.", " Please remember that.", " Keep this in mind.")


def recall(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """Two to `most` facts and a question about one of them."""
    things = rng.random() < 0.15
    relation = rng.choice(ABOUT_THINGS) if things else HAS if rng.random() < 0.4 else rng.choice(RELATIONS)
    count = rng.randint(2, most)
    subjects = _different(rng, words.thing, count) if things else words.names(rng, count)
    shared = relation.shared(rng) if relation.shared else ""
    values = _different(rng, relation.value, count, unlike=subjects)
    facts = [relation.fact.format(n=n, v=v, o=shared) for n, v in zip(subjects, values, strict=True)]
    asked = rng.randrange(count)
    backwards = rng.random() < 0.2
    sentences = list(facts)
    if not things and rng.random() < 0.12:
        sentences += _other_facts(rng, relation, subjects)
    if rng.random() < 0.12:
        sentences.append(rng.choice(DISTRACTIONS))
    rng.shuffle(sentences)
    n, v = subjects[asked], values[asked]
    question = phrase(rng, relation.ask_back if backwards else relation.ask, n=n, v=v, o=shared)
    handle = relation.handle.format(v=v, o=shared) if backwards else f"the {n}" if things else n
    target, rivals = (n, subjects) if backwards else (v, values)
    thinking = reasoning(effort, handle, facts[asked], target, backwards)
    key = "recall:" + "|".join(sorted(facts)) + f"?{facts[asked]}"
    answer = Answer("text", target, tuple(rival for rival in rivals if rival != target))
    other = (asked + 1) % count
    earlier = (phrase(rng, relation.ask, n=subjects[other], v=values[other], o=shared), facts[other])
    kind = "recall/backward" if backwards else "recall/forward"
    exchange = Exchange(kind, key, question, (Step(thinking, facts[asked]),), answer)
    return _placed(rng, exchange, sentences, earlier)


def reasoning(effort: Effort, handle: str, fact: str, target: str, backwards: bool) -> str:
    """Low `For Asha: red.`, medium the fact, high the search, the fact and the value."""
    if effort == "low":
        return f"For {handle}: {target}."
    restated = f"For {handle}: {fact}" if backwards and effort == "medium" else fact
    return restated if effort == "medium" else f"Find {handle}. {restated} So: {target}."


def _different(rng: random.Random, draw: Draw, count: int, unlike: list[str] | None = None) -> list[str]:
    found: list[str] = []
    for _ in range(200):
        value = draw(rng)
        if value not in found and value not in (unlike or ()):
            found.append(value)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} different values")


def _other_facts(rng: random.Random, relation: Relation, subjects: list[str]) -> list[str]:
    """One or two facts of another kind about the same people: the question still has one answer."""
    other = rng.choice([one for one in RELATIONS[:5] if one is not relation])
    chosen = rng.sample(subjects, min(len(subjects), 2))
    return [other.fact.format(n=n, v=v) for n, v in zip(chosen, _different(rng, other.value, len(chosen)), strict=True)]


def written(rng: random.Random, sentences: list[str]) -> str:
    """The sentences as running text, as lines, as a list, or joined by commas."""
    style = rng.random()
    if style < 0.68 or not all(sentence.endswith(".") for sentence in sentences):
        return " ".join(sentences)
    if style < 0.78:
        return "\n".join(sentences)
    if style < 0.86:
        return "\n".join(f"- {sentence}" for sentence in sentences)
    bare = [sentence[:-1] for sentence in sentences]
    bare = bare[:1] + [f"the{one[3:]}" if one.startswith("The ") else one for one in bare[1:]]
    return f"{', '.join(bare[:-1])} and {bare[-1]}."


def _placed(rng: random.Random, exchange: Exchange, sentences: list[str], earlier: tuple[str, str]) -> Exchange:
    """The facts before or after the question, in an earlier turn, or in the instructions.

    An earlier turn only states the facts, or also has the question `earlier[0]` with its answer `earlier[1]`.
    """
    facts, question, place = written(rng, sentences), exchange.user, rng.random()
    gap = "\n" if "\n" in facts else rng.choice((" ", " ", " ", "\n", "\n\n"))
    opened = f"{rng.choice(OPENINGS)}{facts}"
    if place < 0.62:
        return replace(exchange, user=f"{opened}{gap}{question}")
    if place < 0.68:
        return replace(exchange, user=f"{question}{'' if question[-1] in '.?' else ':'} {facts}")
    if place < 0.91:
        told, thinking, said = f"{opened}{rng.choice(REMEMBER)}", "Facts, no question.", "Noted."
        if place > 0.82:
            told, thinking, said = f"{opened}{gap}{earlier[0]}", earlier[1], earlier[1]
        before: tuple[Message, ...] = (
            {"role": "user", "content": told},
            {"role": "assistant", "thinking": thinking, "content": said},
        )
        return replace(exchange, before=before)
    return replace(exchange, system=opened)


def telling(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """Facts without a question: the answer is `Noted.`"""
    subjects = words.names(rng, rng.randint(1, most))
    relation = rng.choice((HAS, *RELATIONS))
    shared = relation.shared(rng) if relation.shared else ""
    values = _different(rng, relation.value, len(subjects), unlike=subjects)
    facts = [relation.fact.format(n=n, v=v, o=shared) for n, v in zip(subjects, values, strict=True)]
    told = f"{rng.choice(OPENINGS)}{written(rng, facts) if len(facts) > 1 else facts[0]}{rng.choice(REMEMBER)}"
    key = "telling:" + "|".join(sorted(facts))
    return Exchange("recall/telling", key, told, (Step("Facts, no question.", "Noted."),), Answer("exact", "Noted."))
