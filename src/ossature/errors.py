"""The errors meant for the person at the keyboard, and the one way to say something that is not an error.

OssatureError
├── CheckpointError       a file on disk is not what its config, index or header says
├── ConfigError           an option, a config key or a tokenizer cannot be used
├── MessageError          a message, tool or schema cannot be rendered as harmony
├── ShapeError            a tensor does not fit the operation
├── BackendError          a compiled kernel was asked for and cannot run here
├── ContextLengthError    prompt and answer do not fit the model's context
├── QueueFullError        more sequences wait than the engine lets wait
└── EngineError           the engine has stopped and takes no sequences

An `assert` marks a bug of ours; an exception of this tree says what was asked, what came and what to do.
"""

import sys

__all__ = [
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "ContextLengthError",
    "EngineError",
    "MessageError",
    "OssatureError",
    "QueueFullError",
    "ShapeError",
    "notice",
]


class OssatureError(Exception):
    """Root of every error that is the user's to act on."""


class CheckpointError(OssatureError):
    """A checkpoint is damaged, hostile, or does not match its config."""


class ConfigError(OssatureError):
    """A configuration value, option or tokenizer is missing, mistyped or impossible."""


class MessageError(OssatureError):
    """A conversation, tool or schema has no rendering in the harmony format."""


class ShapeError(OssatureError):
    """A tensor has the wrong shape, dtype or layout for an operation."""


class BackendError(OssatureError):
    """A backend was asked for by name and is not usable on this machine."""


class ContextLengthError(OssatureError):
    """More tokens were asked for than the model's context holds."""


class QueueFullError(OssatureError):
    """The engine has as many sequences waiting as it lets wait; the same request may fit a moment later."""


class EngineError(OssatureError):
    """The engine has stopped after an error; no sequence will get another token from it."""


def notice(text: str) -> None:
    """Print one line on stderr: the only way library code reports what is odd but not fatal."""
    print(f"ossature: {text}", file=sys.stderr, flush=True)
