"""transformers as a side: random bfloat16 layers of a checkpoint's widths; bench/peers.py starts its samples."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.peer.process import peak_bytes
from bench.peer.work import Work, measure

__all__ = ["Transformers", "cut_config", "random_network"]

_TILE = 1 << 22


class Transformers:
    """A network of transformers, one sequence at a time."""

    def __init__(self, model: transformers.GptOssForCausalLM) -> None:
        self.model = model
        self.vocab_size = model.config.vocab_size

    def begin(self, sequences: int) -> None:
        """A new cache."""
        assert sequences == 1, sequences
        self.cache = transformers.DynamicCache(config=self.model.config)

    def feed(self, ids: Sequence[Sequence[int]]) -> None:
        """One forward pass, with the logits of the last row."""
        with torch.inference_mode():
            # by position, after mask and positions: releases differ in the name of the cache
            self.model(torch.tensor(ids), None, None, self.cache, use_cache=True, logits_to_keep=1)


def cut_config(model: Path, layers: int) -> transformers.GptOssConfig:
    """The config of a checkpoint's first layers, with unquantised experts."""
    raw: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    raw.pop("quantization_config", None)
    return transformers.GptOssConfig(**raw | {"num_hidden_layers": layers, "layer_types": raw["layer_types"][:layers]})


def random_network(config: transformers.GptOssConfig) -> transformers.GptOssForCausalLM:
    """Bfloat16 weights of the size that layers of a trained network have; normal numbers, repeated."""
    with torch.device("meta"):
        model = transformers.GptOssForCausalLM._from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are no parameter
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(_TILE, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            matrix = parameter.dim() > 1 and not name.endswith("bias")
            inputs = parameter.shape[1 if "experts" in name else -1] if matrix else 64
            flat, scaled = parameter.view(-1), (tile * inputs**-0.5).to(parameter.dtype)
            for start in range(0, flat.numel(), _TILE):
                piece = flat[start : start + _TILE]
                piece.copy_(scaled[: piece.numel()])
            if name.endswith("norm.weight"):
                parameter += 1
    return model.eval()


def main() -> None:
    """Make the network, warm up, measure, print."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    config = cut_config(Path(task["model"]), task["layers"])
    config._experts_implementation = task["experts"]
    figures = measure(Transformers(random_network(config)), Work.from_dict(task["work"]))
    print(json.dumps({"figures": figures, "peak_bytes": peak_bytes(), "version": transformers.__version__}))


if __name__ == "__main__":
    main()
