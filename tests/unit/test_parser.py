"""What the parser makes of what models write: the rule, and every way of breaking it that has been seen."""

import time

import pytest

from ossature.chat import Delta, Malformed, MessageEnd, MessageStart, Parser, Tokenizer, load_tokenizer, written
from tests.streams import ids_of, read, texts

TOOLS = ["f", "shell", "get_weather"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("o200k_harmony")


def items(tokenizer: Tokenizer, stream: str, *, tools: list[str] = TOOLS) -> list[tuple[str, ...]]:
    """Messages as (kind, text, end), calls as (kind, recipient, text, end), malformed items as ("malformed", raw)."""
    events = read(Parser(tokenizer, tools=tools), ids_of(tokenizer, stream))
    assert written(events) == stream
    out: list[tuple[str, ...]] = []
    for event in events:
        if isinstance(event, Malformed):
            out.append(("malformed", event.raw))
        elif isinstance(event, MessageEnd):
            to = () if event.recipient is None else (event.recipient,)
            out.append((event.kind, *to, event.text, event.end))
    return out


def start_of(tokenizer: Tokenizer, header: str, *, tools: list[str] = TOOLS) -> MessageStart:
    """The one message start of a header that continues <|start|>assistant."""
    events = read(Parser(tokenizer, tools=tools), ids_of(tokenizer, header + "<|message|>x<|end|>"))
    (start,) = [event for event in events if isinstance(event, MessageStart)]
    assert start.header == header + "<|message|>"
    return start


def test_reasoning_preamble_call_and_answer_are_told_apart(tokenizer: Tokenizer) -> None:
    stream = (
        "<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
        "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"
    )
    assert items(tokenizer, stream) == [
        ("analysis", "Hm.", "end"),
        ("preamble", "I look.", "end"),
        ("tool_call", "functions.f", "{}", "call"),
        ("final", "Done.", "return"),
    ]


@pytest.mark.parametrize(
    "header",
    [
        " to=functions.f<|channel|>commentary <|constrain|>json",
        " to=functions.f<|channel|>commentary<|constrain|>json",
        "<|channel|>commentary to=functions.f <|constrain|>json",
        "<|channel|>commentary to=functions.f<|constrain|>json",
        "<|channel|>commentary to=functions.f json",
        "<|channel|>commentary json to=functions.f",
        "<|channel|>commentary to=functions.f<|constrain|> json",
        "<|channel|>commentaryto=functions.f json",
        "<|channel|> commentary  to=functions.f\tjson ",
        "<|channel|>commentary to= functions.f <|constrain|>json",
        "<|channel|>commentary to=f <|constrain|>json",
        "<|channel|>commentary to=fjson",
        "<|channel|>commentary to=functions.f.json",
        "<|channel|>commentary to=assistant to=functions.f <|constrain|>json",
        "<|channel|>commentary to=functions.shell to=functions.f json",
        "<|channel|>commentary please to=functions.f <|constrain|>json",
        "<|channel|>commentary<|channel|>commentary to=functions.f <|constrain|>json",
        "<|channel|>commentary<|channel|>final to=functions.f <|constrain|>json",
        "assistant to=functions.f<|channel|>commentary json",
        " commentary to=functions.f json",
        "<|channel|>commentary to=functions.f<|reserved_200014|><|constrain|>json",
    ],
)
def test_a_call_is_understood_however_its_header_is_written(tokenizer: Tokenizer, header: str) -> None:
    start = start_of(tokenizer, header)
    assert (start.kind, start.role, start.channel) == ("tool_call", "assistant", "commentary")
    assert (start.recipient, start.content_type) == ("functions.f", "json")


@pytest.mark.parametrize(
    ("header", "kind", "channel", "recipient", "content_type"),
    [
        ("<|channel|>final <|constrain|>json", "final", "final", None, "json"),
        ("<|channel|>commentary json", "preamble", "commentary", None, "json"),
        ("<|channel|>analysis to=python code", "tool_call", "analysis", "python", "code"),
        ("<|channel|>final to=functions.f", "tool_call", "final", "functions.f", None),
        ("<|channel|>commentary to=container.exec code", "tool_call", "commentary", "container.exec", "code"),
        ("<|channel|>commentary to=functions.unknown", "tool_call", "commentary", "functions.unknown", None),
        ("<|channel|>analysis to=all", "analysis", "analysis", None, None),
        ("<|channel|>final to=user", "final", "final", None, None),
        ("<|channel|>analysis<|channel|>final", "analysis", "analysis", None, None),
        ("<|channel|><|channel|>final", "final", "final", None, None),
        ("<|channel|>commentary?", "preamble", "commentary", None, None),
        ("<|channel|>analysisWe need to think", "analysis", "analysis", None, None),
        ("<|channel|>musing", "analysis", "musing", None, None),
        ("<|channel|>", "final", None, None, None),
        ("", "final", None, None, None),
        (" final", "final", "final", None, None),
        ("assistant<|channel|>final", "final", "final", None, None),
        (":ada<|channel|>final", "final", "final", None, None),
        ("<|channel|>final\ufffd", "final", "final", None, None),
    ],
)
def test_other_headers_are_read_as_well_as_they_can_be(
    tokenizer: Tokenizer, header: str, kind: str, channel: str | None, recipient: str | None, content_type: str | None
) -> None:
    start = start_of(tokenizer, header)
    assert (start.kind, start.channel, start.recipient, start.content_type) == (kind, channel, recipient, content_type)
    assert start.role == "assistant"


def test_a_bare_name_stays_bare_unless_a_tool_has_it(tokenizer: Tokenizer) -> None:
    assert start_of(tokenizer, " to=f", tools=[]).recipient == "f"
    assert start_of(tokenizer, " to=fjson", tools=["fjson"]).recipient == "functions.fjson"
    assert start_of(tokenizer, " to=gjson").recipient == "gjson"


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        ("I must refuse<|end|>", [("final", "I must refuse", "end")]),
        ("Paris<|return|>", [("final", "Paris", "return")]),
        ("Paris", [("final", "Paris", "cut")]),
        ("<|channel|>analysis I must refuse<|end|>", [("analysis", "I must refuse", "end")]),
        ("<|channel|>final Paris.<|return|>", [("final", "Paris.", "return")]),
        ('<|channel|>commentary to=f json{"a": 1}<|call|>', [("tool_call", "functions.f", '{"a": 1}', "call")]),
        ("<|channel|>final<|end|>", [("malformed", "<|channel|>final<|end|>")]),
        ("<|channel|>commentary to=fun", [("malformed", "<|channel|>commentary to=fun")]),
        ("<|channel|>anal", [("malformed", "<|channel|>anal")]),
        ("<|end|>", [("malformed", "<|end|>")]),
        ("", []),
    ],
)
def test_a_header_without_message_gives_its_text_as_content(
    tokenizer: Tokenizer, stream: str, wanted: list[tuple[str, ...]]
) -> None:
    assert items(tokenizer, stream) == wanted


