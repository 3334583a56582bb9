"""The engine as its callers see it: streams, limits, queue, thread, failures, counters."""

import gc
import threading

import pytest
import torch

from ossature.engine import Engine, SamplingParams, Sequence, generate
from ossature.errors import CheckpointError, ConfigError, ContextLengthError, EngineError, QueueFullError
from ossature.model import Batch, Edit, Site, Transformer
from tests import network

NEW = 9


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = network.peer_config(num_hidden_layers=2)
    return network.ours(config, network.packed(network.tensors(config)), deterministic=True)


def engine_of(model: Transformer, **options: object) -> Engine:
    options = {"max_sequences": 3, "max_tokens": 80, "block_size": 4, "chunk": 16, "snapshot_every": 12} | options
    return Engine(model, **options)  # pyright: ignore[reportArgumentType]


def greedy(count: int = NEW) -> SamplingParams:
    return SamplingParams(temperature=0, max_new_tokens=count)


def alone(model: Transformer, prompt: list[int], params: SamplingParams) -> list[int]:
    return [token for _, token in generate(model, [prompt], params)]


def finish(engine: Engine, *sequences: Sequence) -> None:
    while any(sequence.state != "ended" for sequence in sequences):
        engine.step()


def test_sequences_of_one_engine_say_what_each_says_alone_with_its_own_seed(model):
    prompts = [network.token_ids(count, seed=count) for count in (1, 33, 7, 18)]
    each = [greedy(), SamplingParams(seed=3, max_new_tokens=12), SamplingParams(seed=4, top_p=0.8, max_new_tokens=5)]
    each.append(SamplingParams(seed=3, max_new_tokens=12, logit_bias={5: 2.0}))
    engine = engine_of(model)
    sequences = [engine.submit(Sequence(prompt, own)) for prompt, own in zip(prompts, each, strict=True)]
    finish(engine, *sequences)
    for sequence, prompt, own in zip(sequences, prompts, each, strict=True):
        assert sequence.output == alone(model, prompt, own)
        assert sequence.finish_reason == "length"


def test_a_step_returns_what_it_sampled_and_every_decode_has_its_turn_beside_a_long_prompt(model):
    engine = engine_of(model, chunk=5)
    first = engine.submit(Sequence([5, 3], greedy(20)))
    assert engine.step() == [(first, first.output[0])]
    engine.submit(Sequence(network.token_ids(33), greedy(3)))
    for made in range(2, 8):  # 33 rows are seven steps of at most five
        assert [sequence for sequence, _ in engine.step()] == [first]
        assert len(first.output) == made


def test_a_sequence_ends_with_the_first_stop_id_it_samples(model):
    prompt = network.token_ids(8)
    plain = alone(model, prompt, greedy())
    params = SamplingParams(temperature=0, max_new_tokens=NEW, stop_ids={plain[4]})
    sequence = Sequence(prompt, params)
    assert list(engine_of(model).stream(sequence)) == plain[: plain.index(plain[4]) + 1]
    assert sequence.finish_reason == "stop"


def test_no_new_tokens_are_none(model):
    sequence = Sequence([5, 3], greedy(0))
    assert list(engine_of(model).stream(sequence)) == []
    assert sequence.finish_reason == "length"


def test_two_streams_read_in_turns_are_both_alive(model):
    engine = engine_of(model, read_ahead=1)
    prompts = [network.token_ids(9, seed=1), network.token_ids(14, seed=2)]
    streams = [engine.stream(Sequence(prompt, greedy())) for prompt in prompts]
    turns = [[next(stream) for stream in streams] for _ in range(NEW)]
    assert [list(ids) for ids in zip(*turns, strict=True)] == [alone(model, prompt, greedy()) for prompt in prompts]


def test_more_streams_than_slots_that_nobody_reads_stand_in_nobodys_way(model):
    engine = engine_of(model, read_ahead=1, max_sequences=2, blocks=20, prefix_cache=False)
    prompts = [network.token_ids(30, seed=seed) for seed in range(4)]
    streams = [engine.stream(Sequence(prompt, greedy())) for prompt in prompts]
    first = [next(stream) for stream in streams]
    assert engine.stats().preemptions == 2
    for stream, token, prompt in zip(streams, first, prompts, strict=True):
        assert [token, *stream] == alone(model, prompt, greedy())


