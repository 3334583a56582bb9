"""The documents as a reader uses them: their code blocks, commands, links, and the files that belong to the project."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Block", "anchors", "blocks", "inline_commands", "links", "project_files", "read"]

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAM = r"time|make|ossature|python3?|pip|pytest|ls|\.ci/run|\.venv/bin/[\w-]+"
_INLINE = re.compile(rf"`((?:{_PROGRAM}) [^`]+|make|\.ci/run)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def project_files() -> list[Path]:
    """Every file below the root that `.gitignore` does not leave out; works without git."""
    patterns = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    patterns.append("/.git")

    def kept(folder: str, names: list[str]) -> list[str]:
        below = {name: f"/{Path(folder, name).relative_to(ROOT)}" for name in names}
        return sorted(name for name in names if not any(fnmatch(below[name], p) or fnmatch(name, p) for p in patterns))

    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = kept(folder, folders)
        found += [Path(folder, name) for name in kept(folder, files)]
    return found


DOCUMENTS = {str(path.relative_to(ROOT)): path for path in project_files() if path.suffix == ".md"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language behind the fence ("" without), and the text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block that are neither empty nor comments; continued lines are one."""
        lines = (re.sub(r"\s+# .*", "", line).strip() for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def read(document: str) -> str:
    """The text of a document, by its path below the root."""
    return DOCUMENTS[document].read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[Block]:
    """The fenced blocks of a document in one language ("" for those that name none), in order."""
    return [Block(*found) for found in _FENCE.findall(read(document)) if found[0] == language]


def inline_commands(document: str) -> list[str]:
    """What running text and tables have between backquotes and begins like a command line of this project."""
    return list(dict.fromkeys(_INLINE.findall(_FENCE.sub("", read(document)))))


def links(document: str) -> Iterator[tuple[Path, str]]:
    """Targets of links and pictures below the root: the file (the document itself for "#…"), and the anchor or ""."""
    for target in _LINK.findall(_FENCE.sub("", read(document))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (DOCUMENTS[document].parent / path if path else DOCUMENTS[document]), anchor


def anchors(path: Path) -> set[str]:
    """The anchors that a viewer of Markdown gives to the headings of a file."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
