"""One value of a JSON config: the type and the range it must have, and how an error shows it."""

import math
from typing import TypeAlias, cast

from ossature.errors import ConfigError

__all__ = ["TOKEN_ID", "Bounds", "check_flag", "check_number", "check_token_ids", "shown"]

# Lowest and highest value, both allowed. Two ints ask for a whole number, two floats for any finite number.
Bounds: TypeAlias = tuple[int, int] | tuple[float, float]

TOKEN_ID: Bounds = (0, 1 << 24)
_MOST_TOKEN_IDS = 1024


def check_number(value: object, bounds: Bounds, key: str) -> int | float:
    """`value`, a float where the bounds are floats. Neither true nor 3.0 is a whole number. Raises ConfigError."""
    low, high = bounds
    whole = isinstance(low, int)
    if type(value) is not int and (whole or type(value) is not float):
        raise ConfigError(f"{key} must be a {'whole ' if whole else ''}number, not {shown(value)}.")
    if not low <= value <= high:  # NaN is refused too
        raise ConfigError(f"{key} is {shown(value)}; it must lie between {low} and {high}.")
    return value if whole else float(value)


def check_flag(value: object, key: str) -> bool:
    """`value`, true or false. Raises ConfigError."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, not {shown(value)}.")
    return value


def check_token_ids(value: object, key: str) -> tuple[int, ...]:
    """One token id or a list of them. Raises ConfigError."""
    ids = cast("list[object]", value) if isinstance(value, list) else [value]
    if len(ids) > _MOST_TOKEN_IDS:
        raise ConfigError(f"{key} lists {len(ids)} tokens; at most {_MOST_TOKEN_IDS} are read.")
    return tuple(int(check_number(token, TOKEN_ID, key)) for token in ids)


def shown(value: object) -> str:
    """`value` in an error: at most 60 characters, without control characters."""
    if type(value) is int and abs(value) >= 10**18:
        return f"a number of {math.ceil(value.bit_length() * math.log10(2))} digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
