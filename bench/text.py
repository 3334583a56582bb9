"""Speed of text to tokens and back: `python -m bench.text`. Times are the processor's, of one thread."""

import time
from collections.abc import Callable
from typing import TypeVar

from ossature.chat import Parser, load_tokenizer, render, vocabulary

LENGTH = 2_000_000
RUNS = ("a", " ", "\n", "漢", "7", "Plain text of no great length. ")

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    begin = time.process_time()
    result = call()
    return time.process_time() - begin, result


def main() -> None:
    seconds, _ = timed(vocabulary.tokens_in_rank_order)
    print(f"unpack and verify the vocabulary   {seconds:.2f} s")
    seconds, tokenizer = timed(lambda: load_tokenizer("o200k_harmony"))
    print(f"load the tokenizer, that included  {seconds:.2f} s")
    for unit in RUNS:
        text = (unit * LENGTH)[:LENGTH]
        seconds, ids = timed(lambda text=text: tokenizer.encode(text))
        print(
            f"encode {LENGTH:,} characters of {unit!r}: {seconds / LENGTH * 1e6:.3f} µs a character, {len(ids):,} ids"
        )
    turn = [
        {"role": "user", "content": "What is 2 + 2? " * 20},
        {"role": "assistant", "thinking": "Hm. " * 50, "content": "4. " * 50},
    ]
    seconds, ids = timed(lambda: render(turn * 1000, tokenizer=tokenizer))
    print(f"render 2,000 messages              {seconds / len(ids) * 1e6:.2f} µs an id, {len(ids):,} ids")
    parser = Parser(tokenizer, start="conversation")
    seconds, events = timed(lambda: sum(len(parser.push(id_)) for id_ in ids))
    print(f"parse them again                   {seconds / len(ids) * 1e6:.2f} µs an id, {events:,} events")


if __name__ == "__main__":
    main()
