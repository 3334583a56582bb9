"""How answers are drawn when the caller does not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ossature.config.values import TOKEN_ID, Bounds, check_flag, check_number, check_token_ids, shown
from ossature.errors import ConfigError, notice

__all__ = ["GenerationConfig"]

_BOUNDS: dict[str, Bounds] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "bos_token_id": TOKEN_ID,
    "pad_token_id": TOKEN_ID,
}
_WITHOUT_EFFECT = frozenset(("_from_model_config", "transformers_version", "use_cache"))
_MOST_UNKNOWN_KEYS = 64  # transformers knows some 70, and writes those that are set


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The keys of `generation_config.json` that apply here; without one, plain sampling. Raises ConfigError."""

    do_sample: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    eos_token_id: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        check_flag(self.do_sample, "do_sample")
        check_token_ids(list(self.eos_token_id), "eos_token_id")
        for field, bounds in _BOUNDS.items():
            if (value := getattr(self, field)) is not None:
                check_number(value, bounds, field)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Self:
        """Read a parsed `generation_config.json`; a key that is set and has no effect here is reported in one line."""
        fields: dict[str, object] = {}
        without_effect: list[str] = []
        for key, value in raw.items():
            if value is None or key in _WITHOUT_EFFECT:
                continue
            if key == "do_sample":
                fields[key] = check_flag(value, key)
            elif key == "eos_token_id":
                fields[key] = check_token_ids(value, key)
            elif key in _BOUNDS:
                fields[key] = check_number(value, _BOUNDS[key], key)
            else:
                without_effect.append(key)
        if len(without_effect) > _MOST_UNKNOWN_KEYS:
            raise ConfigError(f"{len(without_effect)} unknown keys, {shown(without_effect[0])} the first.")
        for key in without_effect:
            notice(f"generation_config.json: {key[:100]!r} has no effect here")
        return cls(**fields)  # pyright: ignore[reportArgumentType]  # each was checked above

    def to_dict(self) -> dict[str, object]:
        """A `generation_config.json`, from which `from_dict` gives the same values back."""
        raw: dict[str, object] = {field: getattr(self, field) for field in self.__slots__}
        raw["eos_token_id"] = list(self.eos_token_id)
        return {key: value for key, value in raw.items() if value not in (None, [])}
