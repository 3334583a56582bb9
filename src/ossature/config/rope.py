"""How RoPE is stretched to longer contexts: the object under `rope_scaling` or `rope_parameters`."""

from dataclasses import dataclass
from typing import cast

from ossature.config.values import Bounds, check_flag, check_number, shown
from ossature.errors import ConfigError

__all__ = ["SCALING_BOUNDS", "THETA", "RopeScaling", "read_rope", "write_rope"]

THETA: Bounds = (1.0, 1e12)

SCALING_BOUNDS: dict[str, Bounds] = {
    "factor": (1.0, 1e6),
    "original_max_position_embeddings": (1, 1 << 30),
    "beta_fast": (1e-6, 1e6),
    "beta_slow": (1e-6, 1e6),
}


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """YaRN: context stretched by `factor` from `original_max_position_embeddings` positions. Raises ConfigError.

    beta_fast, beta_slow   rotations within the original context from which a pair of dimensions is kept as it is, and
                           below which it is wholly interpolated
    truncate               round the two limits to whole dimensions (gpt-oss: False)
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float
    truncate: bool

    def __post_init__(self) -> None:
        for field, bounds in SCALING_BOUNDS.items():
            check_number(getattr(self, field), bounds, f"rope_scaling.{field}")
        check_flag(self.truncate, "rope_scaling.truncate")
        if self.beta_fast <= self.beta_slow:
            raise ConfigError(
                f"rope_scaling.beta_fast ({self.beta_fast}) must be greater than beta_slow ({self.beta_slow})."
            )


def read_rope(key: str, value: object) -> dict[str, object]:
    """The fields `rope_scaling` (None: plain RoPE) and, where the object has it, `rope_theta`. Raises ConfigError.

    Nothing has a default: transformers and other readers disagree about what an absent `truncate` or a null object
    means.
    """
    if not isinstance(value, dict):
        raise ConfigError(f'{key} must be an object, not {shown(value)}. Plain RoPE is {{"rope_type": "default"}}.')
    raw = {name: item for name, item in cast("dict[str, object]", value).items() if item is not None}
    fields: dict[str, object] = {"rope_scaling": None}
    if "rope_theta" in raw:
        fields["rope_theta"] = check_number(raw.pop("rope_theta"), THETA, f"{key}.rope_theta")
    kinds = [raw.pop(name) for name in ("rope_type", "type") if name in raw]
    if not kinds or any(kind != kinds[0] for kind in kinds) or kinds[0] not in ("yarn", "default"):
        raise ConfigError(f"{key}.rope_type must be 'yarn' or 'default', not {shown(kinds[0]) if kinds else 'absent'}.")
    wanted = RopeScaling.__slots__ if kinds[0] == "yarn" else ()
    if extra := sorted(raw.keys() - set(wanted)):
        raise ConfigError(f"{key}.{extra[0][:60]} is not part of gpt-oss and could change the rotation; remove it.")
    if missing := [name for name in wanted if name not in raw]:
        raise ConfigError(f"{key}.{missing[0]}: missing.")
    if wanted:
        numbers = {name: check_number(raw[name], bounds, f"{key}.{name}") for name, bounds in SCALING_BOUNDS.items()}
        truncate = check_flag(raw["truncate"], f"{key}.truncate")
        fields["rope_scaling"] = RopeScaling(**numbers, truncate=truncate)  # pyright: ignore[reportArgumentType]
    return fields


def write_rope(scaling: RopeScaling | None) -> dict[str, object]:
    """The object that `read_rope` reads."""
    if scaling is None:
        return {"rope_type": "default"}
    return {"rope_type": "yarn", **{field: getattr(scaling, field) for field in RopeScaling.__slots__}}
