"""Recall of facts given in the prompt: in the question, in an earlier turn or in the instructions.

The reasoning restates the one fact that matters, with the queried name right before the value, so that finding it is
continuing a sentence that already stands in the prompt.
"""

from __future__ import annotations

import random
from dataclasses import replace

from recipes.mini import words
from recipes.mini.conversation import Answer, Effort, Exchange, Message, answered, phrase, phrasings
from recipes.mini.tasks.relations import ABOUT_ME, ABOUT_PEOPLE, ABOUT_THINGS, HARMLESS, HAS, Draw, Relation

__all__ = ["recall", "telling"]

DISTRACTIONS = phrasings(
    """
    The weather is fine. | It is late. | The shop is closed today. | There is a lot of noise outside. |
    Dinner is at seven. | Everybody is here. | The sun is out. | The train was late. | We are all happy. |
    It is raining.
    """
)
OPENINGS = ("", "", "", "", "Remember this. ", "Here are some facts. ", "Facts: ", "Read this. ", "Please remember: ")
REMEMBER = ("", "", " Remember this.", " Please remember that.", " Keep this in mind.")


def recall(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """Two to `most` facts and a question about one of them; in one sample of twenty-five facts about the user."""
    if rng.random() < 0.04:
        return _about_me(rng, effort)
    things = rng.random() < 0.15
    relation = rng.choice(ABOUT_THINGS) if things else HAS if rng.random() < 0.4 else rng.choice(ABOUT_PEOPLE)
    count = rng.randint(2, most)
    subjects = _different(rng, words.thing, count) if things else words.names(rng, count)
    if not things and rng.random() < 0.05:
        subjects = [name.lower() for name in subjects]
    values = _different(rng, relation.value, count, unlike=subjects)
    shared = _shared(rng, relation, (*subjects, *values))
    facts = [relation.fact.format(n=n, v=v, o=shared) for n, v in zip(subjects, values, strict=True)]
    sentences = list(facts)
    if not things and rng.random() < 0.12:
        sentences += _other_facts(rng, relation, subjects)
    if rng.random() < 0.12:
        sentences.append(rng.choice(DISTRACTIONS))
    rng.shuffle(sentences)
    asked, other = rng.sample(range(count), 2)
    backwards = rng.random() < 0.35
    n, v = subjects[asked], values[asked]
    question = phrase(rng, relation.ask_back if backwards else relation.ask, n=n, v=v, o=shared)
    handle = relation.handle.format(v=v, o=shared) if backwards else f"the {n}" if things else n
    target, rivals = (n, subjects) if backwards else (v, values)
    thinking = reasoning(effort, handle, facts[asked], target, backwards)
    answer = Answer("text", target, tuple(rival for rival in rivals if rival != target))
    key = "recall:" + "|".join(sorted(facts)) + f"?{facts[asked]}"
    exchange = answered(f"recall/{'back' if backwards else 'for'}ward", key, question, thinking, facts[asked], answer)
    earlier = (phrase(rng, relation.ask, n=subjects[other], v=values[other], o=shared), facts[other])
    return _placed(rng, exchange, sentences, earlier)


def reasoning(effort: Effort, handle: str, fact: str, target: str, backwards: bool) -> str:
    """Low `For Asha: red.`, medium the fact, high the search, the fact and the value."""
    if effort == "low":
        return f"For {handle}: {target}."
    if effort == "high":
        return f"Find {handle}. {fact} So: {target}."
    return f"For {handle}: {fact}" if backwards else fact


def _different(rng: random.Random, draw: Draw, count: int, unlike: list[str] | None = None) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        value = draw(rng)
        if value not in found and value not in (unlike or ()):
            found.append(value)
    return found


def _shared(rng: random.Random, relation: Relation, unlike: tuple[str, ...]) -> str:
    """The object of all facts, another word than any name or value."""
    return _different(rng, relation.shared, 1, unlike=list(unlike))[0] if relation.shared else ""


def _other_facts(rng: random.Random, relation: Relation, subjects: list[str]) -> list[str]:
    """One or two facts of another kind about the same people: the question still has one answer."""
    other = rng.choice([one for one in HARMLESS if one is not relation])
    chosen = rng.sample(subjects, min(len(subjects), 2))
    values = _different(rng, other.value, len(chosen), unlike=subjects)
    return [other.fact.format(n=n, v=v) for n, v in zip(chosen, values, strict=True)]


def written(rng: random.Random, sentences: list[str]) -> str:
    """The sentences as running text, as lines, as a list, or joined by commas."""
    style = rng.random()
    if style < 0.68 or len(sentences) == 1:
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
    if place < 0.82:
        return replace(exchange, before=_noted(f"{opened}{rng.choice(REMEMBER)}"))
    if place < 0.91:
        return replace(exchange, before=_turn(f"{opened}{gap}{earlier[0]}", earlier[1], earlier[1]))
    return replace(exchange, system=opened)


def _turn(user: str, thinking: str, final: str) -> tuple[Message, ...]:
    return {"role": "user", "content": user}, {"role": "assistant", "thinking": thinking, "content": final}


def _noted(facts: str) -> tuple[Message, ...]:
    return _turn(facts, "Facts, no question.", "Noted.")


def telling(rng: random.Random, effort: Effort, most: int) -> Exchange:
    """Facts without a question: the answer is `Noted.`, at every effort."""
    if rng.random() < 0.2:
        facts = [one.fact.format(v=one.value(rng)) for one in rng.sample(ABOUT_ME, rng.randint(1, 2))]
    else:
        relation = rng.choice((HAS, *ABOUT_PEOPLE))
        subjects = words.names(rng, rng.randint(1, most))
        values = _different(rng, relation.value, len(subjects), unlike=subjects)
        shared = _shared(rng, relation, (*subjects, *values))
        facts = [relation.fact.format(n=n, v=v, o=shared) for n, v in zip(subjects, values, strict=True)]
    told = f"{rng.choice(OPENINGS)}{written(rng, facts)}{rng.choice(REMEMBER)}"
    thinking = "Facts, no question." if effort != "high" else "Facts, no question. No tool."
    return answered(
        "recall/telling", "telling:" + "|".join(sorted(facts)), told, thinking, "Noted.", Answer("exact", "Noted.")
    )


def _about_me(rng: random.Random, effort: Effort) -> Exchange:
    """One to three facts that the user tells about themself, asked back in the same or in the next turn."""
    relations = rng.sample(ABOUT_ME, rng.randint(1, 3))
    values = [one.value(rng) for one in relations]
    facts = [one.fact.format(v=value) for one, value in zip(relations, values, strict=True)]
    relation, value, fact = relations[0], values[0], facts[0]
    question = phrase(rng, relation.ask)
    handle = fact.partition(f" {value}")[0]
    handle = handle[0].lower() + handle[1:] if handle.startswith("My") else handle
    final = relation.told.format(v=value)
    thinking = reasoning(effort, handle, fact, value, backwards=False)
    key = "recall:" + "|".join(sorted(facts)) + f"?{fact}"
    exchange = answered("recall/me", key, question, thinking, final, Answer("text", final[:-1]))
    rng.shuffle(facts)
    told = " ".join(facts)
    if rng.random() < 0.5:
        return replace(exchange, user=f"{rng.choice(OPENINGS)}{told} {question}")
    return replace(exchange, before=_noted(f"{rng.choice(OPENINGS)}{told}{rng.choice(REMEMBER)}"))
