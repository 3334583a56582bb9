"""The settings of llama.cpp, and the search for the best of them, one figure at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, get_args

from bench.peer.process import SampleError

__all__ = ["Memory", "Search", "Settings"]

Memory = Literal["mapped", "allocated", "huge pages"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How llama.cpp is run.

    ubatch  tokens computed at once, at most
    repack  weights copied into the layouts of its tiled products at load (AMX included)
    memory  of weights: the file mapped, memory of its own, or that in huge pages (glibc.malloc.hugetlb)
    """

    threads: int
    ubatch: int = 512
    flash_attention: bool = False
    repack: bool = False
    memory: Memory = "mapped"

    @property
    def environment(self) -> dict[str, str]:
        """Of the process: the C library asks for huge pages where a block of memory is large."""
        return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if self.memory == "huge pages" else {}

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        return cls(**raw)

    def neighbours(self) -> Iterator["Settings"]:
        """Settings with one value changed, in the order in which they are tried."""
        for memory in get_args(Memory):
            yield replace(self, memory=memory)
        yield replace(self, repack=not self.repack)
        yield replace(self, flash_attention=not self.flash_attention)
        for ubatch in (128, 512):
            yield replace(self, ubatch=ubatch)
        for threads in (max(1, self.threads - 1), self.threads):
            yield replace(self, threads=threads)


@dataclass
class Search:
    """Which settings are best for each figure, and all that was tried.

    tried  settings with the figures they gave, or the error they ended with
    """

    best: dict[str, Settings] = field(default_factory=dict[str, Settings])
    tried: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def run(self, start: Settings, measure: Callable[[Settings], Mapping[str, float]]) -> None:
        """Try `start`, then one changed value after the other, keeping for each figure what was faster.

        Raises SampleError when `start` itself fails.
        """
        values = self._try(start, measure)
        if values is None:
            raise SampleError(f"llama.cpp does not run with {start}: {self.tried[-1]['error']}")
        fastest = dict(values)
        self.best = dict.fromkeys(values, start)
        for number in range(len(list(start.neighbours()))):
            for settings in self._new(list(s.neighbours())[number] for s in self.best.values()):
                for figure, value in (self._try(settings, measure) or {}).items():
                    if value > fastest[figure]:
                        fastest[figure], self.best[figure] = value, settings

    def _new(self, candidates: Iterable[Settings]) -> list[Settings]:
        seen = [Settings.from_dict(trial["settings"]) for trial in self.tried]
        return [settings for settings in dict.fromkeys(candidates) if settings not in seen]

    def _try(
        self, settings: Settings, measure: Callable[[Settings], Mapping[str, float]]
    ) -> Mapping[str, float] | None:
        try:
            values = measure(settings)
        except SampleError as error:
            self.tried.append({"settings": settings.to_dict(), "error": str(error)})
            return None
        self.tried.append({"settings": settings.to_dict(), "figures": dict(values)})
        return values
