"""Directories that are no checkpoint, disagree with themselves or lead elsewhere: refused at once, naming the file."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossature.config import Layout
from tests.damage import assert_refused, edit, join, split
from tests.random_checkpoint import small_config, write_random

INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00006.safetensors"
SINKS = "model.layers.1.self_attn.sinks"
ORIGINAL_SINKS = "block.1.attn.sinks"

Damage = Callable[[Path], object]


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change a JSON file of the directory."""

    def damage(directory: Path) -> None:
        raw = json.loads((directory / name).read_text())
        change(raw)
        (directory / name).write_text(json.dumps(raw))

    return damage


def _config(**changes: object) -> Damage:
    return _json("config.json", lambda raw: raw.update(changes))


def _weight_map(**changes: object) -> Damage:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return _json(INDEX, lambda raw: raw["weight_map"].update(named))


def _sinks_in(file: object) -> Damage:
    return _json(INDEX, lambda raw: raw["weight_map"].update({SINKS: file}))


def _text(name: str, text: bytes) -> Damage:
    return lambda directory: (directory / name).write_bytes(text)


def _replace(name: str, make: Callable[[Path], object]) -> Damage:
    """Put something else where a file was."""

    def damage(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        make(directory / name)

    return damage


def _link(name: str, target: str) -> Damage:
    return _replace(name, lambda path: path.symlink_to(target))


def _moved_out(name: str) -> Damage:
    """A link to the very file, which now lies beside the directory."""

    def damage(directory: Path) -> None:
        shutil.move(directory / name, directory.parent / "outside")
        (directory / name).symlink_to("../outside")

    return damage


def _out_through_a_linked_directory(directory: Path) -> None:
    shutil.move(directory / SHARD, directory.parent / SHARD)
    (directory / "up").symlink_to("..")
    (directory / SHARD).symlink_to(f"up/{SHARD}")


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the name of a socket is short: reach the directory by its descriptor
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 * 10**12)


def _twice(directory: Path) -> None:
    """A tensor in the second file too, which is sound in itself."""
    files = sorted(directory.glob("*.safetensors"))
    header, data = split(files[0])
    other, more = split(files[1])
    name = next(name for name in header if name != "__metadata__")
    start, stop = header[name]["data_offsets"]
    other[name] = header[name] | {"data_offsets": [len(more), len(more) + stop - start]}
    join(files[1], other, more + data[start:stop])


def _renamed(name: str, new: str) -> Damage:
    def damage(directory: Path) -> None:
        for file in directory.glob("*.safetensors"):
            if name in split(file)[0]:
                edit(lambda header: header.update({new: header.pop(name)}))(file)

    return damage


def _only_pickles(directory: Path) -> None:
    for file in directory.glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    (directory / INDEX).rename(directory / "pytorch_model.bin.index.json")


def _without_weights(directory: Path) -> None:
    for file in (*directory.glob("*.safetensors"), directory / INDEX):
        file.unlink()


def _crowded(directory: Path) -> None:
    for number in range(4_097):
        (directory / f"{number}").touch()


def _no_directory(directory: Path) -> None:
    shutil.rmtree(directory)


