"""The loaded model: a tokenizer, a network and the loop around it, as one object that answers."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from ossature import engine
from ossature.chat import Grammars, Parser, Tokenizer, load_tokenizer, render
from ossature.checkpoint import Checkpoint, open_checkpoint
from ossature.config import ModelConfig
from ossature.errors import CheckpointError, ConfigError
from ossature.model import Batch, Transformer, load_model
from ossature.session.reply import Reply, ReplyStream

__all__ = ["DTYPES", "MINI", "Session", "find_model", "load"]

MINI = "mini"
DTYPES = ("bfloat16", "float32")
STREAMS = 8  # generators of one session that are computed together
BLOCK = 64
MAX_QUEUE = 4096  # generators that were begun and not finished or dropped


def load(
    model: str | os.PathLike[str] = MINI,
    *,
    device: str = "cpu",
    numerics: str = "exact",
    dtype: str = "bfloat16",
    weights: str = "auto",
    deterministic: bool = False,
    int8_cache: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> "Session":
    """Open a model: `"mini"`, the one inside the package, or a checkpoint's directory in either published layout.

    device    "cpu", or a device that torch knows
    numerics  "exact": computed with the weights as they are stored; "fast": attention and unembedding rounded to int8,
              and the activations that meet the packed experts
    dtype     of the activations: "bfloat16" or "float32"
    weights   "mapped": read from the files as they are used; "resident": copied into memory; "auto": by what fits
    deterministic  a sequence's ids and log probabilities do not depend on what else is computed with it; slower
    int8_cache     directory in which "fast" keeps its copy of a checkpoint, default ~/.cache/ossature/int8

    Raises CheckpointError for a directory that holds no sound checkpoint, BackendError for a device or numerics that
    are not available here, ConfigError for any other wrong option. A directory without a fitting tokenizer loads.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; activations are {' or '.join(DTYPES)}.")
    if adapter is not None:
        raise ConfigError(f"adapter={os.fspath(adapter)!r}: this version cannot load adapters yet; load without one.")
    checkpoint = open_checkpoint(find_model(model))
    network = load_model(
        checkpoint,
        dtype=getattr(torch, dtype),
        device=device,
        numerics=numerics,
        weights=weights,
        deterministic=deterministic,
        int8_cache=Path.home() / ".cache" / "ossature" / "int8" if int8_cache is None else Path(int8_cache),
    )
    return Session(checkpoint, network)


def find_model(model: str | os.PathLike[str]) -> Path:
    """The directory of the model called so. Raises CheckpointError if there is none."""
    if model == MINI:
        directory = Path(__file__).parents[1] / "data" / MINI
        if not directory.is_dir():
            raise CheckpointError(
                f"{directory}: the embedded model is missing from this installation; install it again."
            )
        return directory
    directory = Path(model)
    if not directory.is_dir():
        found = "not a directory" if directory.exists() else "no such directory"
        raise CheckpointError(
            f"{directory}: {found}. A model is the directory of a checkpoint, with its config.json, "
            f'or "{MINI}", the one inside the package.'
        )
    return directory


