"""The compiled extension: built, loadable, what the Python side believes it to be, and reported when it is absent."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ossature import _core
from ossature.errors import BackendError
from ossature.ops import cpu


def test_the_extension_was_built_and_offers_the_scalar_kernels_everywhere() -> None:
    assert cpu.available, cpu.reason
    assert cpu.isas()[-1] == "scalar"
    assert cpu.isa == cpu.isas()[0]
    assert cpu.isa in cpu.reason


def test_usable_instruction_sets_are_the_built_ones_in_the_same_order() -> None:
    built, usable = _core.built(), _core.usable()
    assert [isa for isa in built if isa in usable] == usable
    assert cpu.isas() == tuple(usable)


def test_the_extension_itself_refuses_an_instruction_set_it_cannot_run() -> None:
    for isa in {"amx", "avx512", "avx2", "neon", "sse9"} - set(_core.usable()):
        with pytest.raises(ValueError, match=isa):
            _core.kernels(isa)


def test_one_file_serves_every_python_from_3_12_on() -> None:
    spec = importlib.util.find_spec("ossature._core")
    assert spec is not None
    assert spec.origin is not None
    tag = ".abi3.so" if sys.version_info >= (3, 12) else f".cpython-3{sys.version_info.minor}-"
    assert tag in spec.origin


def test_dtype_codes_are_those_of_the_extension() -> None:
    assert cpu.DTYPES == {torch.float32: _core.FLOAT32, torch.bfloat16: _core.BFLOAT16}
    assert cpu._INT8 == _core.INT8


def test_the_stub_names_exactly_what_the_extension_has() -> None:
    assert cpu.__file__ is not None
    stub = ast.parse((Path(cpu.__file__).parent.parent / "_core.pyi").read_text())
    declared: set[str] = set()
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
    assert declared == {name for name in dir(_core) if not name.startswith("_")}


ABSENT = """
import sys
sys.modules["ossature._core"] = None  # what the import system sees when the file is not there
import torch
from ossature.errors import BackendError
from ossature.ops import cpu
assert not cpu.available and cpu.isa == "none" and cpu.isas() == ()
print(cpu.reason)
try:
    cpu.rmsnorm(torch.ones(2, 7), torch.ones(7), 1e-5)
except BackendError as error:
    print(error)
"""


def test_an_absent_extension_is_reported_with_what_to_do() -> None:
    ran = subprocess.run([sys.executable, "-c", ABSENT], capture_output=True, text=True, check=True)
    reason, error = ran.stdout.splitlines()
    assert "without its compiled kernels" in reason
    assert "apt-get install g++" in reason
    assert error.endswith(reason)


@pytest.mark.parametrize("name", ["simd.h", "rmsnorm.cpp"])
def test_kernel_sources_emit_no_code_under_a_shared_name(request: pytest.FixtureRequest, name: str) -> None:
    # A template or inline function outside the namespace of the instruction set would be in every object under one
    # name, and the linker could keep the AVX-512 copy for a machine without it.
    text = (request.config.rootpath / "csrc" / name).read_text()
    assert "namespace OSSATURE_ISA {" in text
    assert not re.findall(r"std::(?!u?int\d+_t)", text)


def test_asking_for_a_kernel_by_a_wrong_name_is_a_backend_error() -> None:
    with pytest.raises(BackendError, match="'sse9'"):
        cpu.rmsnorm(torch.ones(2, 7), torch.ones(7), 1e-5, isa="sse9")
