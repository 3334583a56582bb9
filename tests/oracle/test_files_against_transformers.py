"""The same directory opened by transformers and by us: files, MXFP4 and config are read alike, mini's included."""

from pathlib import Path

import pytest
import torch
from transformers import GptOssForCausalLM
from transformers.utils.quantization_config import Mxfp4Config

import ossature
from ossature.chat import render
from ossature.checkpoint import open_checkpoint
from ossature.model import load_model
from tests import network

MINI = Path(ossature.__file__).parent / "data" / "mini"


def theirs(directory: Path, ids: list[int]) -> torch.Tensor:
    """Logits (tokens, vocab) in float32; MXFP4 blocks are decoded by transformers."""
    packed = open_checkpoint(directory).config.quantization is not None
    peer = GptOssForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        quantization_config=Mxfp4Config(dequantize=True) if packed else None,
    )
    with torch.no_grad():
        logits = peer(torch.tensor([ids])).logits
    assert logits is not None
    return logits[0]


@pytest.mark.parametrize("experts", ["dense", "packed"])
def test_transformers_reads_what_we_write_and_computes_the_same(tmp_path: Path, experts: str) -> None:
    config, ids = network.peer_config(), network.token_ids()
    values = network.tensors(config)
    directory = network.write(tmp_path / "here", config, network.packed(values) if experts == "packed" else values)
    model = load_model(open_checkpoint(directory), dtype=torch.float32)
    expected = theirs(directory, ids)
    assert 0.5 < expected.std() < 2
    assert (network.prefill(model, ids)["logits", None] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("prompt", ["What is 37 + 58?", "Asha has the red key. Who are you?"])
def test_mini_is_the_same_model_in_transformers(prompt: str) -> None:
    session = ossature.load("mini", dtype="float32")
    ids = render([{"role": "user", "content": prompt}], tokenizer=session.tokenizer)
    ids += session.generate(ids, max_new_tokens=60, temperature=0)
    expected = theirs(MINI, ids)
    assert (session.logits(ids) - expected).abs().max() < 1e-4
