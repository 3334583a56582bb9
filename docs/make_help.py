"""Write what `--help` prints into docs/run.md, between `<!-- ossature … --help -->` and `<!-- end -->`.

`python docs/make_help.py`
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.*, when run as a script

from tests.terminal import ossature

DOCUMENT = Path(__file__).with_name("run.md")
_BLOCK = re.compile(r"<!-- ossature ([a-z]+ --help) -->\n.*?<!-- end -->", re.DOTALL)


def with_help(document: str) -> str:
    """`document` with each marked block holding what its command prints now, 80 columns wide."""

    def block(match: re.Match[str]) -> str:
        shown = ossature(*match[1].split(), COLUMNS="80")
        return f"<!-- ossature {match[1]} -->\n```text\n{shown.stdout.decode()}```\n<!-- end -->"

    return _BLOCK.sub(block, document)


if __name__ == "__main__":
    DOCUMENT.write_text(with_help(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
