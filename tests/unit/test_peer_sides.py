"""What a sample computes, on each side that needs nothing compiled."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ossature
from bench.peer.layers import FirstLayers, layer_seconds
from bench.peer.process import peak_bytes, swap_page_cache
from bench.peer.side_ossature import Ossature
from bench.peer.side_transformers import Transformers, cut_config, random_network
from bench.peer.work import DECODE_B1, DECODE_B8, FIGURES, PREFILL, Work, measure
from ossature.checkpoint import open_checkpoint, write_checkpoint
from tests.random_checkpoint import small_config, write_random

CONFIG = small_config(dtype="bfloat16", max_position_embeddings=2048)
SMALL = Work(steps=3, steps_8=2, prompt=4, prefill=32, warm_up=8)


class Recorder:
    """A side that computes nothing."""

    vocab_size = 100

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.fed: list[list[list[int]]] = []

    def begin(self, sequences: int) -> None:
        self.begun.append(sequences)

    def feed(self, ids: Sequence[Sequence[int]]) -> None:
        self.fed.append([list(own) for own in ids])


def test_a_sample_warms_up_then_prefills_then_decodes_1_and_8_sequences() -> None:
    side = Recorder()
    figures = measure(side, SMALL)
    assert list(figures) == [PREFILL, DECODE_B1, DECODE_B8]
    assert side.begun == [1, 1, 1, 8]
    shapes = [(len(ids), len(ids[0])) for ids in side.fed]
    assert shapes == [(1, 8), (1, 32), (1, 4), *[(1, 1)] * 5, (8, 4), *[(8, 1)] * 4]


def test_both_sides_get_the_same_ids_and_another_seed_gives_others() -> None:
    fed: list[list[list[list[int]]]] = []
    for seed in (0, 0, 1):
        measure(side := Recorder(), Work(seed=seed))
        fed.append(side.fed)
    assert fed[0] == fed[1] != fed[2]


def test_work_survives_json() -> None:
    work = Work(seed=3, figures=(DECODE_B1,))
    assert Work.from_dict(json.loads(json.dumps(work.to_dict()))) == work


def test_a_step_of_ours_gives_the_logits_of_the_whole_prompt(tmp_path: Path) -> None:
    session = ossature.load(write_random(tmp_path / "c", CONFIG), dtype="float32")
    side = Ossature(session.model)
    logits: list[Any] = []
    session.model.register_forward_hook(lambda module, arguments, output: logits.append(output))
    side.begin(2)
    for ids in ([[1, 2, 3], [4, 5, 6]], [[7], [8]]):
        side.feed(ids)
    for row, prompt in zip(logits[-1], ([1, 2, 3, 7], [4, 5, 6, 8]), strict=True):
        torch.testing.assert_close(row, session.logits(prompt)[-1], rtol=1e-4, atol=1e-4)


def test_every_figure_of_ours_comes_out(tmp_path: Path) -> None:
    session = ossature.load(write_random(tmp_path / "c", CONFIG))
    assert measure(Ossature(session.model), SMALL).keys() == set(FIGURES)
    assert peak_bytes() > 1e6


def test_transformers_computes_finite_logits_of_random_layers(tmp_path: Path) -> None:
    model = random_network(cut_config(write_random(tmp_path / "c", CONFIG), 2))
    assert len(model.model.layers) == 2
    rows: list[Any] = []
    model.lm_head.register_forward_hook(lambda module, arguments, output: rows.append(output))
    figures = measure(Transformers(model), Work(figures=(PREFILL, DECODE_B1), steps=2, prefill=32, warm_up=8))
    assert figures.keys() == {PREFILL, DECODE_B1}
    assert all(row.shape == (1, 1, CONFIG.vocab_size) and row.isfinite().all() for row in rows)
    assert 0.1 < float(rows[1].float().std()) < 10


def test_a_checkpoint_is_cut_to_its_first_layers(tmp_path: Path) -> None:
    whole = open_checkpoint(write_random(tmp_path / "whole", CONFIG))
    cut = FirstLayers(whole, 2)
    write_checkpoint(tmp_path / "cut", cut.config, cut)
    found = open_checkpoint(tmp_path / "cut")
    assert found.config.num_hidden_layers == 2
    for name in found.names:
        assert np.array_equal(found.tensor(name).array, whole.tensor(name).array), name


def test_a_layers_time_is_half_of_what_4_take_more_than_2() -> None:
    assert layer_seconds({2: 512 / 3.0, 4: 512 / 7.0}, 512) == pytest.approx(2.0)


def test_the_page_cache_is_swapped_without_touching_the_files(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).write_bytes(b"weights")
    swap_page_cache(out=[tmp_path / "ours"], into=[tmp_path / "theirs"])
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"weights"}
