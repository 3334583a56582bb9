from typing import final

FLOAT32: int
BFLOAT16: int

def built() -> list[str]: ...
def usable() -> list[str]: ...
def kernels(isa: str) -> Kernels: ...

@final
class Kernels:
    def rmsnorm(
        self,
        out: int,
        x: int,
        weight: int,
        rows: int,
        cols: int,
        eps: float,
        dtype: int,
        weight_dtype: int,
    ) -> None: ...
