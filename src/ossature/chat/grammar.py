"""What the model may say in one turn, as a grammar over ids: channels in order, tools by name, JSON by its schema.

The whole turn is one grammar, control tokens included, so that nothing has to be switched on in the middle: reasoning
is free, then comes a call of an offered tool, or the final message. llguidance says which ids may come next.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import llguidance
import numpy as np
from numpy.typing import NDArray

from ossature.chat import fields
from ossature.chat.tokenizer import Tokenizer
from ossature.chat.tools import FunctionTool, read_tools
from ossature.errors import ConfigError, MessageError

__all__ = ["Constraint", "Grammars"]

_OBJECT: Mapping[str, object] = {"type": "object"}
_NOTHING: Mapping[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
# A model may space its JSON, but not fill its turn with spaces.
_SPACING: Mapping[str, object] = {"whitespace_pattern": r"[ \n]{0,16}"}
# What a grammar may cost: a schema that is larger or more ambiguous is refused before anything is computed.
MAX_GRAMMAR_BYTES = 256 << 10
_LIMITS = llguidance.LLParserLimits(max_grammar_size=500_000, initial_lexer_fuel=1_000_000, step_lexer_fuel=200_000)


class Constraint:
    """One turn as far as it has come. Raises ConfigError where the grammar gives up, and never goes on after that."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((vocab_size + 31) // 32, dtype=np.uint32)
        self._vocab_size = vocab_size

    def allowed(self) -> NDArray[np.bool_]:
        """(vocab_size,): True for each id that may come next. After the end of the turn nothing may."""
        if self._matcher.is_stopped() and not self._matcher.is_error():
            return np.zeros(self._vocab_size, dtype=np.bool_)
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        return np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=self._vocab_size).view(np.bool_)

    def take(self, id_: int) -> None:
        """Go on with an id that was allowed."""
        self._matcher.consume_token(id_)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConfigError(f"the answer cannot be held to its grammar any further: {self._matcher.get_error()}")


class Grammars:
    """Makes the constraints of one tokenizer's turns; what they share is made once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises ConfigError for a tokenizer without harmony's control tokens."""
        self.tokenizer = tokenizer
        self._control = tokenizer.control

    @cached_property
    def _wrapped(self) -> llguidance.LLTokenizer:
        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Vocabulary(self.tokenizer)))

    def turn(
        self,
        *,
        tools: Sequence[Mapping[str, object]] = (),
        tool_choice: object = "auto",
        response_format: Mapping[str, object] | None = None,
        reasoning_tokens: int | None = None,
    ) -> Constraint | None:
        """The constraint of a turn that continues <|start|>assistant; None where everything is allowed.

        tools             OpenAI function tools; arguments of a strict one follow its schema, of others are an object
        tool_choice       "auto", "none", "required", or {"type": "function", "function": {"name": …}}
        response_format   OpenAI's: the final message is JSON of that schema
        reasoning_tokens  ids that a message of reasoning may have, at most

        Raises MessageError for what is not well formed, ConfigError for a schema that no grammar can be made of.
        """
        offered = read_tools(tools)
        allowed, must_call = _choice(tool_choice, offered)
        schema = _schema(response_format)
        if not offered and schema is None and reasoning_tokens is None:
            return None
        rules = self._rules(allowed, must_call=must_call, schema=schema, reasoning_tokens=reasoning_tokens)
        grammar = "\n".join(rules)
        if len(grammar.encode()) > MAX_GRAMMAR_BYTES:
            raise ConfigError(
                f"the schemas of this request make a grammar of {len(grammar.encode())} bytes; {MAX_GRAMMAR_BYTES} are"
                " the limit. Offer fewer tools or a smaller schema."
            )
        matcher = llguidance.LLMatcher(
            self._wrapped, llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0, limits=_LIMITS
        )
        if matcher.is_error():
            raise ConfigError(f"no grammar can be made of a schema of this request: {matcher.get_error()}")
        return Constraint(matcher, self.tokenizer.vocab_size)

    def _rules(
        self,
        tools: Sequence[FunctionTool],
        *,
        must_call: bool,
        schema: Mapping[str, object] | None,
        reasoning_tokens: int | None,
    ) -> list[str]:
        c = self._control
        channel, message, end, again = (
            f"<[{c.channel}]>",
            f"<[{c.message}]>",
            f"<[{c.end}]>",
            f'<[{c.start}]> "assistant"',
        )
        typed = f'(" "? <[{c.constrain}]> /json|JSON/)?'
        budget = "" if reasoning_tokens is None else f"[max_tokens={reasoning_tokens}]"
        ways = [] if must_call else ["final"]
        ways += ["preamble? call"] if tools else []
        rules = [
            f"start: analysis* ({' | '.join(ways)})",
            f'analysis: {channel} "analysis" {message} thought {end} {again}',
            f"thought{budget}: TEXT",
            r"TEXT: /(.|\n)*/",
        ]
        if not must_call:
            content = "TEXT" if schema is None else f"%json {_json(schema)}"
            rules.append(
                f'final: {channel} "final" {typed if schema is not None else ""} {message} {content} <[{c.return_}]>'
            )
        if tools:
            rules.append(f'preamble: {channel} "commentary" {message} TEXT {end} {again}')
            rules.append("call: " + " | ".join(f"call_{n}" for n in range(len(tools))))
        for n, tool in enumerate(tools):
            to = json.dumps(f" to=functions.{tool.name}")
            header = f'({channel} "commentary" {to} | {to} {channel} "commentary")'
            parameters = _NOTHING if tool.parameters is None else tool.parameters
            arguments = parameters if tool.strict else _OBJECT
            rules.append(f"call_{n}: {header} {typed} {message} arguments_{n} <[{c.call}]>")
            rules.append(f"arguments_{n}: %json {_json(arguments)}")
        return rules


