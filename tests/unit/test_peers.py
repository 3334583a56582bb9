"""The run beside a peer, with samples that nobody measured: their order, the verdict, what is reported."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from bench import peers
from bench.make_checkpoint import config_of
from bench.peer import report
from bench.peer.process import SampleError, run_sample
from bench.peer.settings import Search, Settings
from bench.peer.work import DECODE_B1, DECODE_B8, FIGURES, PREFILL, Work
from tests.random_checkpoint import small_config, write_random

START = Settings(threads=2)
SPEED = {"fast": 16.0, "exact": 11.0, "fast_mapped": 12.0, "exact_mapped": 9.0}


class Invented(peers.Peers):
    """Samples as a function of side and seed, and a list of what was asked for. `peer` is llama.cpp's tokens/s."""

    asked: ClassVar[list[str]] = []
    peer = 8.0

    def ours(self, side: str, seed: int) -> dict[str, Any]:
        self.asked.append(side)
        figures = dict.fromkeys(FIGURES, SPEED[side] + seed)
        return {"side": side, "seed": seed, "figures": figures, "peak_bytes": 12_000 + seed}

    def theirs(self, settings: Settings, work: Work) -> dict[str, Any]:
        self.asked.append(f"llama_cpp {'repacked' if settings.repack else 'as stored'}")
        faster = {PREFILL: 2.0 if settings.repack else 1.0, DECODE_B1: 0.5 if settings.repack else 1.0, DECODE_B8: 1.0}
        figures = {figure: self.peer * faster[figure] for figure in work.figures}
        return {"side": "llama_cpp", "seed": work.seed, "figures": figures, "peak_bytes": 11_000}

    def bandwidth(self) -> float:
        return 40.0


