"""Every command in a document is executed, every link leads somewhere, every make target exists."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import ossature
from tests.terminal import environment

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/mini/REPORT.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Lines that this suite is itself a part of, or that install what it runs in: `.ci/run` executes them from a clean
# checkout (`make test`), and test_install.py builds and installs the package.
ELSEWHERE = (
    re.compile(r"make (test|full|check|build)"),
    re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install \."),
)

# What stands for something the reader has, and what the test puts there.
MODEL = re.compile(r"(~|)/models/gpt-oss-20b")
MINI = Path(ossature.__file__).parent / "data" / "mini"

# A recipe's commands run whole, but small, and write beside the repository.
SMALL = {
    "recipes.mini.train": "--steps 2 --batch-tokens 600",
    "recipes.mini.evaluate": "--count 1",
    "recipes.mini.report": "--to {scratch}",
    "bench.text": "",
    "bench.oracle": "--seeds 1",
    "bench.rmsnorm": "",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:60]}"


BLOCKS = [Block(path, *found) for path in DOCUMENTS for found in FENCE.findall(path.read_text())]


def commands(block: Block) -> list[str]:
    """The command lines of a shell block: all of `sh`, those after a `$` of `console`; without trailing comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [stripped for line in lines if (stripped := re.sub(r"\s+# .*", "", line).strip())]


@pytest.fixture
def shell(tmp_path: Path):
    """Runs a line as the reader would, in the repository, with this environment's `ossature` and `python`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("ossature", "-m ossature "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}:{environment()['PATH']}"

    def run(line: str) -> subprocess.CompletedProcess[bytes]:
        call = ["bash", "-euo", "pipefail", "-c", line]
        return subprocess.run(call, cwd=ROOT, env=environment(PATH=path), input=b"", capture_output=True, check=False)

    return run


def adapted(line: str, scratch: Path) -> str:
    """The line with the reader's model replaced by mini, and a recipe made small and kept out of the repository."""
    line = MODEL.sub(str(MINI), line).replace("recipes/mini/run", f"{scratch}/run")
    line = line.replace("--to src/ossature/data/mini", f"--to {scratch}/mini")
    for module, options in SMALL.items():
        if re.search(rf"-m {re.escape(module)}\b", line):
            line += " " + options.format(scratch=scratch)
    return line


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("sh", "console")], ids=str)
def test_every_command_of_a_document_runs(block, shell, tmp_path):
    for line in commands(block):
        if ELSEWHERE.match(line):
            continue
        done = shell(adapted(line, tmp_path))
        assert done.returncode == 0, f"{line}\n{done.stderr.decode()[-2000:]}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_every_python_block_of_a_document_runs(block):
    done = subprocess.run([sys.executable, "-c", block.text], cwd=ROOT, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_every_block_says_what_language_it_is_in():
    for path in DOCUMENTS:
        languages = re.findall(r"^```(.*)$", path.read_text(), re.MULTILINE)[::2]
        assert set(languages) <= {"sh", "console", "python", "text", ""}, path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), target


def test_every_make_target_of_a_document_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        for code in re.findall(r"`(make [^`]*)`", document.read_text()):
            words = [word for word in code.split()[1:] if "=" not in word]
            assert set(words) <= targets, f"{document.name}: {code}"


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
