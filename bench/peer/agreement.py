"""Do both sides compute the same? Logits of llama.cpp, from the GGUF file that we write for it, beside ours.

`python -m bench.peer.agreement`: small random networks, several settings of llama.cpp, a cosine a position. In the
first rows every expert is chosen; where some are, Q8_0 may tip a close choice, so a few positions may differ.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peer.process import SampleError, run_sample
from bench.peer.settings import Settings
from ossature.checkpoint import open_checkpoint
from ossature.config import ModelConfig, RopeScaling
from tests.random_checkpoint import small_config, write_random

__all__ = ["LEAST", "agreement", "check"]

LEAST = 0.995  # Q8_0, of weights and of the activations that llama.cpp multiplies them with, leaves 0.9991
SETTINGS = {
    "as stored": Settings(threads=1),
    "flash attention": Settings(threads=1, flash_attention=True),
    "repacked": Settings(threads=1, repack=True),
}


def config_that_both_have(chosen: int) -> ModelConfig:
    """4 layers, `chosen` of 5 experts; llama.cpp rounds the limits of YaRN's ramp, so here we do too."""
    scaling = RopeScaling(16.0, 64, 32.0, 1.0, truncate=True)
    sizes = {"num_attention_heads": 4, "head_dim": 32, "num_hidden_layers": 4, "num_experts_per_tok": chosen}
    return small_config(**sizes, dtype="bfloat16", rope_scaling=scaling)


def agreement(directory: Path, config: ModelConfig, settings: Settings) -> NDArray[np.float32]:
    """Cosine of both sides' logits at each of 40 positions, several windows long; ours are computed in float32."""
    import ossature
    from bench.peer.gguf_file import write_gguf  # needs the extra `peers`

    ids = [int(id_) for id_ in np.random.default_rng(0).integers(0, config.vocab_size, 40)]
    model, gguf, saved = directory / "model", directory / "model.gguf", directory / "logits.npy"
    if not model.exists():
        write_gguf(open_checkpoint(write_random(model, config)), gguf)
    task = {"gguf": str(gguf), "settings": settings.to_dict(), "ids": ids, "save": str(saved)}
    run_sample("bench.peer.side_llama_cpp", task)
    ours, theirs = ossature.load(model, dtype="float32").logits(ids).numpy(), np.load(saved)
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def check() -> Mapping[str, float]:
    """The cosine of nine positions in ten, or of all where every expert is chosen. Raises SampleError below LEAST."""
    found: dict[str, float] = {}
    for chosen in (5, 3):
        with tempfile.TemporaryDirectory() as scratch:
            for name, settings in SETTINGS.items():
                cosines = np.sort(agreement(Path(scratch), config_that_both_have(chosen), settings))
                found[f"{chosen} of 5 experts, {name}"] = float(cosines[0 if chosen == 5 else len(cosines) // 10])
    if min(found.values()) < LEAST:
        raise SampleError(f"llama.cpp's logits are not ours: cosines {found}, at least {LEAST} expected")
    return found


if __name__ == "__main__":
    for name, cosine in check().items():
        print(f"{name:<34} {cosine:.6f}")