def test_a_stream_that_nobody_reads_is_not_computed(model):
    engine = engine_of(model, read_ahead=2, speculation=False)
    idle, busy = Sequence([5, 3, 2], greedy(50)), Sequence([7, 1], greedy(20))
    stream = engine.stream(idle)
    next(stream)
    assert len(list(engine.stream(busy))) == 20
    assert len(idle.output) <= 3


def test_a_stream_dropped_half_way_gives_its_blocks_back(model):
    engine = engine_of(model)
    free = engine.stats().free_blocks
    sequence = Sequence(network.token_ids(20), greedy(30))
    stream = engine.stream(sequence)
    next(stream)
    assert engine.stats().free_blocks < free
    del stream
    engine.clear_prefixes()
    assert (sequence.finish_reason, engine.stats().free_blocks, engine.stats().running) == ("cancelled", free, 0)


def test_a_stream_may_be_dropped_by_the_garbage_collector_in_the_middle_of_a_step(model):
    engine = engine_of(model)
    free = engine.stats().free_blocks
    dropped = Sequence([5, 3], greedy(30))
    cycle: list[object] = [engine.stream(dropped)]
    next(cycle[0])  # pyright: ignore[reportArgumentType]
    cycle.append(cycle)
    del cycle
    other = engine.submit(Sequence([9, 4], greedy(), notify=gc.collect))
    finish(engine, other)
    assert dropped.finish_reason == "cancelled"
    assert other.output == alone(model, [9, 4], greedy())
    engine.clear_prefixes()
    assert engine.stats().free_blocks == free


def test_a_stream_that_is_never_read_is_never_submitted(model):
    engine = engine_of(model)
    engine.stream(Sequence([5, 3]))
    assert (engine.stats().waiting, engine.step()) == (0, [])


def test_cancelling_ends_a_sequence_wherever_it_is_and_once(model):
    engine = engine_of(model, max_sequences=1)
    free = engine.stats().free_blocks
    running, waiting = (engine.submit(Sequence(network.token_ids(20), greedy())) for _ in range(2))
    engine.step()
    for sequence in (waiting, running, running):
        engine.cancel(sequence)
    assert (running.finish_reason, waiting.finish_reason) == ("cancelled", "cancelled")
    engine.clear_prefixes()
    assert (engine.stats().free_blocks, engine.stats().waiting, engine.stats().running) == (free, 0, 0)
    assert list(engine.read(running)) == running.output


def test_a_full_queue_is_refused_and_has_room_again_later(model):
    engine = engine_of(model, max_sequences=1, max_queue=2)
    engine.submit(Sequence([5], greedy(30)))
    engine.step()
    second = [engine.submit(Sequence([5], greedy())) for _ in range(2)][1]
    with pytest.raises(QueueFullError, match=r"2 sequences are waiting, .*max_queue"):
        engine.submit(Sequence([5], greedy()))
    engine.cancel(second)
    engine.submit(Sequence([5], greedy()))


@pytest.mark.parametrize(
    ("prompt", "options", "error", "message"),
    [
        ([], {}, ConfigError, "there are no token ids"),
        ([331], {}, ConfigError, "token id 331"),
        (
            [1] * 75,
            {"params": greedy(6)},
            ContextLengthError,
            "75 tokens .* this engine's context holds 80.* at most 5",
        ),
        ([1] * 81, {}, ContextLengthError, "81 tokens of prompt .* this engine's context holds 80"),
        ([1], {"adapter": 2}, ConfigError, "adapter=2: this version cannot load adapters yet"),
        ([1], {"logprobs": 332}, ConfigError, "logprobs is 332; it is 0 to 331"),
        ([1], {"edits": (Edit(Site.parse("layers.2.q"), torch.neg),)}, ConfigError, r"layers\.2\.q was asked for"),
        ([1], {"edits": (Edit(Site("q"), torch.neg, torch.tensor([0])),)}, ConfigError, "names rows"),
    ],
)
def test_what_cannot_be_computed_is_refused_at_the_call(model, prompt, options, error, message):
    engine = engine_of(model)
    for call in (engine.submit, engine.stream):
        with pytest.raises(error, match=message):
            call(Sequence(prompt, **options))
    assert engine.stats().waiting == 0