@pytest.fixture
def invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of the real sizes by its config alone, and samples of nothing; returns the directory to write to."""
    monkeypatch.setattr(peers, "Peers", Invented)
    monkeypatch.setattr(peers, "prepare", lambda *_: None)
    monkeypatch.setattr(peers.agreement, "check", dict)
    monkeypatch.setattr(peers, "open_checkpoint", lambda _: SimpleNamespace(config=config_of("20b")))
    monkeypatch.setattr(Invented, "asked", [])
    return tmp_path


def run(directory: Path, *options: str) -> tuple[int, dict[str, Any]]:
    status = peers.main(["--json", str(directory / "r.json"), "--write", str(directory / "r.md"), *options])
    return status, json.loads((directory / "r.json").read_text())


def test_ours_and_theirs_take_turns() -> None:
    assert peers.order(mapped=False) == ["fast", "llama_cpp", "exact"]
    assert peers.order(mapped=True)[:3] == peers.order(mapped=False)


def test_a_round_loads_llama_cpp_once_for_each_setting_that_is_best(invented: Path) -> None:
    run(invented, "--samples", "2", "--resident-only")
    llama = ["llama_cpp repacked", "llama_cpp as stored"]
    rounds = ["fast", *llama, "exact"] * 2
    assert Invented.asked[-len(rounds) :] == rounds


def test_the_json_has_medians_and_ratios_under_the_names_that_were_agreed(invented: Path) -> None:
    status, result = run(invented, "--samples", "3")
    assert status == 0
    assert result["llama_cpp"] == {PREFILL: 16.0, DECODE_B1: 8.0, DECODE_B8: 8.0}
    assert result["ours"]["decode_b1_fast"] == 17.0  # the median of 16, 17 and 18
    assert result["ratio"] == {
        "decode_b1_fast": 17 / 8,
        "decode_b1_exact": 12 / 8,
        "decode_b8_fast": 17 / 8,
        "decode_b8_exact": 12 / 8,
        "prefill_512_fast": 17 / 16,
        "prefill_512_exact": 12 / 16,
    }
    assert result["ours_mapped"]["prefill_512_exact"] == 10.0
    assert result["peak_bytes"]["fast"] == 12_002
    assert result["void"] is None
    assert result["rounds"] == 3
    assert {"processor", "commit", "command"} <= result["circumstances"].keys()


def test_all_settings_that_were_tried_are_in_the_json_and_can_be_taken_from_it(invented: Path) -> None:
    _, first = run(invented, "--samples", "1")
    repacked = {figure: settings["repack"] for figure, settings in first["settings"]["best"].items()}
    assert repacked == {PREFILL: True, DECODE_B1: False, DECODE_B8: False}
    assert len(first["settings"]["tried"]) >= 7
    Invented.asked.clear()
    _, second = run(invented, "--samples", "1", "--settings", str(invented / "r.json"), "--resident-only")
    assert second["settings"] == first["settings"]
    assert Invented.asked[0] == "fast"


def test_a_void_run_has_status_1_and_stays_out_of_the_docs(
    invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Invented, "peer", 7.0)
    status, result = run(invented, "--samples", "1")
    assert status == 1
    assert "less than half of the 15.6" in result["void"]
    assert not (invented / "r.md").exists()
    assert "**This run is void**" in capsys.readouterr().out


def test_a_run_is_void_below_half_of_what_the_memory_allows() -> None:
    config = config_of("20b")
    assert report.bytes_a_token(config) == pytest.approx(2.6e9, rel=0.02)
    half = 42.0e9 / report.bytes_a_token(config) / 2
    assert report.void(half + 0.01, 42.0, config) is None
    assert report.void(half - 0.01, 42.0, config) is not None


@pytest.mark.parametrize(("free", "there", "enough"), [(26e9, [], True), (25e9, [], False), (13e9, ["20b"], True)])
def test_26_gb_of_disk_are_checked_first(
    free: float, there: list[str], enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(peers.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free)))
    model, gguf = tmp_path / "20b", tmp_path / "20b.gguf"
    if enough:
        peers.check_disk(model, gguf)
        return
    with pytest.raises(OSError, match=r"25\.9 GB are needed"):
        peers.check_disk(model, gguf)
    assert list(tmp_path.iterdir()) == []


def test_no_sample_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["--samples", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_each_figure_gets_the_settings_that_are_best_for_it() -> None:
    def measured(settings: Settings) -> Mapping[str, float]:
        if settings.memory == "huge pages":
            raise SampleError("no room")
        return {PREFILL: 10 + 5 * settings.repack - settings.ubatch / 512, DECODE_B1: 9 - settings.repack}

    search = Search()
    search.run(START, measured)
    assert search.best == {PREFILL: Settings(threads=2, repack=True, ubatch=128), DECODE_B1: START}
    assert [trial["error"] for trial in search.tried if "error" in trial] == ["no room"]
    assert len({json.dumps(trial["settings"]) for trial in search.tried}) == len(search.tried)


def test_a_peer_that_does_not_run_at_all_is_an_error() -> None:
    def measured(settings: Settings) -> Mapping[str, float]:
        raise SampleError("Segmentation fault")

    with pytest.raises(SampleError, match="Segmentation fault"):
        Search().run(START, measured)


def test_a_sample_that_fails_says_what_its_process_said() -> None:
    with pytest.raises(SampleError, match=r"json\.tool ended with 2(.|\n)*No such file"):  # takes the task for a name
        run_sample("json.tool", {"threads": 1})


def test_a_file_keeps_what_another_run_wrote(tmp_path: Path) -> None:
    report.save(tmp_path / "r.json", {"transformers": 1})
    report.save(tmp_path / "r.json", {"ratio": 2})
    assert json.loads((tmp_path / "r.json").read_text()) == {"transformers": 1, "ratio": 2}
    document = tmp_path / "performance.md"
    document.write_text("# Performance\n")
    for text in ("old", "new"):
        report.write_section(document, "llama.cpp", text)
        report.write_section(document, "transformers", f"{text} too")
    read = document.read_text()
    assert read.startswith("# Performance\n")
    assert "old" not in read
    assert read.index("new\n") < read.index("new too\n")


def test_missing_weights_are_written_and_those_there_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "config_of", lambda _: small_config(num_attention_heads=4, head_dim=32))
    model, gguf = tmp_path / "20b", tmp_path / "20b.gguf"
    peers.prepare(model, gguf)
    before = gguf.stat().st_mtime_ns
    peers.prepare(model, gguf)
    assert gguf.stat().st_mtime_ns == before
    assert write_random(tmp_path / "again", small_config(num_attention_heads=4, head_dim=32)).exists()