class Session:
    """One loaded model. Each call gets the whole conversation; what the last ones began alike is not computed again."""

    def __init__(self, checkpoint: Checkpoint, model: Transformer) -> None:
        self.checkpoint = checkpoint
        self.model = model
        self._engine: engine.Engine | None = None

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer. Raises ConfigError if it has none that fits."""
        return load_tokenizer(self.checkpoint.directory, vocab_size=self.config.vocab_size)

    @cached_property
    def grammars(self) -> Grammars:
        """What holds this model's turns to their grammars. Raises ConfigError as `tokenizer` does."""
        return Grammars(self.tokenizer)

    def logits(self, ids: Iterable[int]) -> torch.Tensor:
        """Logits after each of the given tokens: (tokens, vocab_size) float32, on the model's device.

        Raises ConfigError for no ids or an id that the model lacks, ContextLengthError for more than its context.
        """
        batch = Batch.packed([engine.check_ids(ids, self.config)], device=self.model.inv_freq.device)
        with torch.no_grad():
            return self.model(batch)

    def generate(
        self,
        ids: Iterable[int],
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop_ids: Collection[int] | None = None,
        logit_bias: Mapping[int, float] | None = None,
        constraint: engine.Constraint | None = None,
    ) -> Iterator[int]:
        """Continue `ids`; yields every sampled id, the stop id that ends it included.

        max_new_tokens             None: the rest of the context
        temperature, top_p, min_p  None: what generation_config.json says, else 1, 1 and 0; temperature 0 is greedy
        seed                       the same seed gives the same ids; None: a new one each time
        stop_ids                   None: the model's own ends and <|call|>; empty: none
        logit_bias                 added to the logits of the given ids
        constraint                 what the ids are held to

        Raises ConfigError and ContextLengthError at the call, before anything is computed.
        """
        own = self.checkpoint.generation
        params = engine.SamplingParams(
            temperature=(own.temperature if own.do_sample else 0.0) if temperature is None else temperature,
            top_p=own.top_p if top_p is None else top_p,
            min_p=own.min_p if min_p is None else min_p,
            seed=seed,
            logit_bias=logit_bias or {},
            max_new_tokens=max_new_tokens,
            stop_ids=self.stop_ids if stop_ids is None else stop_ids,
        )
        return self.engine.stream(engine.Sequence(ids, params, constraint=constraint))

    @property
    def engine(self) -> engine.Engine:
        """What computes `generate`, made at first use, and again after it has failed: driven by those who read.

        Its cache has room for one whole context, shared by up to `STREAMS` generators that are read in turns; more
        of them wait or are computed again. A generator that nobody reads is not computed.
        """
        if self._engine is None or self._engine.failure is not None:
            context = self.config.max_position_embeddings
            self._engine = engine.Engine(
                self.model,
                max_sequences=STREAMS,
                max_tokens=context,
                block_size=BLOCK,
                blocks=-(-context // BLOCK),
                max_queue=MAX_QUEUE,
                read_ahead=1,
                deterministic=self.model.deterministic,
            )
        return self._engine

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The model's own ends: those of its two configs, and of its tokenizer where it has one that knows harmony."""
        ends = {*self.config.eos_token_id, *self.checkpoint.generation.eos_token_id}
        with suppress(ConfigError):  # a model for ids only; asking for its tokenizer says what is missing
            ends.update(self.tokenizer.stop_ids)
        return frozenset(ends)

    def reply(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        reasoning_effort: str | None = "medium",
        tools: Sequence[Mapping[str, object]] = (),
        tool_choice: str | Mapping[str, object] = "auto",
        response_format: Mapping[str, object] | None = None,
        max_reasoning_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
    ) -> Reply:
        """Answer a conversation of OpenAI chat messages.

        reasoning_effort  "low", "medium" or "high"
        tools             OpenAI function tools; what the model calls comes back in `Reply.tool_calls`: one of these,
                          with an object as arguments, of the schema where the tool is `strict`
        tool_choice       OpenAI's: "auto", "none", "required", or one function by name
        response_format   OpenAI's: the final message is text, a JSON object, or JSON of a schema
        max_reasoning_tokens  of each message of reasoning; None: no limit
        The rest is as in `generate`. With tools, a format or such a limit the turn is held to a grammar: an answer
        whose `finish_reason` is "stop" or "tool_calls" is then whole and valid. Else what the model garbles comes back
        in `Reply.malformed`, never as an exception.

        Raises MessageError for a conversation that cannot be rendered, ConfigError for a wrong option, a schema that no
        grammar can be made of, or where the checkpoint has no fitting tokenizer, ContextLengthError for one too long.
        """
        return self.stream(
            messages,
            reasoning_effort=reasoning_effort,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            max_reasoning_tokens=max_reasoning_tokens,
            temperature=temperature,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            max_new_tokens=max_new_tokens,
            logit_bias=logit_bias,
        ).finish()

    def stream(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        reasoning_effort: str | None = "medium",
        tools: Sequence[Mapping[str, object]] = (),
        tool_choice: str | Mapping[str, object] = "auto",
        response_format: Mapping[str, object] | None = None,
        max_reasoning_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
    ) -> ReplyStream:
        """`reply`, as it is made: iterate over the parser's events, then read `.reply`. Raises as `reply` does."""
        prompt = render(
            messages,
            tokenizer=self.tokenizer,
            tools=tools,
            reasoning_effort=reasoning_effort,
            response_format=response_format,
        )
        constraint = self.grammars.turn(
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            reasoning_tokens=max_reasoning_tokens,
        )
        ids = self.generate(
            prompt,
            constraint=constraint,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            logit_bias=logit_bias,
        )
        names = [str(cast("Mapping[str, object]", tool["function"])["name"]) for tool in tools]  # `render` checked them
        return ReplyStream(ids, Parser(self.tokenizer, tools=names), prompt=prompt, stop_ids=self.stop_ids)
