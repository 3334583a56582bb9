"""What all tests share: how many cases they run, and the backends a kernel test runs on."""

import os
from collections.abc import Callable
from types import ModuleType

import hypothesis
import pytest

from ossature.ops import cpu, grad

FULL = os.environ.get("OSSATURE_TEST_COUNTS", "reduced") == "full"

# Reduced runs repeat the same examples, so that a failure belongs to the change at hand; full runs look for new ones.
hypothesis.settings.register_profile("reduced", deadline=None, max_examples=50, derandomize=True, database=None)
hypothesis.settings.register_profile("full", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("full" if FULL else "reduced")


@pytest.fixture(scope="session")
def counts() -> Callable[[int, int], int]:
    """`counts(reduced, full)`: how many cases to run. `make full` runs the second."""
    return lambda reduced, full: full if FULL else reduced


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked `@pytest.mark.op("attention")` on every `backend` that has this operation."""
    if "backend" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("op")
    assert marker is not None, f"{metafunc.function.__name__} uses `backend` and needs @pytest.mark.op(name)"
    (op,) = marker.args
    backends: dict[str, ModuleType] = {"torch": grad}
    if cpu.available:
        backends["cpu"] = cpu
    fitting = {name: module for name, module in backends.items() if hasattr(module, op)}
    metafunc.parametrize("backend", fitting.values(), ids=list(fitting))
