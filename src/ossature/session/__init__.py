"""What `load` returns, and what it answers."""

from ossature.session.reply import FinishReason, Reply, ReplyStream, ToolCall, Usage
from ossature.session.session import DTYPES, MINI, Session, find_model, load

__all__ = [
    "DTYPES",
    "MINI",
    "FinishReason",
    "Reply",
    "ReplyStream",
    "Session",
    "ToolCall",
    "Usage",
    "find_model",
    "load",
]
