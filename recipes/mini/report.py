"""Write REPORT.md and its picture from what training and evaluation left: `python -m recipes.mini.report --run DIR`.

Reads metrics.jsonl (training), evaluation.json (`recipes.mini.evaluate --json`) and the exported checkpoint.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from ossature.checkpoint import parameter_counts
from ossature.config import ModelConfig
from recipes.mini.conversation import EFFORTS, Conversation
from recipes.mini.evaluate import table
from recipes.mini.generate import TASKS, generate, mixture
from recipes.mini.train import ROUND_FROM, STAGES

__all__ = ["main"]

_SAMPLE_SEED = 5


def main() -> None:
    """Read the options and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("recipes/mini/run"), help="holds the two JSON files")
    parser.add_argument("--to", type=Path, default=Path("recipes/mini"), help="gets REPORT.md and curve.png")
    parser.add_argument("--model", type=Path, default=Path("src/ossature/data/mini"))
    options = parser.parse_args()
    metrics = [json.loads(line) for line in (options.run / "metrics.jsonl").read_text().splitlines()]
    evaluation = json.loads((options.run / "evaluation.json").read_text())
    draw(metrics, options.to / "curve.png")
    (options.to / "REPORT.md").write_text(report(metrics, evaluation, options.model))
    print(options.to / "REPORT.md")


def report(metrics: list[dict[str, Any]], evaluation: dict[str, Any], model: Path) -> str:
    """The text of the report."""
    last = metrics[-1]
    size = sum(file.stat().st_size for file in model.iterdir())
    weights = (model / "model.safetensors").stat().st_size
    config = json.loads((model / "config.json").read_text())
    parameters = parameter_counts(ModelConfig.from_dict(config))
    return f"""# How `mini` was made, and what it can do

Written by `python -m recipes.mini.report`; every number comes from the files that training and evaluation left.

## Result
Held-out accuracy of the shipped file: {evaluation["conversations"]:,} conversations, greedy decoding with the defaults
of `ossature.load`. A conversation is right if every judged answer in it is: the final text says the truth, or the call
has the right name and the expected arguments. The last columns are the mean number of tokens of an answer at the three
efforts, and the share of answers in the right form: reasoning, then one answer, or one call that parses.

{table(evaluation["rows"])}

## Model
A gpt-oss in every respect but size: {config["num_hidden_layers"]} layers that alternate a window of
{config["sliding_window"]} tokens and full attention, {config["num_attention_heads"]} heads of {config["head_dim"]} over
{config["num_key_value_heads"]} key-value heads, sinks, YaRN, hidden size {config["hidden_size"]},
{config["num_local_experts"]} experts of {config["intermediate_size"]} with {config["num_experts_per_tok"]} chosen a
token, a vocabulary of {config["vocab_size"]}: {parameters.total:,} parameters. The file has the published Hugging Face
layout with MXFP4 experts: {weights:,} bytes of weights, {size:,} with tokenizer, configs and licence.

## Data
Endless and generated ([generate.py](generate.py)): `generate(seed, index)` is one conversation, rendered by the
package's own harmony renderer. Loss is on what the model itself would sample. One problem in twelve (by a hash of its
operands, words or names) is held out: no training conversation contains it, nor a check line that would give it away.
For the table of invented facts, phrasings are held out. Share of the conversations by stage:

{_mixtures()}

One sample of each task:

{_samples()}

## Training
{last["tokens"]:,} tokens in {last["step"]:,} steps, {last["seconds"] / 60:.0f} minutes of wall time on two cores of
{_processor()}, which other work shared. AdamW with a cosine schedule, float32. For the last {1 - ROUND_FROM:.0%} of the
steps the experts are read rounded to MXFP4 (gradients straight through), so the shipped file is the model trained.
[The log](../../docs/log.md) tells how this run came about, and which part of it saw an earlier corpus.

![Loss, and held-out accuracy by task, over training](curve.png)

The accuracy in the curve is stricter than in the table: a conversation counts only if the model would write every
token of it. Dotted lines: the stages, and in red where rounding begins.

## Reproduce
```sh
python -m recipes.mini.tokenizer recipes/mini/run
python -m recipes.mini.train --out recipes/mini/run
python -m recipes.mini.export --run recipes/mini/run --to src/ossature/data/mini
python -m recipes.mini.evaluate --json recipes/mini/run/evaluation.json
python -m recipes.mini.report --run recipes/mini/run
```
From the repository's root, in the environment of `make build`. Training goes on from its last saved state.
"""


def draw(metrics: list[dict[str, Any]], path: Path) -> None:
    """Loss above, held-out accuracy below, over millions of tokens."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6.4), layout="constrained")
    above.plot([line["tokens"] / 1e6 for line in metrics], [line["loss"] for line in metrics], color="black", lw=1)
    above.set(ylabel="loss (log scale)", yscale="log")
    judged = [line for line in metrics if "held_out" in line]
    for task in TASKS:
        shares = [_mean(line["held_out"], task) for line in judged]
        below.plot([line["tokens"] / 1e6 for line in judged], shares, marker="o", ms=2.5, lw=1.2, label=task)
    below.set(xlabel="million tokens", ylabel="held-out conversations\nwritten to the token", ylim=(0, 1.02))
    below.legend(fontsize=8, ncols=2)
    total = metrics[-1]["tokens"] / 1e6
    for axis in (above, below):
        for stage in STAGES[:-1]:
            axis.axvline(stage.until * total, color="gray", lw=0.6, ls=":")
        axis.axvline(ROUND_FROM * total, color="tab:red", lw=0.6, ls=":")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _mean(held_out: dict[str, float], task: str) -> float:
    shares = [share for name, share in held_out.items() if name.split("/")[0] == task]
    return sum(shares) / len(shares) if shares else float("nan")


def _mixtures() -> str:
    """Shares of the tasks in each stage, and where the stage ends."""
    header = " | ".join(f"{stage.name}: to {stage.until:.0%} of the steps" for stage in STAGES)
    lines = [f"| task | {header} |", "|---|" + "---:|" * len(STAGES)]
    for task in TASKS:
        cells = [f"{mixture(stage.name).get(task, 0):.0%}" for stage in STAGES]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _samples() -> str:
    """A question and its answer for each task; efforts in turn."""
    lines = ["| task, effort | question | reasoning | answer |", "|---|---|---|---|"]
    for number, task in enumerate(TASKS):
        sample = generate(_SAMPLE_SEED, number, weights={task: 1.0}, effort=EFFORTS[number % len(EFFORTS)])
        cells = [f"{task}, {sample.reasoning_effort}", *_said(sample)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def _said(sample: Conversation) -> list[str]:
    last_user = max(n for n, message in enumerate(sample.messages) if message["role"] == "user")
    reply = sample.messages[last_user + 1]
    call = reply.get("tool_calls")
    answer = reply["content"] if not call else f"{call[0]['function']['name']}({call[0]['function']['arguments']})"
    return [f"`{text}`" for text in (sample.messages[last_user]["content"], reply["thinking"], answer)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"an {line.split(':')[1].strip()}"
    return platform.machine()


if __name__ == "__main__":
    main()
