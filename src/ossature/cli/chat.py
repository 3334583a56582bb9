"""`ossature chat`: a conversation of many turns."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import typer

from ossature.cli import options
from ossature.errors import OssatureError, notice

if TYPE_CHECKING:
    from ossature.session import ReplyStream

__all__ = ["Conversation", "command"]

EFFORTS = ("low", "medium", "high")

HELP = """\
/effort low|medium|high   how much the model reasons
/system TEXT              instructions above the chat; without TEXT, none
/reset                    forget the conversation
/help                     this list
/exit                     leave; so does Ctrl-D

Ctrl-C stops an answer. A line that begins with / is a command; a space before it makes it a question."""


def command(
    model: options.Model = "mini",
    effort: options.Effort = "medium",
    system: options.System = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    max_new_tokens: options.MaxNewTokens = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "bfloat16",
    numerics: options.Numerics = "exact",
    weights: options.Weights = "auto",
) -> None:
    """Talk to a model. Ctrl-C stops an answer and keeps the chat; Ctrl-D or /exit leaves; /help lists the commands."""
    session = options.open_session(model, device=device, dtype=dtype, numerics=numerics, weights=weights)
    answer = partial(
        session.stream,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    session.tokenizer  # noqa: B018  # a model without one is refused now, not after the first question
    conversation = Conversation(answer, effort=effort, system=system)
    if sys.stdin.isatty():
        typer.echo("/help lists the commands, Ctrl-D leaves.", err=True)
    for line in _lines():
        if not conversation.take(line):
            break


def _lines() -> Iterator[str]:
    """Lines from the keyboard with a prompt and line editing, or from a pipe without."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    import readline  # noqa: F401  # gives input() its line editing

    while True:
        try:
            yield input("> " if sys.stdout.isatty() else "")
        except EOFError:
            typer.echo(err=True)
            return
        except KeyboardInterrupt:
            typer.echo("\nCtrl-D or /exit leaves the chat.", err=True)


@dataclass
class Conversation:
    """The turns so far and what holds for the next one.

    answer  begins the answer to messages: `Session.stream`, with its sampling options set
    """

    answer: "Callable[..., ReplyStream]"
    effort: str = "medium"
    system: str | None = None
    turns: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    def take(self, line: str) -> bool:
        """Answer one line, or obey it where it begins with a slash. False when it asks to leave."""
        if line.startswith("/"):
            name, _, argument = line.partition(" ")
            return self._obey(name, argument.strip())
        if line.strip():
            self._ask(line.strip())
        return True

    def _obey(self, name: str, argument: str) -> bool:
        match name, argument:
            case "/exit", "":
                return False
            case "/help", "":
                typer.echo(HELP, err=True)
            case "/reset", "":
                self.turns.clear()
                notice("the conversation is forgotten")
            case "/system", _:
                self.system = argument or None
                notice("the instructions are set" if argument else "there are no instructions now")
            case "/effort", _ if argument in EFFORTS:
                self.effort = argument
                notice(f"effort is {argument}")
            case "/effort", _:
                notice(f"error: effort is low, medium or high, not {argument!r}; it stays {self.effort}")
            case _:
                notice(f"error: there is no command {' '.join([name, argument]).strip()!r}; /help lists them")
        return True

    def _ask(self, question: str) -> None:
        """Print the answer; a turn without one is taken back, so that question and answer keep alternating."""
        from ossature.cli.answer import print_stream

        head: list[dict[str, object]] = [] if self.system is None else [{"role": "system", "content": self.system}]
        asked: dict[str, object] = {"role": "user", "content": question}
        try:
            stream = self.answer([*head, *self.turns, asked], reasoning_effort=self.effort)
        except OssatureError as error:
            if not sys.stdin.isatty():
                raise
            notice(f"error: {error}")
            return
        try:
            print_stream(stream, answer=sys.stdout, reasoning=sys.stderr)
        except KeyboardInterrupt:
            notice("stopped")
        reply = stream.reply
        if reply.final:
            self.turns += [asked, reply.message()]