def _choice(choice: object, tools: Sequence[FunctionTool]) -> tuple[Sequence[FunctionTool], bool]:
    """The tools that may be called, and whether one has to be. Raises MessageError."""
    if choice is None or choice == "auto":
        return tools, False
    if choice == "none":
        return (), False
    if choice == "required":
        if not tools:
            raise MessageError('tool_choice is "required", and no tools are offered')
        return tools, True
    if isinstance(choice, str):
        raise MessageError(f"tool_choice is {choice!r}; it is auto, none, required or names a function")
    chosen = fields.mapping(choice, "tool_choice")
    fields.check_keys(chosen, {"type", "function"}, "tool_choice")
    if chosen.get("type") != "function":
        raise MessageError(f"tool_choice.type is {chosen.get('type')!r}, but must be 'function'")
    function = fields.member(chosen, "function", "tool_choice")
    name = fields.identifier(function.get("name"), "tool_choice.function.name")
    named = [tool for tool in tools if tool.name == name]
    if not named:
        raise MessageError(f"tool_choice names {name}, and the tools are {', '.join(t.name for t in tools) or 'none'}")
    return named, True


def _schema(response_format: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The schema that a checked response format holds the final message to; None for text."""
    if response_format is None or response_format.get("type") == "text":
        return None
    if response_format.get("type") == "json_object":
        return _OBJECT
    form = fields.member(response_format, "json_schema", "response_format")
    return fields.member(form, "schema", "response_format.json_schema")


def _json(schema: Mapping[str, object]) -> str:
    return fields.compact_json({"x-guidance": dict(_SPACING), **schema}, "schema")


class _Vocabulary:
    """A tokenizer as llguidance wants it: the bytes of every id, and which ids are no text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        texts = [tokenizer.text_bytes(id_) for id_ in range(tokenizer.vocab_size)]
        self.special_token_ids = [id_ for id_, text in enumerate(texts) if text is None]
        self.tokens = [tokenizer.decode_bytes([id_]) if text is None else text for id_, text in enumerate(texts)]
        self.eos_token_id = tokenizer.special.get("<|endoftext|>", tokenizer.control.return_)
        self.bos_token_id = None

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode() if isinstance(text, bytes) else text)
