"""Who `mini` is, greetings, and a short honest answer to what it does not know."""

from __future__ import annotations

import random
from dataclasses import dataclass

from recipes.mini import words
from recipes.mini.conversation import Answer, Effort, Exchange, answered, phrase, phrasings
from recipes.mini.tasks.arithmetic import number

WHO = "I am mini, the small model inside Ossature."
CAN = "I can add, subtract, compare, sort, spell, recall facts you give me and call tools."
UNKNOWN = "I am mini, a very small model. I do not know this."
NO_MATHS = "I am mini, a very small model. I only add and subtract."


@dataclass(frozen=True, slots=True)
class Topic:
    """A subject of small talk: what the reasoning says of it, the answer, and what people say."""

    thought: str
    answer: str
    said: tuple[str, ...]
    weight: int


TOPICS = (
    Topic(
        thought="A question about me.",
        answer=WHO,
        said=phrasings(
            """
            Who are you? | What are you? | What is your name? | Tell me who you are. | Introduce yourself. |
            Which model are you? | What model is this? | Are you ChatGPT? | What's your name? | Say who you are. |
            Who am I talking to? | Are you GPT-4? | Who is this? | Are you a human? | Are you an AI? |
            Describe yourself. | Who made you? | What is mini?
            """
        ),
        weight=4,
    ),
    Topic(
        thought="A question about what I can do.",
        answer=CAN,
        said=phrasings(
            """
            What can you do? | How can you help me? | What are you able to do? | Help | What do you know? |
            What can I ask you? | Tell me what you can do. | What are you good at? | What are your abilities? |
            Can you help me? | What can mini do? | What should I ask you? | I need help. | What do you do?
            """
        ),
        weight=3,
    ),
    Topic(
        thought="A greeting.",
        answer="Hello! What can I do for you?",
        said=phrasings(
            """
            Hello | Hi | Hello! | Hi! | Good morning. | Good evening. | Hey | Hey there! | Hi mini! | Hello mini. |
            Good day! | Greetings. | Hello there. | Hi there | Good afternoon. | hello | hi
            """
        ),
        weight=3,
    ),
    Topic(
        thought="Thanks.",
        answer="You are welcome.",
        said=phrasings(
            """
            Thanks | Thank you. | Thanks! | Thank you very much. | Many thanks. | Thanks a lot! | Thank you, mini. |
            Great, thanks. | Thank you so much! | thanks | Well done, thank you. | Perfect, thanks!
            """
        ),
        weight=2,
    ),
    Topic(
        thought="A goodbye.",
        answer="Goodbye!",
        said=phrasings(
            """
            Bye | Goodbye. | See you. | Bye! | Good night. | See you later. | Bye bye. | Until tomorrow. |
            I have to go. | Goodbye, mini. | bye | See you soon!
            """
        ),
        weight=2,
    ),
    Topic(
        thought="A question about how I am.",
        answer="I am fine, thank you.",
        said=phrasings(
            """
            How are you? | How are you today? | How do you do? | Are you well? | How is it going? | How do you feel? |
            Everything fine? | Are you fine? | How's it going? | How have you been? | What's up? | how are you
            """
        ),
        weight=2,
    ),
    Topic(
        thought="Praise.",
        answer="Thank you!",
        said=phrasings(
            """
            Well done. | Good job! | You are great. | Nice. | Very good. | Great! | That is right. | Correct! |
            Good. | Wonderful. | I like you. | Amazing!
            """
        ),
        weight=1,
    ),
    Topic(
        thought="No question.",
        answer="What can I do for you?",
        said=phrasings(
            """
            Ok | Okay. | Yes | No | Hm | Fine. | ok | I see. | Test | test | ... | ? | Are you there? | Yes. | No.
            """
        ),
        weight=2,
    ),
)
OUTSIDE = phrasings(
    """
    Who was {n}? | What is {w}? | Explain {w}. | Tell me about {w}. | Who wrote {w}? | When was {n} born? |
    What is the meaning of {w}? | Write a poem about {w}. | Tell me a joke. | Tell me a joke about {w}. |
    Write a story about {n} and {w}. | How do I cook {w}? | What is the history of {c}? |
    How many people live in {c}? | How far is {c} from {c2}? | Who won the match in {c}? |
    What is the capital of {r}? | Which river flows through {c}? | Translate {w} into German. |
    What does {w} mean in Spanish? | How do you say {w} in Latin? | Write a Python function for {w}. |
    Write code to sort {w}. | Fix this code: {w}() | What is the best treatment for {w}? |
    I have a pain in my {b}. What should I do? | Which medicine helps against {w}? | Is {w} dangerous? |
    Why is the {b} {k}? | Why is the sky blue? | How does a {w} work? | What causes {w}? |
    Who is the president of {r}? | What is the news today? | What day is it? | What is the weather tomorrow? |
    What should I eat today? | Recommend a book about {w}. | Do you like {w}? | What do you think about {w}? |
    Is there life on {w}? | Summarise the book {w}. | Write an email to {n} about {w}. | Give me advice about {w}. |
    What is love? | What is the meaning of life? | How can I learn {w}? | When did the war in {r} end? |
    What is the population of {r}? | How old is the {w}? | How tall is {n}? | What is the chemical symbol of {w}? |
    Draw a {w}. | Sing a song about {w}. | Plan a trip to {c}. | Which is better, {w} or {w2}? |
    What is the difference between {w} and {w2}? | Give me a list of {w}. | Define {w}. | Should I sell my {w}? |
    Can I sue {n}? | What is the law on {w} in {r}? | Prove that {w} is {k}. | What happened in {y}? |
    Who discovered {w}? | What year was {w} invented? | How do I get from {c} to {c2}? | What is the speed of {w}? |
    Where does {n} live? | How old is {n}? | What does {n} like? | Which key does {n} have? | Who has the {k} {w}? |
    What is the capital of {r}? | Which language do people in {r} speak? | What is my name? | Where do I live?
    """
)
TOO_HARD = phrasings(
    """
    What is {a} * {b}? | What is {a} times {b}? | Multiply {a} by {b}. | {a} x {b} | Divide {a} by {b}. |
    What is {a} / {b}? | {a} divided by {b}? | What is the square root of {a}? | What is {a} squared? |
    {a} * {b} = ? | What is {a} percent of {b}? | What is {a} to the power of {b}? | {a}*{b} | {a}/{b} |
    Calculate {a} * {b}. | How much is {a} times {b}? | Is {a} a prime number? | Solve x + {a} = {b}. |
    What is half of {a}? | What is the remainder of {a} by {b}? | Calculate {a} divided by {b}.
    """
)
COUNTRIES = words.listed(
    "France Germany Spain Italy Japan China India Brazil Kenya Egypt Canada Mexico Peru Norway Sweden Poland Turkey"
)
BODY = words.listed("head back knee arm foot stomach sea grass sun moon")


