from typing import final

FLOAT32: int
BFLOAT16: int
INT8: int
SCRATCH_BYTES: int

def built() -> list[str]: ...
def usable() -> list[str]: ...
def kernels(isa: str) -> Kernels: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
def read_ahead(address: int, bytes: int) -> None: ...
def read_seconds(data: int, bytes: int, threads: int) -> float: ...
def dot_products() -> list[str]: ...
def dot_rate(name: str, threads: int, seconds: float) -> float: ...

@final
class Projection:
    def __init__(self, blocks: int, scales: int, bias: int, rows: int, cols: int, bias_dtype: int) -> None: ...

@final
class StoredRows:
    def __init__(self, position: int, sequence: int, table: int, width: int, block: int, window: int) -> None: ...

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
    def linear(
        self,
        out: int,
        x: int,
        values: int,
        scales: int,
        bias: int,
        tokens: int,
        rows: int,
        cols: int,
        dtype: int,
        weight_dtype: int,
        bias_dtype: int,
        one_order: bool,
    ) -> None: ...
    def experts(
        self,
        out: int,
        neurons: int,
        expert_out: int,
        x: int,
        index: int,
        share: int,
        gate_up: Projection,
        down: Projection,
        tokens: int,
        chosen: int,
        experts: int,
        alpha: float,
        limit: float,
        dtype: int,
        one_order: bool,
        int8: bool,
    ) -> None: ...
    def attention(
        self,
        out: int,
        q: int,
        k: int,
        v: int,
        sinks: int,
        rows: StoredRows,
        tokens: int,
        heads: int,
        kv_heads: int,
        dim: int,
        scale: float,
        dtype: int,
        sinks_dtype: int,
    ) -> None: ...
    def rope(self, out: int, x: int, cos: int, sin: int, tokens: int, heads: int, dim: int, dtype: int) -> None: ...
    def embed(self, out: int, ids: int, weight: int, tokens: int, cols: int, dtype: int, weight_dtype: int) -> None: ...
