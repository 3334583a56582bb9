"""The rules of the repository that no other tool checks: who may import what, how long things are, what is public."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ossature"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted(path for folder in ("bench", "recipes") for path in (ROOT / folder).rglob("*.py"))
KERNELS = sorted(path for path in (ROOT / "csrc").iterdir() if path.suffix in {".h", ".cpp"})

TORCH_FREE = ["ossature", "ossature.chat", "ossature.checkpoint", "ossature.config", "ossature.mxfp4"]
TORCH_FREE += ["ossature.errors", "ossature.cli.main"]
PUBLIC_ROOMS = ["ossature", "ossature.errors", "ossature.config", "ossature.mxfp4", "ossature.chat"]
PUBLIC_ROOMS += [
    "ossature.checkpoint",
    "ossature.ops",
    "ossature.model",
    "ossature.engine",
    "ossature.session",
    "ossature.plan",
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def trees(paths: list[Path]) -> Iterator[tuple[str, ast.Module]]:
    for path in paths:
        yield name_of(path), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> set[str]:
    """Dotted names that the file imports, at the top or inside a function; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_a_torch_free_module_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_only_ops_cpu_touches_the_extension() -> None:
    users = {name for name, tree in trees(MODULES) if "ossature._core" in imports(tree)}
    assert users == {"src/ossature/ops/cpu.py"}


def test_only_triton_files_import_triton_and_only_when_called() -> None:
    for name, tree in trees(MODULES):
        if any(module.split(".")[0] == "triton" for module in imports(tree)):
            assert Path(name).name.startswith("triton_"), name
            top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            assert not any(module.split(".")[0] == "triton" for module in imports(top)), name


def test_only_the_command_line_reads_environment_variables() -> None:
    for name, tree in trees(MODULES):
        read = imports(tree) & {"os.environ", "os.getenv", "os.environb"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}:
                read.add(node.attr)
        assert not read or name.startswith("src/ossature/cli/"), f"{name} reads {read}"


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    forbidden = {"skip", "skipif", "xfail", "importorskip", "skipTest", "SkipTest"}
    for name, tree in trees(TESTS):
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {module.rsplit(".", 1)[-1] for module in imports(tree)}
        assert not used & forbidden, name


def test_every_file_is_named_after_a_subject() -> None:
    nouns = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
    for path in [*MODULES, *TESTS, *SCRIPTS, *KERNELS]:
        assert not nouns & {path.stem, path.parent.name}, name_of(path)


def test_no_file_is_longer_than_400_lines() -> None:
    for path in [*MODULES, *TESTS, *SCRIPTS, *KERNELS]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 400, f"{name_of(path)}: {lines} lines"


def test_no_function_is_longer_than_60_lines() -> None:
    for name, tree in trees([*MODULES, *TESTS, *SCRIPTS]):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 60, f"{name}: {node.name} has {lines} lines"


@pytest.mark.parametrize("room", PUBLIC_ROOMS)
def test_a_room_exports_exactly_what_it_lists(room: str) -> None:
    module = importlib.import_module(room)
    listed: list[str] = module.__all__
    assert len(listed) == len(set(listed)), f"{room}.__all__ has a name twice"
    for name in listed:
        assert getattr(module, name) is not None
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == room}
    public = {name for name in own if not name.startswith("_")}
    assert public <= set(listed), f"{room} defines {public - set(listed)} without listing it"


def test_the_repository_names_no_package_index_and_no_private_path() -> None:
    forbidden = re.compile(r"--(extra-)?index-url|--find-links|^/(work|root|home)/", re.MULTILINE)
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci" / "run", *(ROOT / "tools").iterdir()]
    for path in files:
        assert not forbidden.search(path.read_text(encoding="utf-8")), name_of(path)


def test_continuous_integration_runs_the_test_line_of_the_readme() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test$", run, re.MULTILINE)
    assert re.search(r"^make test$", readme, re.MULTILINE)
