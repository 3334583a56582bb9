"""Look at the corpus: `python -m recipes.mini.show --count 30 --stage C` prints samples, lengths and shares."""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

from ossature.chat import Rendered, Tokenizer, load_tokenizer, render_training
from recipes.mini.conversation import Conversation
from recipes.mini.generate import generate
from recipes.mini.tokenizer import write


def rendered(sample: Conversation, tokenizer: Tokenizer) -> Rendered:
    """The ids of a sample and which of them are learnt."""
    return render_training(
        sample.messages,
        tokenizer=tokenizer,
        tools=sample.tools,
        reasoning_effort=sample.reasoning_effort,
        current_date=sample.current_date,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Print samples of the corpus of mini and its statistics.")
    parser.add_argument("--count", type=int, default=20, help="samples to print")
    parser.add_argument("--stage", choices="ABCD", default="C")
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--task", help="only this task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--statistics", type=int, default=2000, help="samples to count")
    parser.add_argument("--tokenizer", type=Path, help="directory of tokenizer.json (default: built anew)")
    options = parser.parse_args()
    weights = {options.task: 1.0} if options.task else None
    with tempfile.TemporaryDirectory() as made:
        tokenizer = load_tokenizer(options.tokenizer or write(Path(made)).parent)
    lengths: dict[str, list[int]] = defaultdict(list)
    for index in range(max(options.count, options.statistics)):
        sample = generate(options.seed, index, split=options.split, stage=options.stage, weights=weights)
        row = rendered(sample, tokenizer)
        lengths[sample.task].append(len(row.ids))
        if index < options.count:
            size = f"{len(row.ids)} ids, {sum(row.trained)} learnt"
            print(f"--- {sample.task}/{sample.kind}, {sample.reasoning_effort}, {size}")
            print(tokenizer.decode(row.ids))
    print(_statistics(lengths))


def _statistics(lengths: dict[str, list[int]]) -> str:
    """A line for each task: its share of samples and of ids, and the mean, 90th percentile and longest row."""
    everything = [length for row in lengths.values() for length in row]
    lines = [f"{'task':14}{'samples':>9}{'ids':>9}{'mean':>7}{'p90':>7}{'longest':>9}"]
    for task, row in [*sorted(lengths.items()), ("all", everything)]:
        high = sorted(row)[int(0.9 * len(row))]
        shares = f"{len(row) / len(everything):9.1%}{sum(row) / sum(everything):9.1%}"
        lines.append(f"{task:14}{shares}{sum(row) / len(row):7.0f}{high:7}{max(row):9}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
