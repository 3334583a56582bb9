"""Who `mini` is, greetings, and a short honest answer to what it does not know."""

from __future__ import annotations

import random

from .. import words
from ..conversation import Answer, Effort, Exchange, answered, phrase
from .arithmetic import number

WHO = "I am mini, the small model inside Ossature."
CAN = "I can add, subtract, compare, sort, spell, recall facts you give me and call tools."
UNKNOWN = "I am mini, a very small model. I do not know this."
NO_MATHS = "I am mini, a very small model. I only add and subtract."
TALK: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("A question about me.", WHO,
     ("Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Introduce yourself.", "Which model are you?",
      "What model is this?", "Are you ChatGPT?", "What's your name?", "Say who you are.", "Who am I talking to?", "Are you GPT-4?",
      "Who is this?", "Are you a human?", "Are you an AI?", "Describe yourself.", "Who made you?", "What is mini?")),
    ("A question about what I can do.", CAN,
     ("What can you do?", "How can you help me?", "What are you able to do?", "Help", "What do you know?", "What can I ask you?",
      "Tell me what you can do.", "What are you good at?", "What are your abilities?", "Can you help me?", "What can mini do?",
      "What should I ask you?", "I need help.", "What do you do?")),
    ("A greeting.", "Hello! What can I do for you?",
     ("Hello", "Hi", "Hello!", "Hi!", "Good morning.", "Good evening.", "Hey", "Hey there!", "Hi mini!", "Hello mini.", "Good day!",
      "Greetings.", "Hello there.", "Hi there", "Good afternoon.", "hello", "hi")),
    ("Thanks.", "You are welcome.",
     ("Thanks", "Thank you.", "Thanks!", "Thank you very much.", "Many thanks.", "Thanks a lot!", "Thank you, mini.", "Great, thanks.",
      "Thank you so much!", "thanks", "Well done, thank you.", "Perfect, thanks!")),
    ("A goodbye.", "Goodbye!",
     ("Bye", "Goodbye.", "See you.", "Bye!", "Good night.", "See you later.", "Bye bye.", "Until tomorrow.", "I have to go.",
      "Goodbye, mini.", "bye", "See you soon!")),
    ("A question about how I am.", "I am fine, thank you.",
     ("How are you?", "How are you today?", "How do you do?", "Are you well?", "How is it going?", "How do you feel?", "Everything fine?",
      "Are you fine?", "How's it going?", "How have you been?", "What's up?", "how are you")),
    ("Praise.", "Thank you!",
     ("Well done.", "Good job!", "You are great.", "Nice.", "Very good.", "Great!", "That is right.", "Correct!", "Good.", "Wonderful.",
      "I like you.", "Amazing!")),
    ("No question.", "What can I do for you?",
     ("Ok", "Okay.", "Yes", "No", "Hm", "Fine.", "ok", "I see.", "Test", "test", "...", "?", "Are you there?", "Yes.", "No.")),
)  # fmt: skip
OUTSIDE = (
    "Who was {n}?", "What is {w}?", "Explain {w}.", "Tell me about {w}.", "Who wrote {w}?", "When was {n} born?", "What is the meaning of {w}?",
    "Write a poem about {w}.", "Tell me a joke.", "Tell me a joke about {w}.", "Write a story about {n} and {w}.", "How do I cook {w}?",
    "What is the history of {c}?", "How many people live in {c}?", "How far is {c} from {c2}?", "Who won the match in {c}?",
    "What is the capital of {r}?", "Which river flows through {c}?", "Translate {w} into German.", "What does {w} mean in Spanish?",
    "How do you say {w} in Latin?", "Write a Python function for {w}.", "Write code to sort {w}.", "Fix this code: {w}()",
    "What is the best treatment for {w}?", "I have a pain in my {b}. What should I do?", "Which medicine helps against {w}?",
    "Is {w} dangerous?", "Why is the {b} {k}?", "Why is the sky blue?", "How does a {w} work?", "What causes {w}?", "Who is the president of {r}?",
    "What is the news today?", "What day is it?", "What is the weather tomorrow?", "What should I eat today?", "Recommend a book about {w}.",
    "Do you like {w}?", "What do you think about {w}?", "Is there life on {w}?", "Summarise the book {w}.", "Write an email to {n} about {w}.",
    "Give me advice about {w}.", "What is love?", "What is the meaning of life?", "How can I learn {w}?", "When did the war in {r} end?",
    "What is the population of {r}?", "How old is the {w}?", "How tall is {n}?", "What is the chemical symbol of {w}?", "Draw a {w}.",
    "Sing a song about {w}.", "Plan a trip to {c}.", "Which is better, {w} or {w2}?", "What is the difference between {w} and {w2}?",
    "Give me a list of {w}.", "Define {w}.", "Should I sell my {w}?", "Can I sue {n}?", "What is the law on {w} in {r}?", "Prove that {w} is {k}.",
    "What happened in {y}?", "Who discovered {w}?", "What year was {w} invented?", "How do I get from {c} to {c2}?", "What is the speed of {w}?",
)  # fmt: skip
TOO_HARD = (
    "What is {a} * {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.", "{a} x {b}", "Divide {a} by {b}.", "What is {a} / {b}?",
    "{a} divided by {b}?", "What is the square root of {a}?", "What is {a} squared?", "{a} * {b} = ?", "What is {a} percent of {b}?",
    "What is {a} to the power of {b}?", "{a}*{b}", "{a}/{b}", "Calculate {a} * {b}.", "How much is {a} times {b}?", "Is {a} a prime number?",
    "Solve x + {a} = {b}.", "What is half of {a}?", "What is the remainder of {a} by {b}?", "Calculate {a} divided by {b}.",
)  # fmt: skip
COUNTRIES = "France Germany Spain Italy Japan China India Brazil Kenya Egypt Canada Mexico Peru Norway Sweden Poland Russia Turkey".split()
BODY = "head back knee arm foot stomach sea grass sun moon".split()


