"""`ossature run`: one prompt, one answer."""

import json
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from ossature.cli import options

__all__ = ["command"]


def command(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask. Text from a pipe is added below it.")
    ] = None,
    model: options.Model = "mini",
    effort: options.Effort = "medium",
    system: options.System = None,
    tools: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON list of OpenAI function tools; calls are printed as JSON.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with every part of the reply.")
    ] = False,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    max_new_tokens: options.MaxNewTokens = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "bfloat16",
    numerics: options.Numerics = "exact",
    weights: options.Weights = "auto",
) -> None:
    """Answer a prompt: the answer on stdout, the reasoning dimmed on stderr."""
    messages: list[dict[str, object]] = [{"role": "user", "content": _question(prompt, _piped())}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    offered = [] if tools is None else _read_tools(tools)
    session = options.open_session(model, device=device, dtype=dtype, numerics=numerics, weights=weights)
    stream = session.stream(
        messages,
        reasoning_effort=effort,
        tools=offered,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(stream.finish()), ensure_ascii=False, indent=2))
        return
    from ossature.cli.answer import print_stream

    print_stream(stream, answer=sys.stdout, reasoning=sys.stderr)


def _piped() -> str:
    """What stands in the pipe or file behind stdin; "" for a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"the text from the pipe is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})",
            param_hint="stdin",
        ) from error


def _question(prompt: str | None, piped: str) -> str:
    parts = [part for part in (prompt or "", piped) if part.strip()]
    if not parts:
        raise typer.BadParameter(
            'there is nothing to answer; give a prompt, as in `ossature run "What is 37 + 58?"`', param_hint="PROMPT"
        )
    return "\n\n".join(parts)


def _read_tools(path: Path) -> list[dict[str, object]]:
    try:
        tools: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--tools") from error
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--tools") from error
    if not isinstance(tools, list):
        raise typer.BadParameter(f"{path} holds no JSON list of tools", param_hint="--tools")
    return cast("list[dict[str, object]]", tools)
