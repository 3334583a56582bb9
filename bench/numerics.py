"""How far "fast" is from "exact": python bench/numerics.py [-m MODEL] [--positions 2048]

KL divergence (exact to fast, nats a token) and how often the likeliest token is the same, over positions of random
conversations that mini's recipe makes (`mini`), or of random ids (any other model). Both in bfloat16 activations, in
chunks of 512, with the tiles or products that this processor has; and once more each with `deterministic=True`: for
"fast" that is what decoding does, experts' inputs in int8 everywhere; for "exact", what another order does by itself.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # for recipes.*, when run as a script

import ossature
from ossature.model import Batch, KVCache
from ossature.session import Session

CHUNK = 512

__all__ = ["compare", "conversations"]


def conversations(session: Session, positions: int, seed: int) -> list[list[int]]:
    """Ids of held-out conversations, `positions` in all or a few more."""
    if session.checkpoint.directory.name != "mini":
        rng = random.Random(seed)
        return [[rng.randrange(session.config.vocab_size) for _ in range(positions)]]
    made: list[list[int]] = []
    rng = random.Random(seed)
    while sum(map(len, made)) < positions:
        left, right = rng.randrange(100), rng.randrange(100)
        question = [{"role": "user", "content": f"What is {left} + {right}?"}]
        prompt = ossature.chat.render(question, tokenizer=session.tokenizer, reasoning_effort="high")
        made.append([*prompt, *session.generate(prompt, temperature=0, max_new_tokens=160)])
    return made


def log_probabilities(session: Session, ids: list[int]) -> Iterator[torch.Tensor]:
    """(rows, vocab_size) float32 of one chunk after the other."""
    cache = KVCache(session.config, max_sequences=1, max_tokens=len(ids), slack=CHUNK, dtype=session.model.dtype)
    slot = cache.open()
    for start in range(0, len(ids), CHUNK):
        piece = ids[start : start + CHUNK]
        cache.extend(slot, len(piece))
        with torch.inference_mode():
            yield session.model(Batch.packed([piece], slots=[slot], starts=[start]), cache).log_softmax(-1)


def compare(exact: Session, other: Session, texts: list[list[int]]) -> tuple[float, float, int]:
    """Mean KL in nats, share of equal likeliest tokens, positions."""
    kl, same, count = 0.0, 0, 0
    for ids in texts:
        for ours, theirs in zip(log_probabilities(exact, ids), log_probabilities(other, ids), strict=True):
            kl += float((ours.exp() * (ours - theirs)).sum(-1).double().sum())
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            count += len(ours)
    return kl / count, same / count, count


def main() -> None:
    """Load, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="mini")
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def load(numerics: str, *, deterministic: bool = False) -> Session:
        return ossature.load(options.model, numerics=numerics, weights="mapped", deterministic=deterministic)

    exact = load("exact")
    texts = conversations(exact, options.positions, options.seed)
    others = (("fast", False), ("fast", True), ("exact", True))
    for numerics, deterministic in others:
        other = load(numerics, deterministic=deterministic)
        name = f"{numerics}, deterministic" if deterministic else numerics
        kl, same, count = compare(exact, other, texts)
        print(f"{options.model}: {name} against exact, {count} positions: KL {kl:.2e} nats, likeliest equal {same:.2%}")


if __name__ == "__main__":
    main()