def test_a_sequence_is_submitted_once_and_before_it_is_read(model):
    engine = engine_of(model)
    sequence = Sequence([5], greedy(1))
    with pytest.raises(ConfigError, match="was not submitted"):
        next(engine.read(sequence))
    engine.submit(sequence)
    with pytest.raises(ConfigError, match="was submitted before"):
        engine.submit(sequence)


@pytest.mark.parametrize("name", ["max_sequences", "max_tokens", "blocks", "chunk", "max_queue", "read_ahead"])
def test_an_engine_of_nothing_is_refused(model, name):
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        engine_of(model, **{name: 0})


def test_a_deterministic_engine_needs_a_deterministic_model(model):
    config = network.peer_config(num_hidden_layers=1)
    plain = network.ours(config, network.tensors(config))
    with pytest.raises(ConfigError, match="deterministic=True"):
        engine_of(plain, deterministic=True)
    engine_of(model, deterministic=True)


def test_logprobs_are_those_of_the_logits_before_bias_and_temperature(model):
    prompt = network.token_ids(11)
    params = SamplingParams(seed=1, temperature=1.4, max_new_tokens=6, logit_bias={3: 4.0})
    sequence = Sequence(prompt, params, logprobs=4)
    ids = list(engine_of(model, chunk=3).stream(sequence))
    logits = network.prefill(model, prompt + ids)["logits", None][len(prompt) - 1 : -1]
    exact = torch.log_softmax(logits, dim=-1)
    assert len(sequence.output_logprobs) == 6
    for token, row, given in zip(ids, exact, sequence.output_logprobs, strict=True):
        assert abs(given.logprob - float(row[token])) < 1e-4
        assert [index for index, _ in given.top] == row.topk(4).indices.tolist()
        torch.testing.assert_close(torch.tensor([p for _, p in given.top]), row.topk(4).values, rtol=0, atol=1e-4)


def test_a_sequence_whose_logits_are_not_numbers_fails_alone_and_leaves_no_block(model):
    def spoil(logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, torch.nan)

    engine = engine_of(model)
    free = engine.stats().free_blocks
    broken = engine.submit(Sequence([5, 3], greedy(), edits=(Edit(Site("logits"), spoil),)))
    sound = engine.submit(Sequence([9, 4], greedy()))
    finish(engine, broken, sound)
    assert sound.output == alone(model, [9, 4], greedy())
    assert broken.finish_reason == "failed"
    with pytest.raises(CheckpointError, match="new token 0: 331 of 331 logits"):
        list(engine.read(broken))
    engine.clear_prefixes()
    assert engine.stats().free_blocks == free


def test_an_edit_changes_its_own_sequence_only(model):
    edit = Edit(Site("mlp_out", 0), torch.neg)
    prompt = network.token_ids(19)
    engine = engine_of(model, chunk=6)
    edited = engine.submit(Sequence(prompt, greedy(), edits=(edit,)))
    plain = engine.submit(Sequence(prompt, greedy()))
    finish(engine, edited, plain)
    assert plain.output == alone(model, prompt, greedy()) != edited.output
    ids = prompt + edited.output[:-1]
    with torch.no_grad():  # the whole edited text in one edited pass says the same
        changed = model(Batch.packed([ids], edits=(edit,)))[len(prompt) - 1 :]
    assert changed.argmax(-1).tolist() == edited.output


def test_an_edit_that_raises_ends_its_own_sequence_and_no_other(model):
    def explode(value: torch.Tensor) -> torch.Tensor:
        raise ValueError("boom")

    engine = engine_of(model)
    innocent = Edit(Site("mlp_out"), torch.neg)
    sequences = [
        engine.submit(Sequence([5, 3], greedy(), edits=(innocent,))),
        engine.submit(Sequence([5, 3], greedy(), edits=(Edit(Site("q"), explode),))),
        engine.submit(Sequence([5, 3], greedy())),
    ]
    finish(engine, *sequences)
    assert [sequence.finish_reason for sequence in sequences] == ["length", "failed", "length"]
    with pytest.raises(ValueError, match="boom"):
        list(engine.read(sequences[1]))


