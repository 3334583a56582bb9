"""Held-out accuracy of a checkpoint: `python -m recipes.mini.evaluate -m DIR --json FILE`.

Every conversation is rendered up to its last question, answered by greedy decoding in batches, and judged by
`score.py`. A tool's result is fed back as the conversation has it, and the answer after it is judged too.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ossature
from ossature.chat import Parser, render
from ossature.engine import SamplingParams
from ossature.engine import generate as decode
from ossature.session import Reply, ReplyStream, Session

from .conversation import EFFORTS, Conversation, Message
from .generate import generate
from .score import judge

__all__ = ["Suite", "answer_all", "main", "suites"]

_TOGETHER = 128  # conversations decoded in one batch
_LONGEST = 400  # new tokens


@dataclass(frozen=True, slots=True)
class Suite:
    """One row of the report: a name, the sample stream it is drawn from, and how samples are picked."""

    name: str
    weights: dict[str, float]
    kinds: tuple[str, ...] = ()  # of the task; empty for all


@dataclass(slots=True)
class Result:
    """Counts of one suite at one effort."""

    right: int = 0
    valid: int = 0
    count: int = 0
    tokens: int = 0
    wrong: list[str] = field(default_factory=list[str])
