"""`ossature info`: what a model is, and what this machine computes it with."""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ossature.cli.terminal import printable
from ossature.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from ossature.checkpoint import Checkpoint

__all__ = ["command", "machine", "model_facts"]

PACKAGES = ("torch", "numpy", "tokenizers", "tiktoken", "typer", "rich")
LICENCES = ("LICENSE", "LICENCE", "COPYING", "USAGE_POLICY", "NOTICE")


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A checkpoint's directory, or mini.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read the scales of all experts and check them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a model's config, sizes, licence and tokenizer, and who computes each operation here and why."""
    facts = machine()
    from ossature.checkpoint import open_checkpoint
    from ossature.session import MINI, find_model

    try:
        checkpoint = open_checkpoint(find_model(model or MINI))
        facts["model"] = model_facts(checkpoint)
        if verify:
            facts["verified"] = f"{checkpoint.verify()} tensors of scales hold only numbers"
    except CheckpointError as error:
        if model is not None:
            raise
        facts["model"] = {"error": str(error)}  # nobody asked for it; the rest is still worth reading
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        for line in _lines(facts):
            typer.echo(printable(line, sys.stdout))


def machine() -> dict[str, object]:
    """Versions, processor, and the backend of every operation with its reason."""
    import ossature
    from ossature import ops
    from ossature.ops import cpu
    from ossature.plan import hardware

    here = hardware()
    return {
        "ossature": ossature.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": here.processor,
            "instruction_sets": list(here.instruction_sets),
            "cores": here.cores,
            "memory_bytes": here.memory_bytes,
        },
        "kernels": {"compiled": cpu.available, "instruction_sets": list(cpu.isas()), "reason": cpu.reason},
        "backends": [backend._asdict() for backend in ops.backends()],
    }


def model_facts(checkpoint: "Checkpoint") -> dict[str, object]:
    """What a checkpoint says about itself, without reading its weights."""
    from ossature.checkpoint import bytes_by_part, parameter_counts

    config = checkpoint.config
    counts = parameter_counts(config)
    return {
        "directory": str(checkpoint.directory),
        "layout": checkpoint.layout,
        "files": [file.name for file in checkpoint.files],
        "parameters": {"total": counts.total, "active": counts.active},
        "bytes": {"total": checkpoint.total_bytes, **bytes_by_part(config)},
        "tokenizer": _tokenizer(checkpoint),
        "licence_files": licence_files(checkpoint.directory),
        "generation": checkpoint.generation.to_dict(),
        "config": config.to_dict(),
    }


def licence_files(directory: Path) -> dict[str, str]:
    """Licence and policy files beside a checkpoint (for `original/`, also above it), each with the licence it holds."""
    found: dict[str, str] = {}
    above = [directory.parent] if directory.name == "original" else []
    for folder in [directory, *above]:
        for file in sorted(folder.iterdir()):
            if file.stem.upper() in LICENCES and file.is_file() and file.name not in found:
                found[file.name] = _recognise(file)
    return found


def _recognise(file: Path) -> str:
    with file.open("rb") as opened:
        opening = " ".join(opened.read(4096).decode(errors="replace").split())
    for name, words in (("Apache-2.0", "Apache License Version 2.0"), ("MIT", "MIT License")):
        if words in opening:
            return name
    return "not recognised"


def _tokenizer(checkpoint: "Checkpoint") -> dict[str, object]:
    from ossature.chat import load_tokenizer

    try:
        tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.config.vocab_size)
    except ConfigError as error:
        return {"error": str(error)}
    return {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _lines(facts: Mapping[str, object]) -> list[str]:
    """The facts for a person to read, one line each."""
    here = _mapping(facts["machine"])
    packages = ", ".join(f"{name} {found}" for name, found in _mapping(facts["packages"]).items())
    memory = cast(int, here["memory_bytes"]) / 2**30
    lines = [
        f"ossature    {facts['ossature']} on Python {facts['python']}, {packages}",
        f"machine     {here['system']}, {here['processor']}, {here['cores']} cores, {memory:.1f} GiB",
        f"kernels     {_mapping(facts['kernels'])['reason']}",
        "",
        f"{'operation':<12}{'computed by':<18}why",
    ]
    for backend in cast("list[Mapping[str, str]]", facts["backends"]):
        lines.append(f"{backend['op']:<12}{backend['backend']:<18}{backend['reason']}")
    lines.append("")
    model = _mapping(facts["model"])
    lines += _model_lines(model) if "error" not in model else [f"model       {model['error']}"]
    if "verified" in facts:
        lines.append(f"verified    {facts['verified']}")
    return lines


def _model_lines(model: Mapping[str, object]) -> list[str]:
    parameters, config = _mapping(model["parameters"]), _mapping(model["config"])
    sizes = cast("dict[str, int]", model["bytes"])
    tokenizer, generation = _mapping(model["tokenizer"]), _mapping(model["generation"])
    kinds = cast("list[str]", config["layer_types"])
    windows = kinds.count("sliding_attention")
    parts = ", ".join(f"{part} {_bytes(size)}" for part, size in sizes.items() if part != "total")
    licences = _mapping(model["licence_files"])
    sampled = f"temperature {generation['temperature']:g}, top_p {generation['top_p']:g}"
    stored = "MXFP4" if "quantization_config" in config else config.get("dtype", "as stored")
    files = len(cast("list[str]", model["files"]))
    return [
        f"model       {model['directory']}: {model['layout']} layout, {files} file{'s' if files > 1 else ''}",
        f"parameters  {_count(parameters['total'])}, {_count(parameters['active'])} of them active for a token",
        f"bytes       {_bytes(sizes['total'])}: {parts}",
        f"layers      {len(kinds)}, {windows} of them with a window of {config['sliding_window']}",
        f"experts     {config['num_experts_per_tok']} of {config['num_local_experts']} for a token, stored as {stored}",
        f"attention   {config['num_attention_heads']} heads of {config['head_dim']},"
        f" {config['num_key_value_heads']} for keys and values; hidden size {config['hidden_size']}",
        f"context     {config['max_position_embeddings']} tokens",
        f"vocabulary  {config['vocab_size']} tokens",
        f"tokenizer   {tokenizer.get('error') or tokenizer['name']}",
        f"generation  {sampled if generation['do_sample'] else 'greedy'}",
        f"licence     {', '.join(f'{file} ({name})' for file, name in licences.items()) or 'no licence file found'}",
    ]


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value)


def _bytes(size: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size} B"


def _count(value: object) -> str:
    count = cast(int, value)
    return f"{count / 1e9:.2f} billion" if count >= 10**9 else f"{count / 1e6:.2f} million"
