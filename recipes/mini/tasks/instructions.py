"""Instructions of the system message that change how an answer is written."""

from __future__ import annotations

import random
from dataclasses import replace

from recipes.mini.conversation import Answer, Exchange, phrasings

IDLE = phrasings(
    """
    You are a helpful assistant. | Be helpful. | Answer the user's questions. | You are a friendly assistant. |
    Be brief. | Keep your answers short. | You help people. | Answer correctly. | Be polite. |
    You are an assistant in a shop. | Answer in English. | Think carefully. | Use the tools if needed. |
    You are mini. | Do your best.
    """
)
UPPER = phrasings(
    """
    Answer in upper case. | Write your answers in capital letters. | Use only capital letters. |
    Reply in upper case. | ANSWER IN UPPER CASE. | Always answer in upper case. | Shout. | Answer in capitals.
    """
)
END = phrasings(
    """
    End with the word {w}. | End every answer with the word {w}. | Always end with {w}. | Finish with the word {w}. |
    The last word of your answer must be {w}. | End your answer with {w}. | Close every answer with {w}.
    """
)
START = phrasings(
    """
    Start with the word {w}. | Start every answer with the word {w}. | Begin with the word {w}. |
    Always begin with {w}. | The first word of your answer must be {w}. | Start your answer with {w}. |
    Begin every answer with {w}.
    """
)
CLOSING = ("over", "over", "done", "thanks", "end", "stop", "bye", "please", "ok")
OPENING = ("Answer", "Well", "So", "Sir", "Captain", "Ok", "Right", "Now")


def obeyed(rng: random.Random, exchange: Exchange) -> Exchange:
    """The exchange under an instruction that its final answer obeys. The reasoning ends by naming the instruction."""
    last = exchange.steps[-1]
    kind = rng.random()
    if kind < 0.3:
        system, rule, final = rng.choice(UPPER), "Upper case.", last.final.upper()
    elif kind < 0.65:
        word = rng.choice(CLOSING)
        system, rule, final = rng.choice(END).format(w=word), f"End: {word}.", f"{last.final} {word}"
    else:
        word = rng.choice(OPENING)
        system, rule, final = rng.choice(START).format(w=word), f"Start: {word}.", f"{word} {last.final}"
    step = replace(last, thinking=f"{last.thinking} {rule}", final=final)
    answer = Answer("exact", final)
    task = f"instructions/{exchange.task.partition('/')[0]}"
    return replace(exchange, task=task, system=system, steps=(*exchange.steps[:-1], step), answer=answer)
