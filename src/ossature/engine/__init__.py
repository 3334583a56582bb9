"""Token ids in, token ids out: sampling and the loop around the model. Nothing here sees text."""

from ossature.engine.generate import check_ids, generate
from ossature.engine.sampling import SamplingParams, sample

__all__ = ["SamplingParams", "check_ids", "generate", "sample"]
