"""Tokenizers, bundled and from tokenizer.json: what they promise about text from people, and how fast they are."""

import json
import time
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from ossature.chat import Tokenizer, load_tokenizer, vocabulary
from ossature.errors import ConfigError, MessageError

SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>"]
SPECIALS += ["<|message|>", "<|call|>"]
WORDS = ["hello", "Ġhello", "Ġworld", "system", "user"]


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    return load_tokenizer("o200k_harmony")


@pytest.fixture(scope="module")
def uncut() -> tiktoken.Encoding:
    """tiktoken alone, without our cutting."""
    ranks = {token: rank for rank, token in enumerate(vocabulary.tokens_in_rank_order())}
    return tiktoken.Encoding("uncut", pat_str=vocabulary.SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})


def write_tokenizer(directory: Path, *, special: bool = True, specials: list[str] = SPECIALS) -> Path:
    """A small byte-level tokenizer.json: all bytes, some words, harmony's control tokens."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *WORDS]
    model = models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([tokenizers.AddedToken(text, special=special, normalized=False) for text in specials])
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("small")))


@pytest.fixture(params=["bundled", "small"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def test_the_bundled_vocabulary_is_the_published_file_byte_for_byte() -> None:
    published = vocabulary.published_file()  # checks the sha256 of what it unpacks
    assert len(published) == 3_613_922
    assert published.splitlines()[-1] == b"IGNvY29z 199997"
    with pytest.raises(ConfigError, match="sha256"):
        vocabulary.pack(published[:-1])


def test_the_bundled_file_is_what_packing_the_published_file_gives() -> None:
    packed = vocabulary.pack(vocabulary.published_file())
    assert len(packed) < 900_000
    assert vocabulary.unpack(packed) == vocabulary.tokens_in_rank_order()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("hello world", [24912, 2375]),
        ("<|start|>", [27, 91, 5236, 91, 29]),
        (" to=functions.f", [316, 28, 44580, 1196]),
        ("commentary", [12606, 815]),
        (" 🐔", [9552, 238, 242]),
        ("", []),
    ],
)
def test_known_texts_have_their_known_ids(bundled: Tokenizer, text: str, ids: list[int]) -> None:
    assert bundled.encode(text) == ids
    assert bundled.decode(ids) == text


def test_the_special_tokens_have_the_ids_of_the_model(bundled: Tokenizer) -> None:
    known = {"<|startoftext|>": 199998, "<|endoftext|>": 199999, "<|return|>": 200002, "<|constrain|>": 200003}
    known |= {"<|channel|>": 200005, "<|start|>": 200006, "<|end|>": 200007, "<|message|>": 200008, "<|call|>": 200012}
    assert {text: bundled.special[text] for text in known} == known
    assert sorted(bundled.special.values()) == list(range(199998, 201088))
    assert bundled.vocab_size == 201088
    assert bundled.stop_ids == (200002, 200012, 199999)


def test_no_text_becomes_a_special_token(tokenizer: Tokenizer) -> None:
    special = set(tokenizer.special.values())
    for text in tokenizer.special:
        for around in (text, f" {text}", f"{text}{text}", f"a{text}b", f"<|end|>{text}\n", text.upper(), text[:-1]):
            ids = tokenizer.encode(around)
            assert not special.intersection(ids), around
            assert tokenizer.decode(ids) == around


@given(text=st.text(max_size=80))
def test_any_text_comes_back_and_has_no_special_token(bundled: Tokenizer, small: Tokenizer, text: str) -> None:
    for tokenizer in (bundled, small):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not set(tokenizer.special.values()).intersection(ids)


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(MessageError, match=r"character 2 .* U\+D800"):
        tokenizer.encode("ab\ud800")


def test_ids_without_a_token_decode_to_something_visible(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([-1, 10**9]) == "<|reserved_-1|><|reserved_1000000000|>"
    assert tokenizer.decode([tokenizer.special["<|start|>"], *tokenizer.encode("x")]) == "<|start|>x"


def test_reserved_ids_decode(bundled: Tokenizer) -> None:
    assert bundled.decode([200014, 201087, 201088]) == "<|reserved_200014|><|reserved_201087|><|reserved_201088|>"
    assert bundled.decode(range(199_990, 201_100))


def test_invalid_utf8_decodes_to_replacement_characters(bundled: Tokenizer) -> None:
    assert bundled.decode([132990, 9552]) == bundled.decode_bytes([132990, 9552]).decode(errors="replace")
    assert "\ufffd" in bundled.decode([9552, 9552])
    assert bundled.decode_bytes([9552]) == b" \xf0\x9f"


RUNS = [
    "a",
    "A",
    " ",
    "\t",
    "\n",
    "\r\n",
    "漢",
    "7",
    "!",
    "\u00a0",
    " \n",
    "aA",
    " x",
    "\u0301",
    "'",
    "👋",
    "Hi, 漢 7\n",
]


@pytest.mark.parametrize("unit", RUNS, ids=repr)
def test_two_million_characters_of_anything_are_encoded_in_linear_time(bundled: Tokenizer, unit: str) -> None:
    assert_linear(bundled, unit, 2_000_000)


@pytest.mark.parametrize("unit", RUNS[::3], ids=repr)
def test_a_tokenizer_json_is_encoded_in_linear_time(small: Tokenizer, unit: str) -> None:
    assert_linear(small, unit, 400_000)


def assert_linear(tokenizer: Tokenizer, unit: str, length: int) -> None:
    """The time for a character grows little while the text grows 32 times; by squares it would grow 32 times.

    It does grow: tiktoken keeps the merges of one unbroken run in a heap, which outgrows the processor's caches.
    """
    seconds(tokenizer, unit, 1000)
    short = min(seconds(tokenizer, unit, length // 32) for _ in range(3))
    long = seconds(tokenizer, unit, length)
    assert long < 32 * max(short, 0.002) * 16
    assert long < length * 5e-6


def seconds(tokenizer: Tokenizer, unit: str, length: int) -> float:
    text = (unit * length)[:length]
    begin = time.process_time()
    ids = tokenizer.encode(text)
    spent = time.process_time() - begin
    assert len(ids) >= length / 128
    return spent


@pytest.mark.parametrize("tail", ["", "x", "!", "\n", "\nx", " \n\n  x", "漢", "7"], ids=repr)
@pytest.mark.parametrize("head", ["", "x", "!", "!\n", "7", "\n"], ids=repr)
@pytest.mark.parametrize("space", [" ", " \t\u3000"], ids=repr)
def test_long_white_space_is_cut_where_the_split_pattern_cuts(
    bundled: Tokenizer, uncut: tiktoken.Encoding, head: str, space: str, tail: str
) -> None:
    text = head + (space * 120_000)[:120_000] + tail  # long enough to be cut here, short enough for tiktoken
    assert bundled.encode(text) == uncut.encode_ordinary(text)


def test_a_directory_without_tokenizer_gets_the_bundled_one_only_if_it_fits(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path, vocab_size=201088).name == "o200k_harmony"
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json\. Copy the one"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path, vocab_size=1024)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer .*missing"):
        load_tokenizer(tmp_path / "missing")


def test_a_tokenizer_with_more_ids_than_the_checkpoint_has_rows_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    size = load_tokenizer(tmp_path).vocab_size
    assert size == 256 + len(WORDS) + len(SPECIALS)
    assert load_tokenizer(tmp_path, vocab_size=size).vocab_size == size
    with pytest.raises(ConfigError, match=f"has only {size - 1} embedding rows"):
        load_tokenizer(tmp_path, vocab_size=size - 1)
    with pytest.raises(ConfigError, match="has only 1000 embedding rows"):
        load_tokenizer("o200k_harmony", vocab_size=1000)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"model": {"type": "BPE"}}', "\x00", '{"version": "1.0"}']
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="only byte-level BPE"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_would_lose_text_is_refused(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path) / "tokenizer.json"
    raw = json.loads(file.read_text())
    del raw["model"]["vocab"]["a"]
    file.write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="no token for 1 of the 256 bytes"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_lets_text_become_a_control_token_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, special=False)
    with pytest.raises(ConfigError, match=r"turns the plain text .* into a control token"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_the_control_tokens_loads_but_does_not_render(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, specials=SPECIALS[:-1]))
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    with pytest.raises(ConfigError, match=r"has no <\|call\|>"):
        _ = tokenizer.control


def test_truncation_and_padding_of_a_file_do_not_touch_the_text(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path) / "tokenizer.json"
    raw = json.loads(file.read_text())
    raw["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    raw["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
    raw["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    file.write_text(json.dumps(raw))
    assert len(load_tokenizer(tmp_path).encode("a b c d e")) == 9
