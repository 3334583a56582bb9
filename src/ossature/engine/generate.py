"""The plain loop: prefill in chunks, then one token a step for every sequence that is still going."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ossature.config import ModelConfig
from ossature.engine.sampling import SamplingParams, draw_seed, sample
from ossature.errors import ConfigError, ContextLengthError
from ossature.model import Batch, KVCache, Transformer

__all__ = ["check_ids", "generate", "new_tokens"]

# Rows of one prefill step: enough that every expert's weights are read for several tokens at once, few enough that
# the activations of a step stay small beside the weights.
CHUNK = 512
BLOCK = 64


@dataclass(slots=True)
class _Sequence:
    index: int
    prompt: list[int]
    params: SamplingParams
    seed: int
    limit: int  # new tokens, at most
    slot: int = -1
    last: int = -1
    made: int = 0

    def take(self, logits: torch.Tensor) -> int:
        """Sample the next id from logits (vocab_size,)."""
        self.last = sample(logits, self.params, seed=self.seed, step=self.made)
        self.made += 1
        return self.last

    @property
    def ended(self) -> bool:
        return self.made >= self.limit or self.last in self.params.stop_ids


def generate(
    model: Transformer,
    prompts: Sequence[Iterable[int]],
    params: SamplingParams | Sequence[SamplingParams],
    *,
    chunk: int = CHUNK,
) -> Iterator[tuple[int, int]]:
    """Continue each prompt; yields (index of the prompt, id) as ids are sampled.

    Every sampled id is yielded, a stop id too, as the last of its sequence: a sequence whose last id is not one of its
    `stop_ids` ran into `max_new_tokens` or the end of the context. Sequences advance in lock step and leave the batch
    when they end. With a seed, a sequence draws the same numbers whatever else is in the batch.

    params  for all prompts, or one for each
    chunk   prompt tokens computed at once

    Raises, before anything is computed: ConfigError for an id that the model does not have or an empty prompt,
    ContextLengthError if prompt and `max_new_tokens` exceed the context.
    """
    each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
    if len(each) != len(prompts):
        raise ConfigError(f"{len(prompts)} prompts came with {len(each)} sampling parameters; give one each, or one.")
    sequences = [
        _Sequence(
            index=index,
            prompt=(ids := check_ids(prompt, model.config)),
            params=own,
            seed=draw_seed() if own.seed is None else own.seed,
            limit=new_tokens(len(ids), own, model.config, context=model.config.max_position_embeddings),
        )
        for index, (prompt, own) in enumerate(zip(prompts, each, strict=True))
    ]
    return _run(model, [sequence for sequence in sequences if sequence.limit], chunk)


def check_ids(ids: Iterable[int], config: ModelConfig) -> list[int]:
    """The ids as a list, if the model has all of them and there is at least one.

    Raises ConfigError, or ContextLengthError if there are more than the context holds.
    """
    try:
        checked = [operator.index(token) for token in ids]
    except TypeError as error:
        raise ConfigError(f"token ids have to be integers: {error}.") from error
    if not checked:
        raise ConfigError("there are no token ids; a model needs at least one to start from.")
    if min(checked) < 0 or max(checked) >= config.vocab_size:
        wrong = next(token for token in checked if not 0 <= token < config.vocab_size)
        raise ConfigError(
            f"token id {wrong} is not one of the model's {config.vocab_size} ids, 0 to {config.vocab_size - 1}. "
            "Were the ids made by another tokenizer?"
        )
    if len(checked) > config.max_position_embeddings:
        raise ContextLengthError(
            f"{len(checked)} tokens were given, and the model's context holds {config.max_position_embeddings}."
        )
    return checked


def new_tokens(prompt: int, params: SamplingParams, config: ModelConfig, *, context: int) -> int:
    """How many tokens may follow a prompt of so many: what `params` asks for, or the rest of `context`.

    Raises ContextLengthError if that is too many, or nothing; ConfigError for a biased id that the model lacks.
    """
    params.check_vocabulary(config.vocab_size)
    room = context - prompt
    wanted = params.max_new_tokens
    if wanted is None and room > 0:
        return room
    if wanted is None or wanted > room:
        asked = f"{prompt} tokens of prompt" + (f" and {wanted} new ones" if wanted else "")
        whose = "the model's" if context == config.max_position_embeddings else "this engine's"
        raise ContextLengthError(
            f"{asked} were asked for; {whose} context holds {context}. Shorten the prompt"
            + (f", or ask for at most {room} new tokens." if wanted and room > 0 else ".")
        )
    return wanted


def _run(model: Transformer, sequences: list[_Sequence], chunk: int) -> Iterator[tuple[int, int]]:
    if not sequences:
        return
    totals = [len(sequence.prompt) + sequence.limit for sequence in sequences]
    cache = KVCache(
        model.config,
        max_sequences=len(sequences),
        max_tokens=max(totals),
        slack=min(chunk, max(totals)),
        block_size=BLOCK,
        blocks=sum(-(-total // BLOCK) for total in totals),
        dtype=model.dtype,
        device=model.inv_freq.device,
    )
    for sequence in sequences:
        sequence.slot = cache.open()

    for pieces in _prefill_steps(sequences, chunk):
        logits = _forward(model, cache, [(sequence, ids) for sequence, ids, _ in pieces])
        for (sequence, _, complete), row in zip(pieces, logits, strict=True):
            if complete:
                yield sequence.index, sequence.take(row)

    going = sequences
    while going := [sequence for sequence in going if not sequence.ended]:
        logits = _forward(model, cache, [(sequence, [sequence.last]) for sequence in going])
        for sequence, row in zip(going, logits, strict=True):
            yield sequence.index, sequence.take(row)


def _prefill_steps(sequences: list[_Sequence], chunk: int) -> Iterator[list[tuple[_Sequence, list[int], bool]]]:
    """Pack prompts into steps of at most `chunk` rows: (sequence, ids, whether they complete its prompt)."""
    step: list[tuple[_Sequence, list[int], bool]] = []
    room = chunk
    for sequence in sequences:
        done = 0
        while done < len(sequence.prompt):
            ids = sequence.prompt[done : done + room]
            done += len(ids)
            room -= len(ids)
            step.append((sequence, ids, done == len(sequence.prompt)))
            if not room:
                yield step
                step, room = [], chunk
    if step:
        yield step


def _forward(model: Transformer, cache: KVCache, pieces: list[tuple[_Sequence, list[int]]]) -> torch.Tensor:
    """Logits (len(pieces), vocab_size) float32 after the last id of each piece."""
    with torch.inference_mode():
        batch = Batch.packed(
            [ids for _, ids in pieces],
            slots=[sequence.slot for sequence, _ in pieces],
            starts=[cache.extend(sequence.slot, len(ids)) for sequence, ids in pieces],
            last_only=True,
            device=model.inv_freq.device,
        )
        return model(batch, cache)
