"""Text to tokens and back: tokenizer, harmony renderer, parser of what the model says. Never imports torch."""

from ossature.chat.events import Delta, Event, Kind, Malformed, MessageEnd, MessageStart, written
from ossature.chat.grammar import Constraint, Grammars
from ossature.chat.harmony import Rendered, render, render_training
from ossature.chat.parser import Parser
from ossature.chat.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "Constraint",
    "Delta",
    "Event",
    "Grammars",
    "Kind",
    "Malformed",
    "MessageEnd",
    "MessageStart",
    "Parser",
    "Rendered",
    "Tokenizer",
    "load_tokenizer",
    "render",
    "render_training",
    "written",
]
