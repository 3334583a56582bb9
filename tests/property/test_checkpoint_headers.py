"""Random damage to headers: refused with CheckpointError, or read exactly as the safetensors library reads it."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors

from ossature.checkpoint import open_checkpoint
from ossature.checkpoint.names import stored
from ossature.errors import CheckpointError
from tests.random_checkpoint import small_config, write_random

CONFIG = small_config(
    vocab_size=37,
    hidden_size=64,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
)

NUMBERS = [
    *"-1 0 1 2 31 32 64 65 4294967296 9223372036854775807 9223372036854775808 18446744073709551616 1e3 1E400".split(),
    *'-0 0.0 64.0 NaN Infinity true null "64" [] {} [64] 00 0x40'.split(),
    *("", "9" * 30, "9" * 5000),
]
STRINGS = [
    *r".. / \u0000 \ud800 \" é __metadata__ BF16 F16 F32 F64 U8 I8 dtype shape data_offsets lm_head.weight".split(),
    *("", "a" * 300),
]
SYNTAX = b'{}[]",:0123456789-+.eEtrufalsn\\/ \t\n\r\x00\x7f\x80\xff'

Mutator = Callable[[random.Random, bytes], bytes]


def _span(rng: random.Random, text: bytes, longest: int = 40) -> tuple[int, int]:
    start = rng.randrange(len(text) + 1)
    return start, min(len(text), start + rng.randrange(longest))


def _flip(rng: random.Random, text: bytes) -> bytes:
    place = rng.randrange(len(text))
    return text[:place] + bytes([text[place] ^ 1 << rng.randrange(8)]) + text[place + 1 :]


def _overwrite(rng: random.Random, text: bytes) -> bytes:
    place = rng.randrange(len(text))
    return text[:place] + bytes([rng.choice(SYNTAX)]) + text[place + 1 :]


def _insert(rng: random.Random, text: bytes) -> bytes:
    place = rng.randrange(len(text) + 1)
    return text[:place] + bytes(rng.choices(SYNTAX, k=rng.randrange(1, 4))) + text[place:]


def _delete(rng: random.Random, text: bytes) -> bytes:
    start, stop = _span(rng, text)
    return text[:start] + text[stop:]


def _repeat(rng: random.Random, text: bytes) -> bytes:
    start, stop = _span(rng, text, 400)
    return text[:stop] + text[start:stop] * rng.choice((1, 1, 2, 50)) + text[stop:]


def _number(rng: random.Random, text: bytes) -> bytes:
    return _token(rng, text, rb"(?<=[\[,])\d+", rng.choice(NUMBERS))


def _neighbour(rng: random.Random, text: bytes) -> bytes:
    """A number a little off: the ranges and shapes that are nearly right."""
    matches = list(re.finditer(rb"(?<=[\[,])\d+", text)) or [re.compile(b"").match(text)]
    match = rng.choice([match for match in matches if match])
    value = int(match.group() or 0) + rng.choice((-64, -8, -2, -1, 1, 2, 8, 64))
    return text[: match.start()] + str(value).encode() + text[match.end() :]


def _string(rng: random.Random, text: bytes) -> bytes:
    return _token(rng, text, rb'(?<=")[\w.]+(?=")', rng.choice(STRINGS))


def _token(rng: random.Random, text: bytes, pattern: bytes, new: str) -> bytes:
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    match = rng.choice(matches)
    return text[: match.start()] + new.encode("utf-8", "surrogatepass") + text[match.end() :]


def _swap(rng: random.Random, text: bytes) -> bytes:
    """Two strings change places: dtypes, or the names of two tensors."""
    matches = list(re.finditer(rb'(?<=")[\w.]+(?=")', text))
    if len(matches) < 2:
        return text
    first, second = sorted(rng.sample(matches, 2), key=lambda match: match.start())
    between = text[first.end() : second.start()]
    return text[: first.start()] + second.group() + between + first.group() + text[second.end() :]


def _entries(rng: random.Random, text: bytes) -> bytes:
    """Whole entries shuffled, dropped or doubled."""
    try:
        pairs = list(json.loads(text).items())
    except (ValueError, RecursionError, AttributeError):
        return text
    rng.shuffle(pairs)
    if pairs and rng.random() < 0.3:
        pairs.pop()
    if pairs and rng.random() < 0.2:
        pairs.append(pairs[0])
    return ("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}").encode()


def _spaces(rng: random.Random, text: bytes) -> bytes:
    """Blank space between tokens, which changes nothing."""
    return re.sub(rb"(?<=[,:\[])", lambda _: rng.choice((b"", b"", b" ", b"\n", b"\t")), text)


def _nest(rng: random.Random, text: bytes) -> bytes:
    place, depth = rng.randrange(len(text)), rng.choice((3, 20, 2000))
    return text[:place] + rng.choice((b"[", b'{"a":')) * depth + text[place:]


MUTATORS: tuple[Mutator, ...] = (
    _flip, _overwrite, _insert, _delete, _repeat, _number, _neighbour, _string, _swap, _entries, _spaces, _nest,
)  # fmt: skip


def _mutant(seed: int, header: bytes, data: bytes) -> bytes:
    """A file whose header has one to three faults; at times its length or the bytes behind it are wrong too."""
    rng = random.Random(seed)
    for mutate in rng.choices(MUTATORS, k=rng.choice((1, 1, 1, 2, 3))):
        header = mutate(rng, header) or b" "
    length = len(header)
    if rng.random() < 0.7:
        header += b" " * (-len(header) % 8)
        length = len(header)
    elif rng.random() < 0.3:
        length = rng.choice((0, 1, length - 1, length + 1, rng.randrange(1 << 21), rng.randrange(1 << 64), 1 << 63))
    content = length.to_bytes(8, "little") + header + data
    if rng.random() < 0.1:
        content = (
            content[: rng.randrange(len(content))] if rng.random() < 0.5 else content + bytes(rng.randrange(1, 99))
        )
    return content


def _refusal(directory: Path, content: bytes) -> str | None:
    """What the CheckpointError says; None for a file that we and the library read alike, as the manifest has it."""
    try:
        checkpoint = open_checkpoint(directory)
    except CheckpointError as error:
        return str(error)
    read = dict(safetensors.deserialize(content))
    assert set(read) == set(checkpoint.names)
    for name, expected in stored(CONFIG, "huggingface").items():
        tensor = checkpoint.tensor(name)
        assert tensor.shape == expected.shape
        assert (tensor.dtype, list(tensor.shape)) == (read[name]["dtype"], read[name]["shape"])
        assert tensor.array.tobytes() == bytes(read[name]["data"])
    return None


@pytest.mark.timeout(3600)
def test_mutated_headers_are_refused_or_mean_what_they_say(tmp_path: Path, counts: Callable[[int, int], int]) -> None:
    directory = write_random(tmp_path / "c", CONFIG, max_shard_bytes=1 << 30)
    file = directory / "model.safetensors"
    sound = file.read_bytes()
    end = 8 + int.from_bytes(sound[:8], "little")
    outcomes: Counter[str] = Counter()
    for seed in range(counts(5_000, 100_000)):
        content = _mutant(seed, sound[8:end].rstrip(), sound[end:])
        file.write_bytes(content)
        begin = time.process_time()
        refusal = _refusal(directory, content)
        assert time.process_time() - begin < 1, seed
        assert refusal is None or str(file) in refusal, seed
        outcomes["accepted" if refusal is None else "refused"] += 1
    assert outcomes["accepted"] > 0.01 * outcomes.total()
    assert outcomes["refused"] > 0.5 * outcomes.total()
