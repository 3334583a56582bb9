from typing import final

FLOAT32: int
BFLOAT16: int

def built() -> list[str]: ...
def usable() -> list[str]: ...
def kernels(isa: str) -> Kernels: ...
def read_seconds(data: int, bytes: int, threads: int) -> float: ...
def dot_products() -> list[str]: ...
def dot_rate(name: str, threads: int, seconds: float) -> float: ...

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
