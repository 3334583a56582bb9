"""Train `mini` from scratch: `python -m recipes.mini.train --out DIR`, then `recipes.mini.export`.

Workers of one thread each compute the gradients of their own conversations and go on with the mean. Every
`--save-every` steps the state is written whole; the same command goes on from it. `metrics.jsonl` gets a line a hundred
steps and, at each save, the share of held-out conversations whose every learned token the model would choose itself
(so greedy decoding writes exactly that text).
"""

import argparse
import json
import math
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from ossature.chat import Tokenizer, load_tokenizer
from ossature.config import ModelConfig
from ossature.model import Batch, Capture, Site, Transformer
from recipes.mini.architecture import initialise, mini_config
from recipes.mini.batches import Row, Stage, batches, render_row
from recipes.mini.conversation import Conversation
from recipes.mini.generate import generate
from recipes.mini.rounding import round_experts

STEPS = 8400
STAGES = (Stage("A", 600 / STEPS), Stage("B", 2400 / STEPS), Stage("C", 6000 / STEPS), Stage("D", 1.0))
RESTART = 6000 / STEPS  # share of the steps after which the learning rate starts again, lower
ROUND_FROM = 5100 / STEPS  # share of the steps after which the experts are read rounded to MXFP4
PROMPT_WEIGHT = {"A": 0.1}  # of tokens that are not the model's own: early on, what repeats in prompts teaches copying
HELD_OUT = 480  # conversations in the curve
MEETING = "meeting"  # the file through which the workers find each other
BALANCE_WEIGHT = 0.01  # of the loss that keeps all experts in use


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("recipes/mini/run"), help="holds tokenizer.json; gets state.pt"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=2, help="processes; one a core")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="of all workers together")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--stop-at", type=int, help="end after this step of the full schedule")
    train(parser.parse_args())


def train(options: argparse.Namespace) -> None:
    """Train to the last step on all workers, from the saved state if there is one."""
    (options.out / MEETING).unlink(missing_ok=True)  # left by a run that was killed, it would keep this one waiting
    spawn(_worker, args=(options,), nprocs=options.workers)


def _worker(rank: int, options: argparse.Namespace) -> None:
    """One process of `options.workers`, with one thread: two of them do a third more than one with two threads."""
    torch.set_num_threads(1)
    meeting = f"file://{(options.out / MEETING).absolute()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.workers)
    tokenizer = load_tokenizer(options.out)
    model = Transformer(config_for(tokenizer), dtype=torch.float32)
    initialise(model, options.seed)
    optimizer = _optimizer(model, options.learning_rate)
    state = options.out / "state.pt"
    done, seconds, tokens = 0, 0.0, 0
    rounding_from = round(ROUND_FROM * options.steps)
    if state.exists():
        saved = torch.load(state, weights_only=True)
        done, seconds, tokens = saved["step"], saved["seconds"], saved["tokens"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    if done >= rounding_from:
        round_experts(model)

    stream = batches(
        tokenizer,
        seed=options.seed,
        tokens=options.batch_tokens // options.workers,
        count=options.steps,
        stages=STAGES,
        share=(rank, options.workers),
    )
    report = _Report(options, tokenizer, began=time.monotonic() - seconds) if rank == 0 else None
    for step, (stage, rows) in enumerate(stream):
        if step < done:
            continue
        if step == rounding_from:
            round_experts(model)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(step, options.steps)
        loss = _loss(model, rows, PROMPT_WEIGHT.get(stage, 0.0))
        loss.backward()
        _average_gradients(model, options.workers)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise SystemExit(f"step {step}: the gradient is {norm}; lower --learning-rate and start again from {state}")
        optimizer.step()
        optimizer.zero_grad()
        tokens += options.workers * sum(len(row.ids) for row in rows)
        done = step + 1
        save = done % options.save_every == 0 or done in (options.steps, options.stop_at)
        if report is not None:
            report.step(done, stage, tokens, loss.item(), model if save else None)
            if save:
                _save(state, model, optimizer, done, time.monotonic() - report.began, tokens)
        if save:
            dist.barrier()  # the others wait for the report, and nobody runs ahead of the saved state
        if done == options.stop_at:
            break
    dist.destroy_process_group()


class _Report:
    """Prints and keeps a line every hundred steps: loss, time, and at a save the held-out accuracy."""

    def __init__(self, options: argparse.Namespace, tokenizer: Tokenizer, began: float) -> None:
        self.began = began
        self.file = options.out / "metrics.jsonl"
        self.losses: list[float] = []
        conversations = (generate(options.seed, index, split="heldout") for index in range(HELD_OUT))
        rendered = [(conversation, render_row(conversation, tokenizer)) for conversation in conversations]
        self.held_out = sorted(rendered, key=lambda pair: len(pair[1].ids))

    def step(self, step: int, stage: str, tokens: int, loss: float, model: Transformer | None) -> None:
        self.losses.append(loss)
        if step % 100 and model is None:
            return
        line: dict[str, object] = {"step": step, "stage": stage, "tokens": tokens}
        line["seconds"] = round(time.monotonic() - self.began, 1)
        line["loss"] = round(sum(self.losses) / len(self.losses), 5)
        if model is not None:
            line["held_out"] = _held_out(model, self.held_out)
        self.losses.clear()
        print(json.dumps(line), flush=True)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _average_gradients(model: Transformer, workers: int) -> None:
    """Every worker goes on with the mean of all gradients."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def config_for(tokenizer: Tokenizer) -> ModelConfig:
    """The config of `mini` with this tokenizer's ids."""
    pad = tokenizer.special["<|endoftext|>"]
    return mini_config(tokenizer.vocab_size, eos_token_id=tokenizer.stop_ids, pad_token_id=pad)


def _optimizer(model: Transformer, learning_rate: float) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith("_bias")]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or name.endswith("_bias")]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over 200 steps and a cosine down to 2 %; from RESTART on a second cosine, from a third."""
    restart = round(RESTART * steps)
    if step < 200:
        return (step + 1) / 200
    first, last, peak = (200, restart, 1.0) if step < restart else (restart, steps, 1 / 3)
    progress = (step - first) / max(1, last - first)
    return 0.02 + (peak - 0.02) * 0.5 * (1 + math.cos(math.pi * progress))


def _targets(rows: list[Row], prompt_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that predict something, the id that follows each, and the weight of its loss."""
    ids = torch.tensor([i for row in rows for i in row.ids])
    weight = torch.tensor([1.0 if mark else prompt_weight for row in rows for mark in row.trained])
    ends = torch.tensor([len(row.ids) for row in rows]).cumsum(0)
    weight[ends - torch.tensor([len(row.ids) for row in rows])] = 0.0  # nothing predicts a first id
    predicted = weight.nonzero().squeeze(1)
    return predicted - 1, ids[predicted], weight[predicted]


