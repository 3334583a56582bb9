"""One prompt on its way through the engine: what was asked of it, what was made of it, and where it stands."""

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from ossature.config import ModelConfig
from ossature.engine.generate import check_ids, new_tokens
from ossature.engine.sampling import SamplingParams, draw_seed, sample
from ossature.engine.speculation import Drafter
from ossature.errors import ConfigError
from ossature.model import Edit, check_layers

__all__ = ["Constraint", "FinishReason", "Sequence", "State", "TokenLogprobs"]


class Constraint(Protocol):
    """What a sequence may say next. The engine asks before each id it samples, and tells which it was."""

    def allowed(self) -> NDArray[np.bool_]:
        """(ids,): False for each id that may not come next; ids beyond are not allowed either."""
        ...

    def take(self, id_: int) -> None: ...


State = Literal["new", "waiting", "running", "ended"]
FinishReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Of one sampled id: its log probability, and (id, log probability) of the most probable ones, best first.

    From the logits as the model gave them, in float32: before bias, temperature, top_p and min_p.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False, slots=True)
class Sequence:
    """What one caller asks of the engine, and what comes of it. Submitted once, to one engine.

    prompt    ids; a list after `check`
    adapter   number of the adapter, 0 for none
    salt      only sequences of the same salt share cached prefixes: one for each tenant keeps them apart
    edits     change each row by itself and take no `rows`: they apply to all rows of this sequence, and to no other;
              equal changes (==, hash) have to have equal effects, since their sequences share cached prefixes
    logprobs  None: not wanted; else how many alternatives come with the log probability of each sampled id
    constraint  what the ids are held to; None: nothing. Its errors end the sequence
    notify    called by who drives the engine, after new ids and at the end; must not block, raise or use the engine

    output           the sampled ids, a stop id included
    output_logprobs  one for each of them, where asked for
    finish_reason    None until the sequence has ended; `error` says why where it is "failed"
    cached_tokens    of the prompt, found in the prefix cache
    """

    prompt: Iterable[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    _: KW_ONLY
    adapter: int = 0
    salt: str | bytes = ""
    edits: tuple[Edit, ...] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None
    notify: Callable[[], object] | None = None

    state: State = field(default="new", init=False)
    finish_reason: FinishReason | None = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False, repr=False)
    output_logprobs: list[TokenLogprobs] = field(default_factory=list, init=False, repr=False)
    cached_tokens: int = field(default=0, init=False)

    # Of the engine: prompt and output in one list, how many of them the cache holds, in which slot; how many were read.
    ids: list[int] = field(default_factory=list, init=False, repr=False)
    prompt_tokens: int = field(default=0, init=False)
    computed: int = field(default=0, init=False, repr=False)
    slot: int = field(default=-1, init=False, repr=False)
    read: int = field(default=0, init=False, repr=False)
    arrival: int = field(default=-1, init=False, repr=False)
    seed: int = field(default=0, init=False, repr=False)
    limit: int = field(default=0, init=False, repr=False)
    digests: list[bytes] = field(default_factory=list, init=False, repr=False)
    drafter: Drafter = field(default_factory=Drafter, init=False, repr=False)
    suspect: bool = field(default=False, init=False, repr=False)

    def check(self, config: ModelConfig, *, context: int) -> None:
        """Refuse what cannot be computed. Raises ConfigError or ContextLengthError."""
        ids = check_ids(self.prompt, config)
        self.limit = new_tokens(len(ids), self.params, config, context=context)
        self.prompt, self.ids, self.prompt_tokens = ids, list(ids), len(ids)
        if self.adapter:
            raise ConfigError(f"adapter={self.adapter}: this version cannot load adapters yet; 0 is the model itself.")
        if self.logprobs is not None and not 0 <= self.logprobs <= config.vocab_size:
            raise ConfigError(f"logprobs is {self.logprobs}; it is 0 to {config.vocab_size} alternatives, or None.")
        check_layers((), self.edits, config.num_hidden_layers)
        for edit in self.edits:
            if edit.rows is not None:
                raise ConfigError(
                    f"the edit of {edit.site} names rows; an edit of a sequence changes all its rows. Leave rows out."
                )
            try:
                hash(edit.change)
            except TypeError as error:
                raise ConfigError(
                    f"the edit of {edit.site} cannot be compared with others ({error}); give a function or a frozen"
                    " dataclass"
                ) from error
        self.seed = draw_seed() if self.params.seed is None else self.params.seed

    @property
    def context(self) -> tuple[object, ...]:
        """What the keys and values of this sequence depend on besides its ids, and what they may be shared by."""
        return self.salt, self.adapter, tuple((edit.site, edit.change) for edit in self.edits)

    @property
    def output(self) -> list[int]:
        return self.ids[self.prompt_tokens :]

    @property
    def made(self) -> int:
        """Ids sampled so far."""
        return len(self.ids) - self.prompt_tokens

    @property
    def pending(self) -> int:
        """Ids that the cache does not hold yet: 1 while decoding, more before that and after a preemption."""
        return len(self.ids) - self.computed

    @property
    def unread(self) -> int:
        """Sampled ids that nobody has asked for yet."""
        return self.made - self.read

    @property
    def complete(self) -> bool:
        """True if nothing more may be sampled: the limit is reached, or the last sampled id is a stop id."""
        return self.made >= self.limit or (self.made > 0 and self.ids[-1] in self.params.stop_ids)

    def next_unread(self) -> int:
        """The first id that nobody has asked for yet."""
        token = self.ids[self.prompt_tokens + self.read]
        self.read += 1
        return token

    def take(self, logits: torch.Tensor) -> int:
        """Sample the next id from logits (vocab_size,). Raises CheckpointError if they allow none."""
        held = logits if self.constraint is None else _held_to(self.constraint, logits)
        token = sample(held, self.params, seed=self.seed, step=self.made)
        if self.constraint is not None:
            self.constraint.take(token)
        if self.logprobs is not None:
            self.output_logprobs.append(_logprobs(logits, token, self.logprobs))
        self.ids.append(token)
        return token

    def end(self, reason: FinishReason, error: BaseException | None = None) -> None:
        """Say that no more ids will come, and why."""
        self.finish_reason, self.error = reason, error
        self.state = "ended"  # last: another thread may be waiting for it
        if self.notify:
            self.notify()


def _held_to(constraint: Constraint, logits: torch.Tensor) -> torch.Tensor:
    allowed = torch.from_numpy(constraint.allowed()).to(logits.device)
    return logits.masked_fill(~pad(allowed, (0, len(logits) - len(allowed))), -torch.inf)


def _logprobs(logits: torch.Tensor, token: int, alternatives: int) -> TokenLogprobs:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = torch.topk(logprobs, alternatives)
    return TokenLogprobs(float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
