"""Bytes on disk become checked, named tensors; and back.

`open_checkpoint` trusts nothing that a directory says until it agrees with what the config implies. No tensor is
copied: arrays are views of the mapped files. Nothing here imports torch, runs code from a checkpoint or opens a
connection.
"""

from ossature.checkpoint.mapped import Checkpoint, MappedTensor
from ossature.checkpoint.names import ParameterCounts, bytes_by_part, parameter_counts
from ossature.checkpoint.reader import open_checkpoint
from ossature.checkpoint.resident import copy_to_memory
from ossature.checkpoint.writer import write_checkpoint

__all__ = [
    "Checkpoint",
    "MappedTensor",
    "ParameterCounts",
    "bytes_by_part",
    "copy_to_memory",
    "open_checkpoint",
    "parameter_counts",
    "write_checkpoint",
]