def _loss(model: Transformer, rows: list[Row], prompt_weight: float) -> Tensor:
    """Weighted mean cross-entropy, plus what an uneven use of the experts costs (Switch Transformers, section 2.2)."""
    predicting, target, weight = _targets(rows, prompt_weight)
    routers = Capture(Site("router_logits"))
    batch = Batch.packed([row.ids for row in rows], captures=(routers,))
    logits = model(replace(batch, logits_rows=predicting))
    entropy = F.cross_entropy(logits, target, reduction="none")
    balance = torch.zeros(())
    for value in routers.into.values():
        chosen = torch.zeros_like(value).scatter(1, value.topk(model.config.num_experts_per_tok).indices, 1.0)
        balance = balance + (chosen.mean(0) * value.softmax(-1).mean(0)).sum() * value.shape[1]
    return (entropy * weight).sum() / weight.sum() + BALANCE_WEIGHT * balance / len(routers.into)


@torch.no_grad()
def _held_out(model: Transformer, rendered: list[tuple[Conversation, Row]]) -> dict[str, float]:
    """Share of conversations reproduced to the token, by task and effort."""
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(rendered), 32):
        group = rendered[start : start + 32]
        rows = [row for _, row in group]
        predicting, target, _ = _targets(rows, 0.0)
        batch = replace(Batch.packed([row.ids for row in rows]), logits_rows=predicting)
        hit = model(batch).argmax(-1) == target
        for (conversation, _), row_hit in zip(group, hit.split([sum(row.trained) for row in rows]), strict=True):
            right[f"{conversation.task}/{conversation.reasoning_effort}"].append(bool(row_hit.all()))
    return {name: round(sum(marks) / len(marks), 3) for name, marks in sorted(right.items())}


def _save(path: Path, model: Transformer, optimizer: torch.optim.AdamW, step: int, seconds: float, tokens: int) -> None:
    """Write the state whole or not at all. Expert matrices are saved under their plain names, unrounded."""
    plain = {
        name.replace("parametrizations.", "").removesuffix(".original"): tensor
        for name, tensor in model.state_dict().items()
    }
    state = {"model": plain, "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds, "tokens": tokens}
    scratch = path.with_suffix(".partial")
    torch.save(state, scratch)
    os.replace(scratch, path)


if __name__ == "__main__":
    main()
