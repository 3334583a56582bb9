"""The model: the one definition of the network, its cache, its activation sites, and how weights come in."""

from ossature.model.batch import Batch
from ossature.model.cache import KVCache, Prefix
from ossature.model.load import load_model
from ossature.model.sites import SITES, Capture, Edit, Site, check_layers
from ossature.model.transformer import Transformer

__all__ = [
    "SITES",
    "Batch",
    "Capture",
    "Edit",
    "KVCache",
    "Prefix",
    "Site",
    "Transformer",
    "check_layers",
    "load_model",
]
