"""The parser on any stream of ids at all: it never raises, loses nothing, and its events are in order."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossature.chat import (
    Delta,
    Event,
    Malformed,
    MessageEnd,
    MessageStart,
    Parser,
    Tokenizer,
    load_tokenizer,
    render_training,
    written,
)
from tests.harmony_cases import CASES
from tests.streams import ids_of, read

Counts = Callable[[int, int], int]

TOOLS = ["get_weather", "shell", "add"]
FRAGMENTS = (
    "assistant,user,system,python,functions.add,browser.search, to=functions.add, to=add, to=shelljson, to=,"
    'to=assistant,analysis,commentary,final,comment, json, code,json,{"a":1},{}, ,\n,\n\n,Hello,:bob,é,漢字,'
    "👋🏽,7,commentary?,assistantassistant,all,<|x|>"
).split(",")
STRUCTURE = ["start", "end", "message", "channel", "constrain", "call", "return"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("o200k_harmony")


@pytest.fixture(scope="module")
def well_formed(tokenizer: Tokenizer) -> list[list[int]]:
    """What a model would have sampled in every conversation that has an answer."""
    streams: list[list[int]] = []
    for messages, options in CASES.values():
        rendered = render_training(messages, tokenizer=tokenizer, turns="all", **options)
        if True in rendered.trained:
            streams.append(rendered.ids[rendered.trained.index(True) :])
    return streams


def expected(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The stream written out: runs of ordinary tokens as one text each, control tokens as their names."""
    out: list[str] = []
    run = b""
    for id_ in ids:
        data = tokenizer.text_bytes(id_)
        if data is None:
            out += [run.decode("utf-8", errors="replace"), tokenizer.special_text(id_)]
            run = b""
        else:
            run += data
    return "".join([*out, run.decode("utf-8", errors="replace")])


def check(tokenizer: Tokenizer, ids: list[int], start: str = "assistant") -> list[Event]:
    parser = Parser(tokenizer, tools=TOOLS, start="assistant" if start == "assistant" else "conversation")
    events = read(parser, ids)
    assert written(events) == expected(tokenizer, ids)
    assert parser.close() == []
    check_order(events)
    return events


def check_order(events: list[Event]) -> None:
    """Messages start, speak and end in turn; indices count up; a message's text is its deltas."""
    open_message: MessageStart | None = None
    said: list[str] = []
    count = 0
    for event in events:
        if isinstance(event, MessageStart):
            assert open_message is None
            open_message, said = event, []
        if isinstance(event, MessageStart | Malformed):
            assert event.index == count
            count += 1
        else:
            assert open_message is not None
            assert (event.index, event.kind) == (open_message.index, open_message.kind)
        if isinstance(event, Delta):
            assert event.text
            said.append(event.text)
        if isinstance(event, MessageEnd):
            assert event.text == "".join(said)
            assert open_message is not None
            assert event.recipient == open_message.recipient
            open_message = None
    assert open_message is None


def test_random_ids_never_raise_and_lose_nothing(tokenizer: Tokenizer, counts: Counts) -> None:
    draw = random.Random(1)
    structure = [tokenizer.special[f"<|{name}|>"] for name in STRUCTURE]
    anything = [*structure, 199998, 199999, 200001, 200014, 201087, 201088, 10**9, -1, -(10**9), 9552, 132990, 238]
    for _ in range(counts(1500, 20_000)):
        ids = [
            draw.choice(structure) if (kind := draw.random()) < 0.4
            else draw.choice(anything) if kind < 0.6
            else draw.randrange(201_088)
            for _ in range(draw.randrange(40))
        ]  # fmt: skip
        check(tokenizer, ids, draw.choice(["assistant", "conversation"]))


def test_streams_of_header_words_never_raise_and_lose_nothing(tokenizer: Tokenizer, counts: Counts) -> None:
    draw = random.Random(2)
    for _ in range(counts(1500, 20_000)):
        pieces = draw.choices([f"<|{name}|>" for name in STRUCTURE], k=10) + draw.choices(FRAGMENTS, k=10)
        draw.shuffle(pieces)
        check(tokenizer, ids_of(tokenizer, "".join(pieces)), draw.choice(["assistant", "conversation"]))


def test_mutated_answers_never_raise_and_lose_nothing(
    tokenizer: Tokenizer, well_formed: list[list[int]], counts: Counts
) -> None:
    draw = random.Random(3)
    structure = [tokenizer.special[f"<|{name}|>"] for name in STRUCTURE]
    for _ in range(counts(1500, 20_000)):
        ids = list(draw.choice(well_formed))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(ids) + 1)
            match draw.randrange(5):
                case 0:
                    ids.insert(place, draw.choice(structure))
                case 1:
                    del ids[place : place + draw.randint(1, 3)]
                case 2:
                    ids[place : place + 1] = [draw.randrange(-1, 201_089)]
                case 3:
                    other = draw.choice(well_formed)
                    ids[place:place] = other[draw.randrange(len(other)) :][:5]
                case _:
                    ids = ids[:place]
        check(tokenizer, ids)


def test_a_well_formed_answer_has_nothing_malformed_and_is_cut_nowhere(
    tokenizer: Tokenizer, well_formed: list[list[int]]
) -> None:
    for ids in well_formed:
        for event in check(tokenizer, ids):
            assert not isinstance(event, Malformed)
            assert not isinstance(event, MessageEnd) or event.end != "cut"


@given(data=st.binary(max_size=60))
def test_any_bytes_inside_a_message_come_out_as_python_decodes_them(data: bytes) -> None:
    tokenizer = byte_tokenizer()  # in which a byte is its own id
    ids = [*ids_of(tokenizer, "<|channel|>final<|message|>"), *data]
    (end,) = [event for event in check(tokenizer, ids) if isinstance(event, MessageEnd)]
    assert end.text == data.decode("utf-8", errors="replace")


def byte_tokenizer() -> Tokenizer:
    """A vocabulary of the 256 bytes and harmony's control tokens."""
    special = {f"<|{name}|>": 256 + n for n, name in enumerate(STRUCTURE)}
    token_bytes = {byte: bytes([byte]) for byte in range(256)}
    return Tokenizer(
        "bytes", encode=lambda text: list(text.encode()), token_bytes=token_bytes, special=special, vocab_size=263
    )
