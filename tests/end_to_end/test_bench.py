"""`ossature bench` as a process of its own, on the embedded model, with limits really measured."""

import json
import time

from tests.terminal import ossature


def test_a_quick_run_on_mini_measures_everything_in_twenty_seconds():
    started = time.perf_counter()
    done = ossature("bench", "--quick", "--json")
    assert time.perf_counter() - started < 20
    assert done.returncode == 0
    assert done.stderr == b""
    report = json.loads(done.stdout)
    for when in ("before", "after"):
        limits = report["limits"][when]
        assert 0.5 < limits["read_4k"] < 2000
        assert limits["dot"]["scalar_float32"] > 1
    assert [(row["batch"], row["depth"]) for row in report["decode"]] == [(1, 0), (2, 0), (1, 1024)]
    assert [row["experts_per_layer"] for row in report["decode"]][::2] == [2, 2]
    assert [row["tokens"] for row in report["prefill"]] == [128]
    for share in [row["share_of_read"] for row in report["decode"]] + [report["prefill"][0]["share_of_peak"]]:
        assert 0 < share < 1
    assert 0 < report["start_to_first_token_s"] < 20
    assert 100e6 < report["peak_memory_bytes"] < 1e9, "what measured the bandwidth is not counted"
