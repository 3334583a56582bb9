"""llama.cpp as a side, through the C functions that llama-cpp-python binds; bench/peers.py starts its samples."""

import ctypes
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peer.process import peak_bytes
from bench.peer.settings import Settings
from bench.peer.work import Work, measure

__all__ = ["LlamaCpp"]

llama_cpp: Any = import_module("llama_cpp")  # untyped: a type checker need not have it installed

POSITIONS = 1024  # of one sequence; of several, a quarter each
ERROR = 4  # the level of a message of its log
FLOAT32, FLOAT16 = 0, 1  # ggml's numbers of these types; the second is its default for keys and values


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == ERROR:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


class LlamaCpp:
    """A GGUF file, loaded. Raises RuntimeError where llama.cpp refuses."""

    def __init__(self, gguf: Path, settings: Settings, *, keys: int = FLOAT16) -> None:
        """`keys`: ggml's number of the type of cached keys and values."""
        llama_cpp.llama_log_set(_log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        mapped = settings.memory == "mapped"
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP if mapped else llama_cpp.LLAMA_LOAD_MODE_NONE
        params.use_extra_bufts = settings.repack
        self.settings, self.keys = settings, keys
        self.model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), params)
        if self.model is None:
            raise RuntimeError(f"{gguf}: llama.cpp could not load it")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.contexts: dict[int, Any] = {}
        self.batch = llama_cpp.llama_batch_init(POSITIONS, 0, 1)

    def begin(self, sequences: int) -> None:
        """Empty the cache; the context for that number of sequences is made once."""
        if sequences not in self.contexts:
            self.contexts[sequences] = self._context(sequences)
        self.context = self.contexts[sequences]
        self.lengths = [0] * sequences
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def _context(self, sequences: int) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = POSITIONS * (sequences + 3) // 4 if sequences > 1 else POSITIONS
        params.n_batch, params.n_ubatch, params.n_seq_max = POSITIONS, self.settings.ubatch, sequences
        params.n_threads = params.n_threads_batch = self.settings.threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if self.settings.flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = self.keys
        context = llama_cpp.llama_init_from_model(self.model, params)
        if context is None:
            raise RuntimeError(f"llama.cpp gave no context for {sequences} sequences with {self.settings}")
        return context

    def feed(self, ids: Sequence[Sequence[int]]) -> None:
        """One llama_decode for all sequences."""
        self._decode(ids, every_logit=False)

    def _decode(self, ids: Sequence[Sequence[int]], *, every_logit: bool) -> None:
        row = 0
        for sequence, own in enumerate(ids):
            for id_ in own:
                self.batch.token[row], self.batch.pos[row] = id_, self.lengths[sequence]
                self.batch.n_seq_id[row], self.batch.seq_id[row][0] = 1, sequence
                self.batch.logits[row] = every_logit
                self.lengths[sequence] += 1
                row += 1
            self.batch.logits[row - 1] = True
        self.batch.n_tokens = row
        if (fault := llama_cpp.llama_decode(self.context, self.batch)) != 0:
            raise RuntimeError(f"llama_decode returned {fault} for {row} tokens of {len(ids)} sequences")
        llama_cpp.llama_synchronize(self.context)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(tokens, vocab_size): after each of the ids."""
        self.begin(1)
        self._decode([ids], every_logit=True)
        rows = [llama_cpp.llama_get_logits_ith(self.context, row) for row in range(len(ids))]
        return np.stack([np.ctypeslib.as_array(row, (self.vocab_size,)) for row in rows])


def main() -> None:
    """Load, warm up, measure, print; or save the logits of given ids, with keys and values in float32."""
    task = json.loads(sys.argv[1])
    gguf, settings = Path(task["gguf"]), Settings.from_dict(task["settings"])
    if "ids" in task:
        np.save(task["save"], LlamaCpp(gguf, settings, keys=FLOAT32).logits(task["ids"]))
        print(json.dumps({"saved": task["save"]}))
        return
    side = LlamaCpp(gguf, settings)
    figures = measure(side, Work.from_dict(task["work"]))
    system = llama_cpp.llama_print_system_info().decode().strip()
    facts = {"peak_bytes": peak_bytes(), "version": llama_cpp.__version__, "system": system}
    print(json.dumps({"figures": figures} | facts))


if __name__ == "__main__":
    main()
