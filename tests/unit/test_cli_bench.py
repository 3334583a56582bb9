"""`ossature bench` inside one process, with limits made up: what it prints, what it passes on, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from ossature.cli.main import main
from ossature.ops import cpu
from ossature.plan import Limits, benchmark
from tests.random_checkpoint import write_random

SIZES = ["--batch", "2,3", "--depth", "0,40", "--prefill", "33", "--quick"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = iter(
        [
            Limits(2, 40.0, 20.0, {"avx512_int8": 800.0, "avx512_bf16": 200.0, "avx2_float32": 100.0}),
            Limits(2, 44.0, 30.0, {"avx512_int8": 900.0, "avx512_bf16": 300.0, "avx2_float32": 120.0}),
        ]
    )
    monkeypatch.setattr(benchmark, "measure_limits", lambda **_: next(made_up))


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["bench", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_json_holds_every_row_with_its_bytes_and_shares(capsys, directory):
    report = _json(capsys, "-m", str(directory), *SIZES)
    assert [(row["batch"], row["depth"]) for row in report["decode"]] == [(2, 0), (3, 0), (2, 40)]
    for row in report["decode"]:
        parts = dict(row["bytes"])
        assert parts.pop("total") == sum(parts.values())
        assert set(parts) == {"experts", "dense", "unembedding", "cache"}
        assert row["tokens_per_s"] == pytest.approx(row["batch"] / row["step_s"])
        assert row["gb_per_s"] == pytest.approx(row["bytes"]["total"] / row["step_s"] / 1e9)
        assert row["share_of_read"] == pytest.approx(row["gb_per_s"] / 25)
    (row,) = report["prefill"]
    assert row["tokens"] == 33
    assert row["gops"] == pytest.approx(row["operations"] / row["prompt_s"] / 1e9)
    assert row["share_of_peak"] == pytest.approx(row["gops"] / 250)
    assert report["limits"]["read"] == {"name": "read_4k", "gb_per_s": 25.0}
    assert report["limits"]["peak"] == {"name": "avx512_bf16", "gops": 250.0}
    assert report["limits"]["before"]["read_huge"] == 40.0
    assert report["limits"]["after"]["dot"]["avx512_int8"] == 900.0
    together = report["start_s"] + report["load_s"] + report["first_token_s"]
    assert report["start_to_first_token_s"] == pytest.approx(together)
    assert report["peak_memory_bytes"] > 50e6
    assert report["machine"]["cores"] >= 1
    assert (report["numerics"], report["weights"], report["dtype"]) == ("exact", "mapped", "bfloat16")


def test_float32_activations_are_held_against_the_peak_of_float32(capsys, directory):
    report = _json(capsys, "-m", str(directory), *SIZES, "--dtype", "float32")
    assert report["limits"]["peak"] == {"name": "avx2_float32", "gops": 110.0}


def test_the_table_has_a_line_for_every_row_and_limit(capsys, directory):
    assert main(["bench", "-m", str(directory), *SIZES]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["40.0", "→", "44.0", "GB/s", "read_huge:", "huge", "pages,"] in [line[:7] for line in lines]
    assert ["200.0", "→", "300.0", "GOPS", "avx512_bf16"] in lines
    assert [line[:2] for line in lines if line[-1:] == ["%"]] == [
        ["2", "0"],
        ["3", "0"],
        ["2", "40"],
        ["33", lines[-1][1]],
    ]
    assert "25.0" in shown.out


def test_without_the_extension_the_rows_are_there_and_the_shares_are_not(capsys, directory, monkeypatch):
    monkeypatch.setattr(cpu, "available", False)
    monkeypatch.setattr(cpu, "reason", "no compiled kernels here")
    assert main(["bench", "-m", str(directory), *SIZES, "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "ossature: no compiled kernels here\n"
    report = json.loads(shown.out)
    assert report["limits"]["read"] is report["limits"]["peak"] is None
    assert report["decode"][0]["gb_per_s"] > 0
    assert report["decode"][0]["share_of_read"] is None
    assert main(["bench", "-m", str(directory), *SIZES]) == 0
    assert "not known" in capsys.readouterr().out


def test_resident_weights_are_held_against_reading_huge_pages(capsys, directory):
    report = _json(capsys, "-m", str(directory), *SIZES, "--weights", "resident")
    assert report["weights"] == "resident"
    assert report["limits"]["read"] == {"name": "read_huge", "gb_per_s": 42.0}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--batch", "one"], 2, "'one' is no list of whole numbers"),
        (["--depth", "1,,2"], 2, "Invalid value for --depth"),
        (["--numerics", "wrong"], 2, "Invalid value for '--numerics'"),
        (["--weights", "lent"], 2, "Invalid value for '--weights'"),
        (["--batch", "0"], 1, "batch 0 cannot be measured"),
        (["--prefill", "999999"], 1, "prefill 999999 does not fit the model's context of 1024"),
        (["-m", "/nowhere"], 1, "/nowhere: no such directory"),
    ],
)
def test_wrong_use_is_one_line(capsys, directory, arguments, code, message):
    assert main(["bench", "-m", str(directory), *arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err