def _file_instead(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.touch()


def _original_elsewhere(directory: Path) -> None:
    shutil.move(directory, directory.parent / "elsewhere")
    directory.mkdir()
    (directory / "original").symlink_to("../elsewhere")


DEEP = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"

# what is wrong -> how it is brought about, the file that the error names, and what it says
HUGGINGFACE: dict[str, tuple[Damage, str, str]] = {
    "no such directory": (_no_directory, "", "no such directory"),
    "a file, not a directory": (_file_instead, "", "not a directory"),
    "an empty directory": (lambda d: [file.unlink() for file in d.iterdir()], "", "no checkpoint here"),
    "a config without weights": (_without_weights, "", "no checkpoint here; looked for model.safetensors"),
    "pickles only": (_only_pickles, "model-00001-of-00006.bin", "a pickle file, which can run any code"),
    "4,097 files": (_crowded, "", "more than 4096 entries"),
    "original is a link": (_original_elsewhere, "original", "a symbolic link to '../elsewhere'"),
    "no config": (lambda d: (d / "config.json").unlink(), "config.json", "no such file"),
    "config of no JSON": (_text("config.json", b"vocab_size: 211"), "config.json", "not valid JSON"),
    "config that is a list": (_text("config.json", b"[]"), "config.json", "a JSON object was expected, not list"),
    "config that is empty": (_text("config.json", b""), "config.json", "not valid JSON"),
    "config in UTF-16": (_text("config.json", '{"a": 1}'.encode("utf-16")), "config.json", "not valid JSON"),
    "config nested deep": (_text("config.json", DEEP), "config.json", "nested 5001 deep"),
    "config with a key twice": (_text("config.json", b'{"a": 1, "a": 2}'), "config.json", "the key 'a' appears twice"),
    "config of 10 TB": (_replace("config.json", _sparse), "config.json", "bytes of JSON; at most 1048576"),
    "config is a FIFO": (_replace("config.json", os.mkfifo), "config.json", "a FIFO"),
    "config is a link outside": (_link("config.json", "/etc/passwd"), "config.json", "'/etc/passwd', outside"),
    "config of 10^9 layers": (_config(num_hidden_layers=10**9), "config.json", "num_hidden_layers is 1000000000"),
    "config of 10^9 experts": (_config(num_local_experts=10**9), "config.json", "num_local_experts is 1000000000"),
    "config of 1e400 layers": (
        _text("config.json", b'{"num_hidden_layers": 1e400}'),
        "config.json",
        "the number 1e400 is too large",
    ),
    "config without a size": (
        _json("config.json", lambda raw: raw.pop("head_dim")),
        "config.json",
        "head_dim: missing",
    ),
    "config with a layer more": (
        _config(num_hidden_layers=4, layer_types=["full_attention"] * 4),
        INDEX,
        "model.layers.3.input_layernorm.weight and 18 more are missing",
    ),
    "config with a layer less": (
        _config(num_hidden_layers=2, layer_types=["full_attention"] * 2),
        INDEX,
        "'model.layers.2.input_layernorm.weight' is no tensor",
    ),
    "config with other sizes": (_config(vocab_size=212), "model-00001-of-00006.safetensors", "implies [212, 96]"),
    "config of another dtype": (_config(dtype="bfloat16"), "model-00001-of-00006.safetensors", "F32; expected BF16"),
    "config without quantization": (
        _json("config.json", lambda raw: raw.pop("quantization_config")),
        INDEX,
        "is quantization_config missing from config.json?",
    ),
    "generation config of no JSON": (_text("generation_config.json", b"{"), "generation_config.json", "not valid JSON"),
    "generation config mistyped": (
        _text("generation_config.json", b'{"temperature": "hot"}'),
        "generation_config.json",
        "temperature must be a number",
    ),
    "generation config is a FIFO": (
        _replace("generation_config.json", os.mkfifo),
        "generation_config.json",
        "a FIFO, where a regular file",
    ),
    "index of no JSON": (_text(INDEX, b"{"), INDEX, "not valid JSON"),
    "index of 2 MB": (_text(INDEX, b"{" + b" " * 2_000_000 + b"}"), INDEX, "2000002 bytes of JSON"),
    "index nested deep": (_text(INDEX, DEEP), INDEX, "nested 5001 deep"),
    "index without a map": (_json(INDEX, lambda raw: raw.pop("weight_map")), INDEX, "weight_map is missing"),
    "index with a list for a map": (_json(INDEX, lambda raw: raw.update(weight_map=[])), INDEX, "not an object"),
    "index with an empty map": (_json(INDEX, lambda raw: raw.update(weight_map={})), INDEX, "59 more are missing"),
    "index without a tensor": (_json(INDEX, lambda raw: raw["weight_map"].pop(SINKS)), INDEX, f"{SINKS} is missing"),
    "index with a tensor more": (_weight_map(model__extra=SHARD), INDEX, "'model.extra' is no tensor"),
    "index naming a file above": (
        _sinks_in(f"../checkpoint/{SHARD}"),
        INDEX,
        f"{SINKS} is said to be in '../checkpoint",
    ),
    "index naming an absolute path": (_sinks_in("/etc/passwd"), INDEX, "in '/etc/passwd'"),
    "index naming a subdirectory": (_sinks_in(f"a/{SHARD}"), INDEX, f"in 'a/{SHARD}'"),
    "index naming NUL": (_sinks_in("a\0.safetensors"), INDEX, r"a\x00.safetensors"),
    "index naming a hidden file": (_sinks_in(".safetensors"), INDEX, "in '.safetensors'"),
    "index naming a pickle": (_sinks_in("model.bin"), INDEX, "in 'model.bin'"),
    "index naming a number": (_sinks_in(7), INDEX, "in '7'"),
    "index naming a file that is not there": (_sinks_in("other.safetensors"), "other.safetensors", "no such file"),
    "index naming another shard": (_sinks_in(SHARD), SHARD, f"{SINKS} is missing; the index says it is in this file"),
    "index beside a single file": (
        lambda d: shutil.copy(d / SHARD, d / "model.safetensors"),
        "",
        f"both {INDEX} and model.safetensors",
    ),
    "shards without an index": (lambda d: (d / INDEX).unlink(), "", f"neither {INDEX} nor model.safetensors"),
    "a shard missing": (lambda d: (d / SHARD).unlink(), SHARD, "no such file"),
    "a shard in place of another": (
        lambda d: shutil.copy(d / SHARD, d / SHARD.replace("2", "3", 1)),
        SHARD.replace("2", "3", 1),
        f"is also in {SHARD}",
    ),
    "a tensor in two shards": (_twice, SHARD, "is also in model-00001"),
    "a shard is a directory": (_replace(SHARD, lambda path: path.mkdir()), SHARD, "a directory, where a regular file"),
    "a shard is a FIFO": (_replace(SHARD, os.mkfifo), SHARD, "a FIFO, where a regular file"),
    "a shard is a socket": (_replace(SHARD, _socket), SHARD, "a socket, where a regular file"),
    "a shard is sparse and has 10 TB": (_replace(SHARD, _sparse), SHARD, "says its header has 0 bytes"),
    "a shard is a link to a device": (_link(SHARD, "/dev/zero"), SHARD, "'/dev/zero', outside the checkpoint"),
    "a shard is a link to the terminal": (_link(SHARD, "/dev/tty"), SHARD, "'/dev/tty', outside the checkpoint"),
    "a shard is a link outside": (_moved_out(SHARD), SHARD, "'../outside', outside the checkpoint"),
    "a shard is a link through a linked directory": (_out_through_a_linked_directory, SHARD, "outside the checkpoint"),
    "a shard is a link to nothing": (_link(SHARD, "nothing"), SHARD, "no such file"),
    "a shard is a link to itself": (_link(SHARD, SHARD), SHARD, "symbolic link"),
    "a shard is a link to a FIFO inside": (
        lambda d: (os.mkfifo(d / "fifo"), _link(SHARD, "fifo")(d)),
        SHARD,
        "a FIFO, where a regular file",
    ),
}

ORIGINAL: dict[str, tuple[Damage, str, str]] = {
    "a tensor in two files": (_twice, "model--00002-of-00007.safetensors", "is also in model--00001"),
    "a file missing": (lambda d: (d / "model--00003-of-00007.safetensors").unlink(), "", "more are missing"),
    "a file more": (
        lambda d: join(d / "more.safetensors", {"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
        "more.safetensors",
        "'x' is no tensor",
    ),
    "Hugging Face names": (
        _renamed(ORIGINAL_SINKS, SINKS),
        "model--00003-of-00007.safetensors",
        f"'{SINKS}' is no tensor",
    ),
    "dtypes that disagree": (
        _json("dtypes.json", lambda raw: raw.update({ORIGINAL_SINKS: "FP4"})),
        "dtypes.json",
        f"{ORIGINAL_SINKS} is said to be 'FP4'; the file holds 'F32'",
    ),
    "scales said to be bytes": (
        _json("dtypes.json", lambda raw: raw.update({"block.0.mlp.mlp1_weight.scales": "U8"})),
        "dtypes.json",
        "is said to be 'U8'; the file holds 'UE8'",
    ),
    "dtypes without a tensor": (
        _json("dtypes.json", lambda raw: raw.pop(ORIGINAL_SINKS)),
        "dtypes.json",
        f"{ORIGINAL_SINKS} is missing",
    ),
    "dtypes with a tensor more": (
        _json("dtypes.json", lambda raw: raw.update({"x": "BF16"})),
        "dtypes.json",
        "'x' is no tensor",
    ),
    "config without a key": (
        _json("config.json", lambda raw: raw.pop("rope_ntk_beta")),
        "config.json",
        "rope_ntk_beta: missing",
    ),
    "config of 10^9 layers": (_config(num_hidden_layers=10**9), "config.json", "num_hidden_layers is 1000000000"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    """A checkpoint of several files in each layout."""
    root = tmp_path_factory.mktemp("sound")
    layouts: tuple[Layout, Layout] = ("huggingface", "original")
    return {layout: write_random(root / layout, small_config(), layout=layout) for layout in layouts}


def _assert_refused(damage: Damage, file: str, says: str, source: Path, root: Path) -> None:
    directory = Path(shutil.copytree(source, root / "checkpoint"))
    damage(directory)
    assert_refused(directory, directory / file, says)


@pytest.mark.parametrize(("damage", "file", "says"), HUGGINGFACE.values(), ids=HUGGINGFACE.keys())
def test_a_bad_directory_is_refused_at_once(
    damage: Damage, file: str, says: str, sound: dict[Layout, Path], tmp_path: Path
) -> None:
    _assert_refused(damage, file, says, sound["huggingface"], tmp_path)


@pytest.mark.parametrize(("damage", "file", "says"), ORIGINAL.values(), ids=ORIGINAL.keys())
def test_a_bad_original_directory_is_refused_at_once(
    damage: Damage, file: str, says: str, sound: dict[Layout, Path], tmp_path: Path
) -> None:
    _assert_refused(damage, file, says, sound["original"], tmp_path)
