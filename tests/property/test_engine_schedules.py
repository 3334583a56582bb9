"""Whatever comes, goes and is preempted when: each sequence says what it says alone, and no block is lost."""

import random
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from ossature.engine import Engine, SamplingParams, Sequence, generate
from ossature.model import Transformer
from tests import network

VOCABULARY, LONGEST, NEW = 37, 48, 16


def model() -> Transformer:
    """Layers that add less than usual, so that a sequence now and then repeats itself and its proposals come true."""
    config = network.peer_config(num_hidden_layers=3, sliding_window=6, vocab_size=VOCABULARY)
    values = network.tensors(config)
    for name, value in values.items():
        if "o_proj" in name or "down_proj" in name:
            value *= 0.5
    return network.ours(config, network.packed(values), deterministic=True)


MODEL = model()


def ids_of(seed: str, count: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(VOCABULARY) for _ in range(count))


STEMS = (ids_of("stem", 29), ids_of("phrase", 4) * 7)  # the second repeats itself, so there is something to propose
TAILS = ((), ids_of("tail", 2), ids_of("other tail", 3))


@cache
def alone(prompt: tuple[int, ...]) -> list[int]:
    """What the plain loop says, one sequence at a time."""
    params = SamplingParams(temperature=0, max_new_tokens=NEW)
    return [token for _, token in generate(MODEL, [prompt], params)]


@dataclass
class Visit:
    """One sequence of a schedule: when it comes, what it asks for, and when its caller gives up, if ever."""

    rng: random.Random
    sequence: Sequence = field(init=False)
    expected: list[int] = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        prompt = rng.choice(STEMS)[: rng.choice((1, 5, 9, 13, 21, 29))] + rng.choice(TAILS)
        self.expected = alone(prompt)[: rng.randint(1, NEW)]
        stops = {rng.choice(self.expected)} if rng.random() < 0.3 else set()
        params = SamplingParams(temperature=0, max_new_tokens=len(self.expected), stop_ids=stops)
        for stop in stops:
            self.expected = self.expected[: self.expected.index(stop) + 1]
        self.sequence = Sequence(prompt, params, salt=rng.choice(("", "", "another")))
        self.comes = rng.randint(0, 8)
        self.cancelled = self.comes + rng.randint(0, 9) if rng.random() < 0.25 else None

    def check(self) -> None:
        sequence = self.sequence
        if self.cancelled is None or sequence.finish_reason != "cancelled":
            assert sequence.output == self.expected
            stopped = sequence.output[-1] in sequence.params.stop_ids
            assert sequence.finish_reason == ("stop" if stopped else "length")
        else:
            assert sequence.output == self.expected[: len(sequence.output)]


def random_engine(rng: random.Random) -> Engine:
    block_size = rng.choice((3, 4, 7))
    return Engine(
        MODEL,
        max_sequences=rng.choice((1, 3, 6)),
        max_tokens=LONGEST,
        block_size=block_size,
        blocks=-(-LONGEST // block_size) + rng.randint(0, 2),
        chunk=rng.choice((1, 4, 9, 40)),
        read_ahead=rng.choice((None, None, 1, 3)),
        speculation=rng.random() < 0.7,
        deterministic=True,
        prefix_cache=rng.random() < 0.8,
        prefix_bytes=rng.choice((1 << 15, 1 << 17, 1 << 24)),
        snapshot_every=rng.choice((5, 8, 13)),
    )


def run(seed: int) -> Counter[str]:
    """One schedule from start to end; returns how often the things happened that it is about."""
    rng = random.Random(seed)
    engine = random_engine(rng)
    free = engine.stats().free_blocks
    visits = [Visit(rng) for _ in range(rng.randint(3, 8))]
    step = 0
    while any(visit.sequence.state != "ended" for visit in visits):
        for visit in visits:
            if visit.comes == step:
                engine.submit(visit.sequence)
            if visit.cancelled == step:
                engine.cancel(visit.sequence)
            while visit.sequence.unread and rng.random() < 0.7:
                visit.sequence.next_unread()
        engine.step()
        step += 1
        assert step < 3000, "a schedule that does not end"
    for visit in visits:
        visit.check()
    engine.clear_prefixes()
    stats = engine.stats()
    assert (stats.free_blocks, stats.waiting, stats.running, stats.prefix_bytes) == (free, 0, 0, 0)
    return Counter(
        hits=stats.prefix_hit_tokens,
        preemptions=stats.preemptions,
        accepted=stats.accepted_tokens,
        rejected=stats.drafted_tokens - stats.accepted_tokens,
        cancelled=sum(visit.sequence.finish_reason == "cancelled" for visit in visits),
    )


def test_any_schedule_says_what_each_sequence_says_alone_and_leaves_no_block_behind(counts) -> None:
    happened: Counter[str] = Counter()
    for seed in range(counts(60, 500)):
        happened += run(seed)
    assert all(happened[what] > 15 for what in ("hits", "preemptions", "accepted", "rejected", "cancelled")), happened
