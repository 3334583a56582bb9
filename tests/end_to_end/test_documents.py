"""What the documents say is so: commands run, Python blocks hold, links lead somewhere, quoted output is real.

Commands run as they stand, in a copy of the repository, where ~/models/gpt-oss-20b is a tiny model.
"""

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.make_help import with_help
from docs.make_picture import COMMANDS, PICTURE, printed
from tests.documents import DOCUMENTS, ROOT, anchors, blocks, inline_commands, links, project_files, read
from tests.scripted_checkpoint import write_scripted
from tests.terminal import environment

Shell = Callable[..., str]

# The README's first line makes an environment of its own: test_the_first_line_of_the_readme_… runs it.
FIRST_LINE = 'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/ossature run "What is 37 + 58?"'
# `make test` is what runs this file. Of all make targets the recipe is read here (`make --dry-run`), and CI runs it.
NOT_HERE = {FIRST_LINE, "make test", "make full", "make check", "make build", "make peers"}
# Commands that take long, and what is run instead: the same, smaller.
SHORT = {
    "python -m recipes.mini.train --out recipes/mini/run": (
        "python -m recipes.mini.train --out recipes/mini/run --steps 2 --batch-tokens 600"
    ),
    "python -m recipes.mini.export --run recipes/mini/run --to src/ossature/data/mini": (
        "python -m recipes.mini.export --run recipes/mini/run --to recipes/mini/run/exported"  # mini is asked later
    ),
    "python -m recipes.mini.evaluate --json recipes/mini/run/evaluation.json": (  # one question each, answers cut off
        "python -c 'from recipes.mini import evaluate as e; e._LONGEST = 4; e.main()'"
        " --count 1 --json recipes/mini/run/evaluation.json"
    ),
    "python -m recipes.mini.evaluate": "python -m recipes.mini.evaluate --help",  # the line above runs it
    "python -m recipes.mini.train": "python -m recipes.mini.train --help",
    "python -m recipes.mini.report": "python -m recipes.mini.report --help",
    "python bench/make_checkpoint.py 20b DIR": "python bench/make_checkpoint.py tiny DIR",  # 13.8 GB
    "python bench/oracle.py --seeds 32 --wide": "python bench/oracle.py --seeds 1",
    "ossature bench": "ossature bench --batch 1 --depth 0 --prefill 128",
    "ossature bench -m ~/models/gpt-oss-20b": "ossature bench -m ~/models/gpt-oss-20b --quick",
    # What docs/performance.md measures takes minutes, and 14 to 26 GB of weights.
    "python bench/peers.py --resident-only --samples 7 --json peers.json": "python bench/peers.py --help",
    "python bench/peers.py --transformers --samples 2 --json transformers.json": "python bench/peers.py --help",
    "ossature bench -m ~/models/gpt-oss-20b --numerics fast --weights resident": (
        "ossature bench -m ~/models/gpt-oss-20b --numerics fast --weights resident --quick"
    ),
    "ossature bench -m ~/models/gpt-oss-20b --numerics exact --weights mapped": (
        "ossature bench -m ~/models/gpt-oss-20b --numerics exact --weights mapped --quick"
    ),
    "python bench/start.py -m ~/models/gpt-oss-20b": "python bench/start.py -m ~/models/gpt-oss-20b --runs 1",
    "python bench/start.py -m ~/models/gpt-oss-20b --leave 16": "python bench/start.py --help",
    "python bench/numerics.py": "python bench/numerics.py --positions 64",
    "python bench/numerics.py -m ~/models/gpt-oss-20b": (
        "python bench/numerics.py -m ~/models/gpt-oss-20b --positions 64"
    ),
    "python bench/make_checkpoint.py 120b DIR --layers 8": "python bench/make_checkpoint.py tiny DIR2",
    "python bench/streaming.py -m DIR": "python bench/streaming.py --help",
    "python bench/kernels.py": "python bench/kernels.py --help",
    "python bench/rmsnorm.py": "python -c 'from bench import rmsnorm as b; del b.SIZES[\"from memory\"]; b.main()'",
}
INPUT = {"ossature chat": b"What is 37 + 58?\n"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the files of this one, one of them changed."""
    copy = tmp_path_factory.mktemp("documents") / "ossature"
    for path in project_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    (copy / "recipes/mini/run").mkdir(exist_ok=True)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "As it is"]):
        subprocess.run([*git, *arguments], cwd=copy, check=True, env=_environment(copy))
    write_scripted(copy / "models" / "gpt-oss-20b")
    with (copy / "NOTES").open("w") as file:
        file.write("something to describe\n")
    subprocess.run([*git, "add", "--intent-to-add", "NOTES"], cwd=copy, check=True, env=_environment(copy))
    return copy


def _environment(home: Path, **changes: str) -> dict[str, str]:
    """A person's environment: a home of their own and no settings of git."""
    return environment(HOME=str(home), GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull, **changes)


@pytest.fixture(scope="module")
def shell(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs a line in the checkout, with the `ossature` and `python` of these tests; returns what it prints."""
    home = tmp_path_factory.mktemp("home")
    write_scripted(home / "models" / "gpt-oss-20b")
    for name, arguments in (("ossature", "-m ossature "), ("python", "")):
        (home / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
        (home / name).chmod(0o755)
    variables = _environment(home, PATH=f"{home}:{os.environ['PATH']}")

    def run(line: str, stdin: bytes = b"") -> str:
        call = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(call, cwd=checkout, env=variables, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr.decode()[-2000:]}"
        return done.stdout.decode()

    return run


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "sh")])
def test_every_command_of_a_document_runs(document: str, shell: Shell) -> None:
    for block in blocks(document, "sh"):
        for line in block.commands:
            if line not in NOT_HERE:
                assert shell(SHORT.get(line, line), INPUT.get(line, b"")) or "recipes" in line, f"{line}: silence"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", sorted({line for name in DOCUMENTS for line in inline_commands(name)}))
def test_every_command_in_running_text_exists_with_its_options(line: str, shell: Shell, checkout: Path) -> None:
    program, *arguments = shlex.split(line.removeprefix("time "))
    match program.rpartition("/")[2]:
        case "make":
            assert shell(f"{line} --dry-run")
        case "run":
            assert os.access(checkout / program, os.X_OK)
        case "ossature" if '"' not in line:
            known = shell(f"ossature {arguments[0] if arguments[0].isalpha() else ''} --help")
            assert [word for word in arguments if word.startswith("--") and word not in known] == []
        case "pytest" | "ls":
            paths = [word for word in arguments if "/" in word]
            assert paths
            assert [path for path in paths if not (checkout / path).exists()] == []
        case "pip" | "pre-commit":  # test_install.py builds the package; pre-commit wants a checkout of its own
            assert line in ("pip install", "pip install .", ".venv/bin/pre-commit install")
        case _:
            assert shell(SHORT.get(line, line))


def test_the_first_line_of_the_readme_installs_and_answers(checkout: Path) -> None:
    """The dependencies are those of this environment: pip finds them installed, and needs no network."""
    assert blocks("README.md", "sh")[0].commands == [FIRST_LINE]
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    installed = os.pathsep.join(entry for entry in sys.path if entry.endswith("-packages"))
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0: pip reads this variable the other way round
    variables = _environment(checkout, PATH=programs, PYTHONPATH=installed, **offline)
    done = subprocess.run(["bash", "-c", FIRST_LINE], cwd=checkout, env=variables, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-3000:]
    assert "95" in done.stdout.decode().splitlines()[-1]
    (package,) = checkout.glob(".venv/lib/python3*/site-packages/ossature/__init__.py")
    assert package.is_file()


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "python")])
def test_the_python_of_a_document_runs_from_its_first_block_to_its_last(document: str, checkout: Path) -> None:
    program = "\n".join(block.text for block in blocks(document, "python"))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_every_block_is_in_a_language_that_is_checked() -> None:
    for document in DOCUMENTS:
        languages = set(re.findall(r"^```(.*)$", read(document), re.MULTILINE)[::2])
        assert languages <= {"sh", "python", "text", ""}, f"{document}: write commands as ```sh, without a prompt"
        for block in blocks(document, ""):
            assert not re.search(r"^(\$|make|ossature|python3?|pip) ", block.text, re.MULTILINE), document


def test_every_command_with_a_rule_of_its_own_stands_in_a_document() -> None:
    lines = {line for name in DOCUMENTS for block in blocks(name, "sh") for line in block.commands}
    lines |= {line for name in DOCUMENTS for line in inline_commands(name)}
    assert set(SHORT) | set(INPUT) | NOT_HERE <= lines


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(document: str) -> None:
    for path, anchor in links(document):
        assert path.exists(), f"{document}: {path}"
        assert not anchor or anchor in anchors(path), f"{document}: {path}#{anchor}"


def test_the_help_in_the_documents_is_what_the_program_prints() -> None:
    text = read("docs/run.md")
    assert text.count("<!-- ossature ") == 4
    assert with_help(text) == text, "run `python docs/make_help.py`"


def test_the_picture_shows_what_mini_says() -> None:
    drawn = html.unescape(re.sub(r"<[^>]*>", "", PICTURE.read_text(encoding="utf-8"))).replace("\xa0", " ")
    for line in COMMANDS:
        for said in [f"$ {line}", *re.sub(r"\x1b\[\d*m", "", printed(line)).splitlines()]:
            assert said in drawn, f"{said!r} is not in the picture; run `python docs/make_picture.py`"
    assert "@font-face" not in drawn


def test_no_document_waits_for_a_figure() -> None:
    for document in DOCUMENTS:
        assert not re.findall(r"@[A-Z0-9_]+@", read(document)), document


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(read("README.md").splitlines()) <= 150


def test_no_file_names_a_place_that_only_its_author_has() -> None:
    place = re.compile(r"(?<![\w.~])/(?:work|root|home|Users|opt)/[\w.-]|https?://(?!example\.)[\w.-]+:\d+|file:/{3}")
    for path in project_files():
        if (text := path.read_bytes()).find(0) < 0:
            found = place.search(text.decode())
            assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_every_address_is_on_a_host_that_is_meant() -> None:
    meant = {"arxiv.org", "example.org", "github.com", "huggingface.co", "no-color.org", "pytorch.org"}
    meant |= {"www.apache.org", "www.textualize.io", "www.w3.org"}
    for path in project_files():
        if (text := path.read_bytes()).find(0) < 0:
            hosts = set(re.findall(r"https?://([\w.-]+\w)", text.decode()))
            assert hosts <= meant, f"{path.relative_to(ROOT)}: {hosts - meant}"
