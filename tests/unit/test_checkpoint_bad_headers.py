"""Damaged or hostile safetensors files: each is refused at once, in words that name the file and the tensor."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ossature.checkpoint import open_checkpoint
from tests.damage import (
    Header,
    append,
    assert_refused,
    cut,
    edit,
    entry,
    join,
    length,
    raw_header,
    rename,
    replace_text,
    split,
)
from tests.random_checkpoint import small_config, write_random

NORM = "model.norm.weight"
SINKS = "model.layers.1.self_attn.sinks"
SCALES = "model.layers.2.mlp.experts.down_proj_scales"
BLOCKS = "model.layers.2.mlp.experts.down_proj_blocks"
Q = "model.layers.0.self_attn.q_proj.weight"


def _first_two(header: Header) -> tuple[str, str]:
    names = sorted((name for name in header if name != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    return names[0], names[1]


def _overlap(header: Header) -> None:
    first, second = (header[name] for name in _first_two(header))
    second["data_offsets"] = [offset - first["data_offsets"][1] for offset in second["data_offsets"]]


def _hole(file: Path) -> None:
    header, data = split(file)
    first = _first_two(header)[0]
    for name, tensor in header.items():
        if name not in ("__metadata__", first):
            tensor["data_offsets"] = [offset + 8 for offset in tensor["data_offsets"]]
    join(file, header, data[: header[first]["data_offsets"][1]] + b"\0" * 8 + data[header[first]["data_offsets"][1] :])


def _drop(name: str) -> Callable[[Path], None]:
    """Take a tensor out, with its bytes, so that nothing else is wrong."""

    def damage(file: Path) -> None:
        header, data = split(file)
        start, stop = header.pop(name)["data_offsets"]
        for key, tensor in header.items():
            if key != "__metadata__" and tensor["data_offsets"][0] >= stop:
                tensor["data_offsets"] = [offset - (stop - start) for offset in tensor["data_offsets"]]
        join(file, header, data[:start] + data[stop:])

    return damage


def _add(name: str, shape: list[int]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        header, data = split(file)
        count = int(np.prod(shape))
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [len(data), len(data) + count]}
        join(file, header, data + bytes(count))

    return damage


def _nan_scale(file: Path) -> None:
    header, data = split(file)
    changed = bytearray(data)
    changed[header[SCALES]["data_offsets"][0] + 5 * 3 + 2] = 255  # groups = 5: expert 0, row 3, group 2
    join(file, header, bytes(changed))


def _misaligned(file: Path) -> None:
    header, data = split(file)
    text = json.dumps(header).encode()
    join(file, text + b" " * (1 - len(text) % 2), data)


def _twice(header: Header) -> bytes:
    text = json.dumps(header)
    return f'{text[:-1]},"{SINKS}":{json.dumps(header[SINKS])}}}'.encode()


def _long_rank(header: Header) -> None:
    header[NORM]["shape"] = [1] * 100_000 + header[NORM]["shape"]


def _text(text: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(text)


def _many_empty(header: Header) -> None:
    header.update({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)})


Damage = Callable[[Path], object]

# what is wrong -> how it is brought about, and what the error says beside the file's name
CASES: dict[str, tuple[Damage, str]] = {
    "truncated by one byte": (cut(lambda n: n - 1), "the file has"),
    "truncated to half": (cut(lambda n: n // 2), "incomplete"),
    "truncated within the header": (cut(lambda _: 500), "a header of"),
    "truncated within the length": (cut(lambda _: 7), "7 bytes, too short"),
    "empty": (cut(lambda _: 0), "0 bytes, too short"),
    "one byte too long": (append(b"\0"), "belong to no tensor"),
    "sparse and 10 TB": (cut(lambda _: 10 * 10**12), "belong to no tensor"),
    "header of 0 bytes": (length(0), "says its header has 0 bytes"),
    "header of 1 MiB and a byte": (length((1 << 20) + 1), "says its header has 1048577 bytes"),
    "header of 2^63 bytes": (length(1 << 63), "9223372036854775808"),
    "header of 2^64 - 1 bytes": (length((1 << 64) - 1), "18446744073709551615"),
    "header longer than the file": (length(1 << 20), "a header of 1048576 bytes in a file of"),
    "header of 100 MB of spaces": (raw_header(lambda _: b"{}" + b" " * 10**8), "says its header has 100000002"),
    "header of 1 MiB of brackets": (
        raw_header(lambda _: b'{"a":[' + b"[]," * 340_000 + b"0]}"),
        "a: expected an object",
    ),
    "header of 1 MiB of keys": (
        raw_header(lambda _: b'{"0":0' + b"".join(b',"%d":0' % i for i in range(1, 100_000)) + b"}"),
        "100000 tensors; at most",
    ),
    "header of 10,000 empty tensors": (edit(_many_empty), "at most 8192"),
    "header that is no JSON": (raw_header(lambda _: b"{tensors!"), "not valid JSON"),
    "header that is a list": (raw_header(lambda _: b'["a"] '), "begins with"),
    "header that begins with a space": (raw_header(lambda h: b" " + json.dumps(h).encode()), "begins with"),
    "header with bytes behind the object": (raw_header(lambda h: json.dumps(h).encode() + b"{}"), "Extra data"),
    "header that is not UTF-8": (
        raw_header(lambda h: json.dumps(h).replace("lm_head", "\xff").encode("latin-1")),
        "utf-8",
    ),
    "nested 100,000 deep": (raw_header(lambda _: b'{"a":' + b"[" * 100_000), "nested 100001 deep"),
    "nested deep behind a quoted bracket": (
        raw_header(lambda _: rb'{"]\"]]]]":' + b'{"}":' * 1000 + b"0" + b"}" * 1001),
        "nested 1001 deep",
    ),
    "nested deep behind an open string": (raw_header(lambda _: b'{"a' + rb"\"[" * 300_000), "not valid JSON"),
    "a zip file, as torch.save writes": (_text(b"PK\x03\x04" + bytes(200)), "Is this a safetensors file"),
    "a pickle": (_text(b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c" + bytes(200)), "Is this a safetensors file"),
    "a GGUF file": (_text(b"GGUF\x03\0\0\0" + bytes(200)), "Is this a safetensors file"),
    "a tensor twice": (raw_header(_twice), f"the key '{SINKS}' appears twice"),
    "a dtype twice": (replace_text('"dtype"', '"dtype": "U8", "dtype"'), "the key 'dtype' appears twice"),
    "a tensor missing": (_drop(SINKS), f"{SINKS} is missing"),
    "all tensors missing": (lambda file: join(file, {}, b""), "59 more are missing"),
    "a tensor too many": (_add("model.layers.3.self_attn.sinks", [6]), "'model.layers.3.self_attn.sinks' is no tensor"),
    "an empty tensor too many": (_add("nothing", [0]), "'nothing' is no tensor"),
    "a tensor renamed": (rename(SINKS, f"{SINKS}s"), f"'{SINKS}s' is no tensor"),
    "tensors that overlap": (edit(_overlap), "overlaps"),
    "a hole between tensors": (_hole, "leaves a hole after"),
    "a range that runs backwards": (entry(NORM, data_offsets=[192, 0]), f"{NORM}: data_offsets must be"),
    "a range of one number": (entry(NORM, data_offsets=[0]), f"{NORM}: data_offsets must be"),
    "a range from -1": (entry(NORM, data_offsets=[-1, 191]), f"{NORM}: data_offsets must be"),
    "a range to 2^63": (entry(NORM, data_offsets=[0, 1 << 63]), f"{NORM}: data_offsets must be"),
    "a range from false": (entry(NORM, data_offsets=[False, 192]), f"{NORM}: data_offsets must be"),
    "a range from 0.0": (entry(NORM, data_offsets=[0.0, 192]), f"{NORM}: data_offsets must be"),
    "a range from -0": (replace_text('"data_offsets": [0', '"data_offsets": [-0'), "data_offsets must be"),
    "a range to 1e400": (replace_text('"data_offsets": [0', '"data_offsets": [1e400'), "too large"),
    "a range to NaN": (replace_text('"data_offsets": [0', '"data_offsets": [NaN'), "NaN is not JSON"),
    "a range to a number of 10^5 digits": (
        replace_text('"data_offsets": [0', '"data_offsets": [' + "9" * 10**5),
        "not valid JSON",
    ),
    "a range longer than the shape": (entry(NORM, data_offsets=[0, 200]), f"{NORM}: BF16 [96] takes 192 bytes"),
    "a shape with -1": (entry(NORM, shape=[-1, -96]), f"{NORM}: shape must be"),
    "a shape with true": (entry(NORM, shape=[96, True]), f"{NORM}: shape must be"),
    "a shape with 96.0": (entry(NORM, shape=[96.0]), f"{NORM}: shape must be"),
    "a shape that is text": (entry(NORM, shape="96"), f"{NORM}: shape must be"),
    "a shape whose product is 2^64 + ...": (entry(NORM, shape=[1 << 33, 1 << 33]), f"{NORM}: BF16 [8589934592"),
    "a shape of rank 100,000": (edit(_long_rank), f"{NORM}: shape must be a list of at most 8"),
    "a shape transposed": (entry(Q, shape=[96, 120]), f"{Q} has shape [96, 120]; config.json implies [120, 96]"),
    "a shape flattened": (entry(Q, shape=[96 * 120]), f"{Q} has shape [11520]"),
    "a shape with an axis more": (entry(Q, shape=[1, 120, 96]), f"{Q} has shape [1, 120, 96]"),
    "an unknown dtype": (entry(NORM, dtype="F8_E4M3"), f"{NORM}: dtype is 'F8_E4M3'"),
    "a dtype in small letters": (entry(NORM, dtype="bf16"), f"{NORM}: dtype is 'bf16'"),
    "a dtype that is a number": (entry(NORM, dtype=16), f"{NORM}: dtype is '16'"),
    "another dtype of the same size": (entry(Q, dtype="F16"), f"{Q} is F16; expected BF16"),
    "a vector of another dtype": (entry(SINKS, dtype="F16"), f"{SINKS} is F16; expected BF16 or F32"),
    "blocks as bfloat16": (entry(BLOCKS, dtype="BF16", shape=[5, 96, 5, 8]), f"{BLOCKS} has shape [5, 96, 5, 8]"),
    "a matrix in float32": (entry(Q, dtype="F32", shape=[60, 96]), f"{Q} has shape [60, 96]"),
    "a name with ..": (rename(SINKS, "../../etc/passwd"), "'../../etc/passwd' is no tensor name"),
    "a name that is a path": (rename(SINKS, "/etc/passwd"), "'/etc/passwd' is no tensor name"),
    "a name with two dots inside": (rename(SINKS, "model..norm"), "'model..norm' is no tensor name"),
    "a name with NUL": (rename(SINKS, f"{SINKS}\0"), r"sinks\x00' is no tensor name"),
    "a name with an escape sequence": (rename(SINKS, "\x1b[2J"), r"'\x1b[2J' is no tensor name"),
    "a name with a lone surrogate": (rename(SINKS, "\ud800"), r"'\ud800' is no tensor name"),
    "an empty name": (rename(SINKS, ""), "'' is no tensor name"),
    "a name of 1 MB": (rename(SINKS, "a" * 10**6), "aaa...' is no tensor name"),
    "an entry with a key more": (entry(NORM, strides=[1]), f"{NORM}: expected an object with exactly"),
    "an entry with a key less": (edit(lambda h: h[NORM].pop("shape")), f"{NORM}: expected an object with exactly"),
    "an entry that is a list": (edit(lambda h: h.update({NORM: []})), f"{NORM}: expected an object with exactly"),
    "metadata that is a number": (edit(lambda h: h.update(__metadata__=7)), "__metadata__ must map"),
    "metadata of numbers": (edit(lambda h: h.update(__metadata__={"a": 7})), "__metadata__ must map"),
    "metadata with a lone surrogate": (edit(lambda h: h.update(__metadata__={"a": "\ud800"})), "__metadata__ must map"),
    "metadata twice": (replace_text("{", '{"__metadata__": {}, '), "'__metadata__' appears twice"),
    "tensors that cannot be mapped": (_misaligned, "write the file again"),
    "a scale byte of 255": (_nan_scale, f"{SCALES} has the scale byte 255 (NaN) at expert 0, row 3, group 2"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in one file, in bfloat16."""
    directory = tmp_path_factory.mktemp("sound") / "checkpoint"
    write_random(directory, small_config(dtype="bfloat16"), max_shard_bytes=1 << 30)
    open_checkpoint(directory)
    return directory


@pytest.mark.parametrize(("damage", "says"), CASES.values(), ids=CASES.keys())
def test_a_damaged_file_is_refused_at_once(damage: Damage, says: str, sound: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    file = directory / "model.safetensors"
    damage(file)
    assert_refused(directory, file, says)
