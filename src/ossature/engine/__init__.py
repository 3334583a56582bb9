"""Token ids in, token ids out: sampling, the plain loop around the model, and the engine. Nothing here sees text."""

from ossature.engine.batcher import EngineStats
from ossature.engine.engine import Engine
from ossature.engine.generate import check_ids, generate
from ossature.engine.sampling import SamplingParams, sample
from ossature.engine.sequence import Constraint, FinishReason, Sequence, TokenLogprobs

__all__ = [
    "Constraint",
    "Engine",
    "EngineStats",
    "FinishReason",
    "SamplingParams",
    "Sequence",
    "TokenLogprobs",
    "check_ids",
    "generate",
    "sample",
]
