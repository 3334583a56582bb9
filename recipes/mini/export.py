"""Write the trained state as the package ships it: `python -m recipes.mini.export --run DIR --to DIR`.

The published Hugging Face layout: experts packed in MXFP4, everything else bfloat16, tokenizer and configs beside them.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ossature import mxfp4
from ossature.chat import load_tokenizer
from ossature.checkpoint import write_checkpoint
from ossature.config import ModelConfig
from recipes.mini.train import config_for

__all__ = ["export", "main"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def main() -> None:
    """Read the options and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("recipes/mini/run"), help="holds state.pt and tokenizer.json")
    parser.add_argument("--to", type=Path, default=Path("src/ossature/data/mini"), help="the directory to write")
    options = parser.parse_args()
    export(options.run, options.to)
    print(f"{options.to}: {sum(file.stat().st_size for file in options.to.iterdir()):,} bytes")


def export(run: Path, to: Path) -> None:
    """Pack the state in `run` into the checkpoint directory `to`, replacing what is there."""
    config = dataclasses.replace(config_for(load_tokenizer(run)), quantization="mxfp4", dtype="bfloat16")
    weights: dict[str, Tensor] = torch.load(run / "state.pt", weights_only=True)["model"]
    tensors: dict[str, tuple[str, NDArray[np.generic]]] = {}
    for name, tensor in weights.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            blocks, scales = mxfp4.encode(tensor.transpose(1, 2).contiguous().numpy())
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = ("U8", blocks), ("U8", scales)
        else:
            tensors[name] = ("BF16", tensor.bfloat16().view(torch.uint16).numpy())
    if to.exists():
        shutil.rmtree(to)
    write_checkpoint(to, config, tensors)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(run / name, to / name)
    shutil.copyfile("LICENSE", to / "LICENSE")
    (to / "generation_config.json").write_text(json.dumps(_generation(config), indent=2) + "\n")


def _generation(config: ModelConfig) -> dict[str, object]:
    return {
        "do_sample": False,
        "eos_token_id": list(config.eos_token_id),
        "pad_token_id": config.pad_token_id,
    }


if __name__ == "__main__":
    main()