class OutOfMemoryError(RuntimeError):
    """Raised by a model that has no room for its activations."""


def break_at(model: Transformer, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let the given forward pass from now raise."""
    steps = iter(range(1, 1000))
    plain = model.forward

    def forward(*arguments):
        if next(steps) == step:
            raise error
        return plain(*arguments)

    monkeypatch.setattr(model, "forward", forward)


def test_an_engine_that_dies_fails_every_sequence_and_says_so_to_later_ones(model, monkeypatch):
    engine = engine_of(model, max_sequences=1)
    free = engine.stats().free_blocks
    running, waiting = (engine.submit(Sequence(network.token_ids(20), greedy())) for _ in range(2))
    break_at(model, monkeypatch, 3, OutOfMemoryError("no memory"))
    with pytest.raises(OutOfMemoryError, match="no memory"):
        finish(engine, running)
    for sequence in (running, waiting):
        assert sequence.finish_reason == "failed"
        assert isinstance(sequence.error, OutOfMemoryError)
        with pytest.raises(
            EngineError, match=r"the engine has stopped: OutOfMemoryError: no memory\. Make a new one\."
        ):
            list(engine.read(sequence))
    for call in (engine.step, engine.start, lambda: engine.submit(Sequence([5])), lambda: engine.stream(Sequence([5]))):
        with pytest.raises(EngineError, match="no memory"):
            call()
    engine.clear_prefixes()
    assert engine.stats().free_blocks == free


def test_an_engine_thread_that_dies_is_reported_to_all_readers_and_hangs_none(model, monkeypatch, capfd):
    engine = engine_of(model, max_sequences=2)
    break_at(model, monkeypatch, 6, OutOfMemoryError("no memory"))
    raised: list[BaseException] = []

    def read() -> None:
        try:
            list(engine.stream(Sequence(network.token_ids(9), greedy(40))))
        except EngineError as error:
            raised.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    engine.start()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(timeout=20)
    engine.stop()
    assert [str(error.__cause__) for error in raised] == ["no memory"] * 3
    assert "ossature: the engine has stopped: OutOfMemoryError: no memory" in capfd.readouterr().err


def test_an_interruption_from_the_keyboard_is_raised_and_the_rest_goes_on(model, monkeypatch):
    engine = engine_of(model, speculation=False)
    sequences = [engine.submit(Sequence(network.token_ids(20, seed=seed), greedy())) for seed in range(2)]
    break_at(model, monkeypatch, 4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        finish(engine, *sequences)
    finish(engine, *sequences)
    for seed, sequence in enumerate(sequences):
        assert sequence.output == alone(model, network.token_ids(20, seed=seed), greedy())


def test_a_thread_of_its_own_serves_many_readers(model):
    prompts = [network.token_ids(3 + 5 * number, seed=number) for number in range(7)]
    said: dict[int, list[int]] = {}
    with engine_of(model, read_ahead=4) as engine:

        def read(number: int) -> None:
            said[number] = list(engine.stream(Sequence(prompts[number], greedy())))

        readers = [threading.Thread(target=read, args=(number,)) for number in range(7)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout=60)
    assert [said[number] for number in range(7)] == [alone(model, prompt, greedy()) for prompt in prompts]


def test_leaving_the_context_cancels_what_is_unfinished_and_its_readers_end(model):
    with engine_of(model) as engine:
        told = threading.Event()
        sequence = engine.submit(Sequence([5, 3], greedy(70), notify=told.set))
        assert told.wait(timeout=20)
    assert sequence.finish_reason in ("cancelled", "length")
    assert list(engine.read(sequence)) == sequence.output


def test_without_its_thread_an_engine_is_driven_by_the_reader(model):
    engine = engine_of(model)
    engine.start()
    engine.stop()
    engine.stop()
    assert list(engine.stream(Sequence([5, 3], greedy()))) == alone(model, [5, 3], greedy())
