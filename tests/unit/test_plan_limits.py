"""The machine's limits: what the system tells, what is measured, and what is refused."""

import ctypes
import os
import time
from typing import Any

import pytest

from ossature import _core
from ossature.errors import BackendError, ConfigError
from ossature.ops import cpu
from ossature.plan import Limits, bandwidth, dot_peaks, hardware, measure_limits, read_bandwidth
from ossature.plan.hardware import INSTRUCTION_SETS, peak_memory, reset_peak_memory, seconds_since_start

SMALL = 64 << 20

# What the processor must list for each family of dot products.
NEEDS = {
    "amx_int8": {"amx_tile", "amx_int8"},
    "amx_bf16": {"amx_tile", "amx_bf16"},
    "avx512_int8": {"avx512f", "avx512_vnni"},
    "avx512_bf16": {"avx512f", "avx512_bf16"},
    "avx512_float32": {"avx512f"},
    "avxvnni_int8": {"avx2", "avx_vnni"},
    "avx2_int8": {"avx2"},
    "avx2_float32": {"avx2", "fma"},
    "neon_int8": {"asimddp"},
    "neon_bf16": {"bf16"},
    "neon_float32": {"asimd"},
    "scalar_float32": set[str](),
}


def test_the_hardware_is_what_this_process_may_use() -> None:
    here = hardware()
    assert here.cores == len(os.sched_getaffinity(0))
    assert 0 < here.available_bytes <= here.memory_bytes
    assert here.processor
    assert set(here.instruction_sets) <= set(INSTRUCTION_SETS)


def test_a_dot_product_is_offered_exactly_where_the_processor_has_its_instructions() -> None:
    here = set(hardware().instruction_sets)
    families = {"x86": ("amx", "avx"), "arm": ("neon",)}
    mine = families["arm" if "asimd" in here else "x86"]
    expected = {name for name, needed in NEEDS.items() if name.startswith((*mine, "scalar")) and needed <= here}
    assert set(cpu.dot_products()) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_every_dot_product_runs_on_as_many_threads_as_asked(threads: int) -> None:
    peaks = dot_peaks(threads=threads, seconds=0.002, repeats=1)
    assert tuple(peaks) == cpu.dot_products()
    assert min(peaks.values()) > 0.1


def test_a_dot_product_that_is_not_here_is_refused_and_not_run() -> None:
    with pytest.raises(BackendError, match="'mmx_int2'"):
        cpu.dot_rate("mmx_int2", threads=1, seconds=0.001)
    with pytest.raises(ValueError, match="mmx_int2"):
        _core.dot_rate("mmx_int2", 1, 0.001)
    with pytest.raises(ValueError, match="threads"):
        _core.dot_rate("scalar_float32", 0, 0.001)


def test_twice_the_bytes_take_longer_to_read() -> None:
    memory = bytearray(SMALL)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    half = min(cpu.read_seconds(address, SMALL // 2, threads=1) for _ in range(5))
    whole = min(cpu.read_seconds(address, SMALL, threads=1) for _ in range(5))
    assert 0 < half < whole


@pytest.mark.parametrize("huge_pages", [False, True])
def test_reading_memory_takes_a_time_that_memory_can_take(huge_pages: bool) -> None:
    if not bandwidth.has_huge_pages():
        huge_pages = False
    assert 0.1 < read_bandwidth(threads=2, huge_pages=huge_pages, size=SMALL, repeats=1) < 10_000


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"repeats": 0}, {"size": 4096}])
def test_a_measurement_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    options: dict[str, Any] = {"threads": 1, "repeats": 1, "size": SMALL} | wrong
    with pytest.raises(ConfigError, match="reading is measured with"):
        read_bandwidth(**options)


def test_a_system_without_huge_pages_is_measured_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "has_huge_pages", lambda: False)
    monkeypatch.setattr(bandwidth, "_LARGEST", 2 * SMALL)
    with pytest.raises(BackendError, match="huge pages"):
        read_bandwidth(threads=1, size=SMALL)
    limits = measure_limits(threads=1, quick=True)
    assert limits.read_huge is None
    assert limits.read(huge_pages=True) == limits.read_4k


def test_the_fastest_dot_product_of_a_type_is_the_peak() -> None:
    limits = Limits(2, 40.0, 25.0, {"amx_int8": 9.0, "avx512_int8": 8.0, "avx512_bf16": 3.0, "avx2_float32": 5.0})
    assert limits.dot_of("int8") == "amx_int8"
    assert limits.dot_of("bf16") == "avx512_bf16"
    assert limits.dot_of("float64") is None
    assert limits.read(huge_pages=True) == 40.0
    assert limits.read(huge_pages=False) == 25.0


def test_the_peak_of_memory_can_be_counted_anew() -> None:
    block = bytearray(os.urandom(1 << 20) * 64)
    high = peak_memory()
    del block
    assert high is not None
    assert reset_peak_memory()
    assert (low := peak_memory()) is not None
    assert low <= high - (48 << 20)


def test_the_age_of_the_process_grows() -> None:
    first = seconds_since_start()
    time.sleep(0.05)
    second = seconds_since_start()
    assert first is not None
    assert second is not None
    assert 0.03 <= second - first < 5
