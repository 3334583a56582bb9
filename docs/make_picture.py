"""Draw docs/run.svg: what a person sees who asks `mini` a question. `python docs/make_picture.py`.

The command runs for real; only its two streams are coloured as a terminal shows them.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

QUESTIONS = (
    ["run", "What is 37 + 58?"],
    ["run", "--effort", "high", "Asha has the red key. Ben has the blue key. Which key does Asha have?"],
    ["run", "Who are you?"],
)


def main() -> None:
    """Ask the questions and write the picture."""
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=100, file=nowhere)
        for arguments in QUESTIONS:
            command = [sys.executable, "-m", "ossature", *arguments]
            done = subprocess.run(command, capture_output=True, check=True, text=True)
            console.print(Text(f"$ ossature {shlex.join(arguments)}", style="bold"))
            console.print(Text(done.stderr.rstrip(), style="dim"))
            console.print(Text(done.stdout.rstrip() + "\n"))
        svg = console.export_svg(title="ossature run", unique_id="ossature")
    # The picture is shown where nothing may be fetched: no font from a network.
    start, end = svg.index("    @font-face"), svg.index("    .ossature-matrix")
    Path(__file__).with_name("run.svg").write_text(svg[:start] + svg[end:])


if __name__ == "__main__":
    main()