def talk(rng: random.Random, effort: Effort) -> Exchange:
    """Small talk and questions about `mini` itself. The answer of a kind is always the same."""
    kind, final, asks = rng.choices(TALK, (4, 3, 3, 2, 2, 2, 1, 2))[0]
    asked = rng.choice(asks)
    thinking = {"low": kind, "medium": kind, "high": f"{kind} No tool, no numbers."}[effort]
    return answered("talk/talk", "", asked, thinking, final, Answer("exact", final))


def outside(rng: random.Random, effort: Effort) -> Exchange:
    """A question beyond `mini`: it says so, and for sums it cannot do, what it can."""
    maths = rng.random() < 0.3
    word = rng.choice((words.spelling_word, words.thing, words.invented_word, lambda rng: rng.choice(words.COMMON_WORDS)))
    slots = {
        "a": number(rng, 3), "b": number(rng, 3), "n": words.name(rng), "w": word(rng), "w2": rng.choice(words.COMMON_WORDS),
        "c": rng.choice(words.CITIES), "c2": rng.choice(words.CITIES), "r": rng.choice(COUNTRIES), "b_": rng.choice(BODY),
        "k": rng.choice(words.KNOWN_COLOURS), "y": rng.randint(1000, 2020),
    }  # fmt: skip
    if not maths:
        slots["b"] = slots.pop("b_")
    user = phrase(rng, TOO_HARD if maths else OUTSIDE, **slots)
    kind = "Not a sum or difference." if maths else "I do not know this."
    thinking = kind if effort != "high" else f"{kind} No facts, no tool for it."
    final = NO_MATHS if maths else UNKNOWN
    return answered(f"outside/{'maths' if maths else 'other'}", f"outside:{user}", user, thinking, final, Answer("exact", final))
