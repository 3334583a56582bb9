"""Run, serve, tune and probe open-weight language models on hardware you own.

    import ossature

    model = ossature.load("mini")
    reply = model.reply([{"role": "user", "content": "What is 37 + 58?"}])
    print(reply.final)

Importing the package imports no torch: each name below is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ossature import chat, checkpoint, config, engine, errors, model, mxfp4, ops, plan, session
    from ossature.errors import OssatureError
    from ossature.session import Reply, ReplyStream, Session, load

    __version__: str

__all__ = [
    "OssatureError",
    "Reply",
    "ReplyStream",
    "Session",
    "__version__",
    "chat",
    "checkpoint",
    "config",
    "engine",
    "errors",
    "load",
    "model",
    "mxfp4",
    "ops",
    "plan",
    "session",
]

_HOME = {
    "OssatureError": "ossature.errors",
    "Reply": "ossature.session",
    "ReplyStream": "ossature.session",
    "Session": "ossature.session",
    "load": "ossature.session",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ossature")
    except PackageNotFoundError:  # a source tree on the path
        return "0+source"
