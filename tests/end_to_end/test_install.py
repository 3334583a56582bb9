"""What `pip install` puts on a machine, with a compiler and without one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The build needs the tools of this virtual environment (cmake, ninja) and otherwise only what the system has.
TOOLS = str(Path(sys.executable).parent)

REPORT = """
from ossature import ops
from ossature.ops import cpu
print(cpu.available, cpu.reason)
print(*[line for line in ops.backends() if line.op == "rmsnorm"])
"""


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    """Build the wheel from the sources, without fetching anything."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--wheel-dir", str(folder), str(ROOT)]
    path = TOOLS + os.pathsep + os.environ["PATH"]
    ran = subprocess.run(
        command, env={**os.environ, "PATH": path, **environment}, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = folder.glob("ossature-*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build_wheel(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build_wheel(tmp_path_factory.mktemp("plain"), CC="/nowhere/cc", CXX="/nowhere/c++")


def test_a_wheel_holds_one_extension_the_licence_and_every_tracked_file_of_the_package(
    compiled: zipfile.ZipFile,
) -> None:
    names = compiled.namelist()
    assert sum(name.endswith(".so") for name in names) == 1
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = [path for path in (ROOT / "src" / "ossature").rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT / "src")) for path in sources if path.suffix not in {".pyc", ".so"}}
    assert wanted <= set(names)


def test_without_a_compiler_everything_but_the_extension_is_installed(
    compiled: zipfile.ZipFile, plain: zipfile.ZipFile
) -> None:
    def files(wheel: zipfile.ZipFile) -> set[str]:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}

    (extension,) = files(compiled) - files(plain)
    assert extension.startswith("ossature/_core.")
    assert files(plain) < files(compiled)
    assert str(plain.filename).endswith("-py3-none-any.whl")


def test_without_a_compiler_the_package_computes_in_plain_torch_and_says_so(
    plain: zipfile.ZipFile, tmp_path: Path
) -> None:
    plain.extractall(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(tmp_path), *site_packages()]!r}\n{REPORT}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    available, backend = ran.stdout.splitlines()
    assert available.startswith("False ossature was installed without its compiled kernels")
    assert "apt-get install g++" in available
    assert "backend='torch'" in backend


def site_packages() -> list[str]:
    """Where the dependencies are; `-S` leaves out the hook of an editable installation of this package."""
    return [entry for entry in sys.path if entry.endswith("-packages")]