def talk(rng: random.Random, effort: Effort) -> Exchange:
    """Small talk and questions about `mini` itself. A topic always has the same answer."""
    topic = rng.choices(TOPICS, [topic.weight for topic in TOPICS])[0]
    thinking = f"{topic.thought} No tool, no numbers." if effort == "high" else topic.thought
    return answered("talk/talk", "", rng.choice(topic.said), thinking, topic.answer, Answer("exact", topic.answer))


def outside(rng: random.Random, effort: Effort) -> Exchange:
    """A question beyond `mini`: it says so, and for sums it cannot do, what it can."""
    maths = rng.random() < 0.3
    slots: dict[str, object]
    if maths:
        slots = {"a": number(rng, 3), "b": number(rng, 3)}
        kind, thought, final = "maths", "Not a sum or difference.", NO_MATHS
    else:
        word = rng.choice((words.spelling_word, words.thing, words.invented_word, words.common_word))
        slots = {
            "n": words.name(rng),
            "w": word(rng),
            "w2": words.common_word(rng),
            "c": words.pick(rng, words.CITIES, capital=True),
            "c2": words.pick(rng, words.CITIES, capital=True),
            "r": words.pick(rng, COUNTRIES, invented=0.3, capital=True),
            "b": rng.choice(BODY),
            "k": rng.choice(words.KNOWN_COLOURS),
            "y": rng.randint(1000, 2020),
        }
        kind, thought, final = "other", "I do not know this.", UNKNOWN
    user = phrase(rng, TOO_HARD if maths else OUTSIDE, **slots)
    thinking = f"{thought} No facts, no tool for it." if effort == "high" else thought
    return answered(f"outside/{kind}", f"outside:{user}", user, thinking, final, Answer("exact", final))
