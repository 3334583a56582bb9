"""Our config.json and files as transformers reads them, and its config.json as we read it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig as PeerGenerationConfig
from transformers import GptOssConfig, GptOssForCausalLM

from ossature.config import GenerationConfig, ModelConfig
from tests.random_checkpoint import RandomTensors, random_config, small_config, write_random


@pytest.mark.parametrize("changes", [{}, {"quantization": None}, {"rope_scaling": None}, {"dtype": None}])
def test_transformers_reads_our_config_and_we_read_its_own(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = random_config(3, **changes, eos_token_id=(5, 7), pad_token_id=1)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    peer = GptOssConfig.from_pretrained(tmp_path)
    assert (peer.hidden_size, peer.layer_types, peer.eos_token_id) == (
        config.hidden_size,
        [*config.layer_types],
        [5, 7],
    )
    assert peer.rope_parameters is not None
    assert peer.rope_parameters["rope_theta"] == config.rope_theta
    assert peer.rope_parameters["rope_type"] == ("default" if config.rope_scaling is None else "yarn")
    peer.save_pretrained(tmp_path / "theirs")
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert "rope_parameters" in theirs
    assert ModelConfig.from_dict(theirs) == config
    assert capsys.readouterr().err == ""


def test_transformers_reads_our_generation_settings_and_we_read_its_own(tmp_path: Path) -> None:
    settings = GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9, eos_token_id=(5, 7), pad_token_id=1)
    (tmp_path / "generation_config.json").write_text(json.dumps(settings.to_dict()))
    peer = PeerGenerationConfig.from_pretrained(tmp_path)
    assert (peer.do_sample, peer.temperature, peer.top_p, peer.eos_token_id) == (True, 0.7, 0.9, [5, 7])
    peer.save_pretrained(tmp_path / "theirs")
    assert (
        GenerationConfig.from_dict(json.loads((tmp_path / "theirs" / "generation_config.json").read_text())) == settings
    )


def test_transformers_loads_our_unquantised_checkpoint_whole(tmp_path: Path) -> None:
    config = small_config(quantization=None)
    directory = write_random(tmp_path / "c", config)
    loaded: Any = GptOssForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    model, report = loaded
    assert not any(report.values()), report
    state = model.state_dict()
    for name, (_, array) in RandomTensors(config).items():
        assert (state[name].numpy() == array).all()
