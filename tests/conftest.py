"""What all tests share: how many cases they run, and the backends a kernel test runs on."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from ossature.ops import cpu, grad

# Started in the background by a shell, this process ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FULL = os.environ.get("OSSATURE_TEST_COUNTS", "reduced") == "full"

# Reduced runs repeat the same examples, so that a failure belongs to the change at hand; full runs look for new ones.
hypothesis.settings.register_profile("reduced", deadline=None, max_examples=50, derandomize=True, database=None)
hypothesis.settings.register_profile("full", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("full" if FULL else "reduced")


@pytest.fixture(scope="session")
def counts() -> Callable[[int, int], int]:
    """`counts(reduced, full)`: how many cases to run. `make full` runs the second."""
    return lambda reduced, full: full if FULL else reduced


@dataclass(frozen=True)
class Isa:
    """The operations of `ops.cpu` with one instruction set."""

    name: str

    def __getattr__(self, op: str) -> Callable[..., Any]:
        return partial(getattr(cpu, op), isa=self.name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked `@pytest.mark.op("attention")` on every `backend` that has this operation.

    The compiled kernels are as many backends as there are instruction sets that run here. `dense`: only those that read
    experts which are not packed.
    """
    if "backend" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("op")
    assert marker is not None, f"{metafunc.function.__name__} uses `backend` and needs @pytest.mark.op(name)"
    (op,) = marker.args
    backends: dict[str, ModuleType | Isa] = {"torch": grad}
    if not marker.kwargs.get("dense"):
        backends |= {f"cpu {isa}": Isa(isa) for isa in cpu.isas()}
    fitting = {name: module for name, module in backends.items() if hasattr(module, op)}
    metafunc.parametrize("backend", fitting.values(), ids=list(fitting))