FINAL = "<|channel|>final<|message|>"
ANSWER = ("final", "b", "return")


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        (
            f"{FINAL}a<|end|>junk<|start|>assistant{FINAL}b<|return|>",
            [("final", "a", "end"), ("malformed", "junk"), ANSWER],
        ),
        (f"{FINAL}a<|start|>assistant{FINAL}b<|return|>", [("final", "a", "cut"), ANSWER]),
        (f"<|channel|>analysis<|message|>a{FINAL}b<|return|>", [("analysis", "a", "cut"), ANSWER]),
        (f"{FINAL}a<|end|>{FINAL}b<|return|>", [("final", "a", "end"), ANSWER]),
        (f"{FINAL}a<|end|>assistant{FINAL}b<|return|>", [("final", "a", "end"), ANSWER]),
        (f"{FINAL}a<|end|>oh{FINAL}b<|return|>", [("final", "a", "end"), ("malformed", "oh"), ANSWER]),
        (f"{FINAL}a<|end|><|message|>b<|return|>", [("final", "a", "end"), ANSWER]),
        (f"<|start|>assistantassistant{FINAL}b<|return|>", [ANSWER]),
        (f"<|start|>{FINAL}b<|return|>", [ANSWER]),
        (f"<|channel|>analysis<|start|>assistant{FINAL}b<|return|>", [("malformed", "<|channel|>analysis"), ANSWER]),
        (f"{FINAL}b<|return|><|return|>", [ANSWER, ("malformed", "<|return|>")]),
        (f"{FINAL}b<|return|>{{}}<|end|>", [ANSWER, ("malformed", "{}<|end|>")]),
        (f"{FINAL}b<|endoftext|>", [("final", "b", "cut"), ("malformed", "<|endoftext|>")]),
        (f"{FINAL}<|message|>b<|return|>", [("malformed", "<|message|>"), ANSWER]),
        (f"{FINAL}<|reserved_200014|>b<|return|>", [("malformed", "<|reserved_200014|>"), ANSWER]),
        ("<|start|>no author<|message|>x<|end|>", [("malformed", "<|start|>no author<|message|>x<|end|>")]),
        (f"{FINAL}", [("final", "", "cut")]),
        (f"{FINAL}<|end|>", [("final", "", "end")]),
    ],
)
def test_broken_streams_lose_nothing_and_keep_what_makes_sense(
    tokenizer: Tokenizer, stream: str, wanted: list[tuple[str, ...]]
) -> None:
    assert items(tokenizer, stream) == wanted


@pytest.mark.parametrize("end", ["call", "return", "end"])
def test_a_call_is_complete_whatever_token_ends_it(tokenizer: Tokenizer, end: str) -> None:
    stream = f"<|channel|>commentary to=functions.f json<|message|>{{}}<|{end}|>"
    assert items(tokenizer, stream) == [("tool_call", "functions.f", "{}", end)]


