"""Draw docs/run.svg: what a person sees who asks `mini` a question. `python docs/make_picture.py`.

The commands run for real, at a terminal of their own; the picture is what they wrote to it.
"""

import os
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.*, when run as a script

from tests.terminal import Terminal, command

PICTURE = Path(__file__).with_name("run.svg")
COMMANDS = (
    'ossature run "What is 37 + 58?"',
    'ossature run --effort high "Asha has the red key. Ben has the blue key. Which key does Asha have?"',
    'ossature run "Who are you?"',
)


def printed(line: str) -> str:
    """What a command line writes to a terminal, colours included."""
    with Terminal(command(*shlex.split(line)[1:])) as terminal:
        if terminal.exit_code() != 0:
            raise SystemExit(f"{line} failed: {terminal.seen}")
        return terminal.seen.replace("\r\n", "\n")


def main() -> None:
    """Run the commands and write the picture."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=100, file=nowhere, force_terminal=True)
        for line in COMMANDS:
            console.print(Text(f"$ {line}", style="bold"))
            console.print(Text.from_ansi(printed(line) + "\n"))
        svg = console.export_svg(title="ossature run", unique_id="ossature")
    # The picture is shown where nothing may be fetched: no font from a network.
    start, end = svg.index("    @font-face"), svg.index("    .ossature-matrix")
    PICTURE.write_text(svg[:start] + svg[end:])


if __name__ == "__main__":
    main()
