"""Reading JSON-like objects strictly: every key is known, every value has its type, every error says where.

`where` is the path of the object inside the request ("messages[2].tool_calls[0]"); it opens every error message.
All functions raise MessageError.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias, cast

from ossature.errors import MessageError

__all__ = [
    "LINE_BREAK",
    "Json",
    "check_keys",
    "compact_json",
    "identifier",
    "items",
    "json_value",
    "mapping",
    "member",
    "optional_string",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

LINE_BREAK = re.compile("\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} must be an object, but is {_kind(value)}")
    return cast(Mapping[str, object], value)


def items(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise MessageError(f"{where} must be a list, but is {_kind(value)}")
    return cast(Sequence[object], value)


def check_keys(value: Mapping[str, object], known: Collection[str], where: str) -> None:
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise MessageError(f"{where} has the unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def member(parent: Mapping[str, object], key: str, where: str) -> Mapping[str, object]:
    """The object under `key`, which must be there; `where` is the parent's place."""
    if parent.get(key) is None:
        raise MessageError(f"{where} has no `{key}`")
    return mapping(parent[key], f"{where}.{key}")


def optional_string(value: Mapping[str, object], key: str, where: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise MessageError(f"{where}.{key} must be a string, but is {_kind(found)}")
    return found


def identifier(value: object, where: str) -> str:
    """A name that goes into a message header, where anything but plain characters could forge one."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise MessageError(f"{where} is {value!r}, but must be 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return value


def compact_json(value: object, where: str) -> str:
    """JSON on one line, by any reader's idea of a line."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"{where} cannot be written as JSON: {error}") from error
    return LINE_BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_value(value: object, where: str) -> Json:
    """A copy of `value` that is JSON through and through: only dicts with string keys, lists, strings, numbers."""
    text = compact_json(value, where)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise MessageError(f"{where} is nested too deeply") from error


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
