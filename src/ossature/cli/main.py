"""`ossature`: finds the command, and turns what went wrong into one line and an exit code.

0 done, 1 failed, 2 wrong use, 130 interrupted. An exception that is not an OssatureError is a bug of ours and keeps its
traceback.
"""

import errno
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, TextIO

import typer

from ossature.cli import bench, chat, info, run
from ossature.cli.terminal import printable
from ossature.errors import OssatureError

__all__ = ["app", "main"]

NEXT = """
Try next:
  ossature run "What is 37 + 58?"     an answer from mini, the model inside this package
  ossature chat                       talk to it
  ossature info                       what this machine computes with, and why
  ossature bench                      how fast it runs here, beside what this machine can do
  ossature run -m DIRECTORY "…"       the same with a gpt-oss checkpoint
"""

_OUTPUT_IS_GONE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)

app = typer.Typer(
    name="ossature",
    help="Run open-weight language models on hardware you own.",
    add_completion=False,
    rich_markup_mode=None,  # loading rich would take a third of the time that --help may take
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.command)
app.command("chat")(chat.command)
app.command("info")(info.command)
app.command("bench")(bench.command)


def _print_version(asked: bool) -> None:
    if asked:
        import ossature

        typer.echo(f"ossature {ossature.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help().rstrip() + "\n" + NEXT.rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    _prepare_streams()
    try:
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        code: object = app(args=arguments, prog_name="ossature", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        context: typer.Context | None = getattr(error, "ctx", None)
        path = context.command_path if context else "ossature"
        return _fail(f"{error.format_message().rstrip('.')}. `{path} --help` lists what it takes.", error.exit_code)
    except OssatureError as error:
        return _fail(str(error), 1)
    except OSError as error:
        if error.errno not in _OUTPUT_IS_GONE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at exit
        reader_left = error.errno == errno.EPIPE
        return 1 if reader_left else _fail(f"the output cannot be written: {error.strerror}", 1)
    return code if isinstance(code, int) else 0


def _prepare_streams() -> None:
    """Let no answer fail on where it goes: a closed stream takes nothing, a narrow encoding shows ?."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # it stays open as long as the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(text: str, code: int) -> int:
    line = " ".join(text.split())
    typer.echo(f"ossature: error: {printable(line, sys.stderr)}", err=True)
    return code