def test_messages_of_other_roles_are_never_shown_nor_called(tokenizer: Tokenizer) -> None:
    stream = (
        "<|channel|>commentary to=browser.search code<|message|>{}<|call|>"
        "<|start|>browser.search to=assistant<|channel|>commentary<|message|>found<|end|>"
        "<|start|>user:bob<|message|>hi<|end|><|start|>system to=functions.f<|message|>x<|end|>"
        "<|start|>get_weather<|message|>y<|end|>"
    )
    events = read(Parser(tokenizer, tools=TOOLS), ids_of(tokenizer, stream))
    starts = [event for event in events if isinstance(event, MessageStart)]
    assert [(s.kind, s.role, s.name, s.recipient) for s in starts[1:]] == [
        ("analysis", "tool", "browser.search", "assistant"),
        ("analysis", "user", "bob", None),
        ("analysis", "system", None, "functions.f"),
        ("analysis", "tool", "get_weather", None),
    ]


def test_text_that_looks_like_control_tokens_is_text(tokenizer: Tokenizer) -> None:
    text = "a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>"
    ids = [*ids_of(tokenizer, "<|channel|>analysis<|message|>"), *tokenizer.encode(text)]
    assert texts(read(Parser(tokenizer), ids)) == [("analysis", text)]


def test_a_character_appears_once_it_is_whole(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer)
    for id_ in ids_of(tokenizer, FINAL):
        parser.push(id_)
    assert parser.push(9552) == [Delta(0, "final", " ")]
    assert parser.push(238) == []
    assert parser.push(242) == [Delta(0, "final", "🐔")]
    assert parser.push(9552) == [Delta(0, "final", " ")]
    assert parser.close() == [Delta(0, "final", "\ufffd"), MessageEnd(0, "final", " 🐔 \ufffd", None, None, "cut")]


def test_events_come_as_soon_as_they_are_known(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer)
    header = ids_of(tokenizer, "<|channel|>final<|message|>")
    assert [parser.push(id_) for id_ in header[:-1]] == [[], []]
    assert [type(event) for event in parser.push(header[-1])] == [MessageStart]
    assert [type(event) for event in parser.push(tokenizer.encode("Hi")[0])] == [Delta]
    assert [type(event) for event in parser.push(tokenizer.special["<|return|>"])] == [MessageEnd]
    assert parser.close() == []
    assert parser.close() == []


@pytest.mark.parametrize(
    "unit", [" ", "to=", " to=f", "assistant", "json ", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "a", ":a"]
)
@pytest.mark.parametrize("begin", ["", "<|channel|>final<|message|>", "<|start|>"])
def test_time_grows_with_the_stream_and_not_faster(tokenizer: Tokenizer, unit: str, begin: str) -> None:
    def seconds(length: int) -> float:
        ids = ids_of(tokenizer, begin + unit * length + "<|message|>")
        spent = time.process_time()
        read(Parser(tokenizer, tools=TOOLS), ids)
        return time.process_time() - spent

    short = min(seconds(4_000) for _ in range(3))
    long = min(seconds(32_000) for _ in range(2))
    assert long < 8 * 4 * max(short, 0.002)


def test_a_whole_conversation_can_be_read(tokenizer: Tokenizer) -> None:
    stream = f"<|start|>system<|message|>S<|end|><|start|>user<|message|>U<|end|><|start|>assistant{FINAL}b<|return|>"
    events = read(Parser(tokenizer, start="conversation"), ids_of(tokenizer, stream))
    assert texts(events) == [("analysis", "S"), ("analysis", "U"), ("final", "b")]
    assert written(events) == stream


def test_the_known_completions_are_read(tokenizer: Tokenizer) -> None:
    ids = "200005 35644 200008 1844 31064 25 392 4827 382 220 17 659 220 17 16842 12295 81645 13 51441 6052 13 200002"
    ids += " 200006 173781 200005 17196 200008 17 659 220 17 314 220 19 13"
    assert texts(read(Parser(tokenizer), map(int, ids.split()))) == [
        ("analysis", 'User asks: "What is 2 + 2?" Simple arithmetic. Provide answer.'),
        ("final", "2 + 2 = 4."),
    ]
    ids = (
        "200005 35644 200008 1844 31064 13 200002 200006 173781 316 28 29712 170154 200005 35644 3490 200008 10848 7693"
    )
    ids += " 1243 392 173844 18583"
    (start,) = [
        e for e in read(Parser(tokenizer), map(int, ids.split())) if isinstance(e, MessageStart) and e.recipient
    ]
    assert (start.kind, start.recipient, start.channel, start.content_type) == (
        "tool_call",
        "lookup_weather",
        "analysis",
        "code",
    )
